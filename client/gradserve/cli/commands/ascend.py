"""`gradserve ascend`: the picture that an objective asks for."""

import argparse

from gradserve import StopReason, TensorDescription, images
from gradserve.cli import (
    ascent_options,
    ascent_settings,
    ascent_view,
    ascents,
    checkpoint_file,
    console,
    going_on,
    options,
    targets,
)
from gradserve.cli.ascents import Ascent
from gradserve.cli.backend import open_model
from gradserve.errors import InvalidTensor, ServerUnavailable

_EPILOG = f"""\
{options.OBJECTIVES}
A single picture is written as it is; several are laid out on one contact sheet. Pixels are those of the model's described
range, never stretched; where the model describes none, each picture is, and a line on standard error says so.

examples:
  gradserve ascend models/digits --objective logits:7 -o seven.png
  gradserve ascend models/digits --objective logits:7 --preset lucid --steps 512 -o robust.png
  gradserve ascend models/digits --objective logits:{{0..9}} --count 2 --jitter 2 -o digits.png
  gradserve ascend models/digits --objective relu5:4 --steps 100000 -o long.png --checkpoint long.ckpt
  gradserve ascend models/digits --objective relu5:4 --steps 100000 -o long.png --resume long.ckpt
  gradserve ascend vgg19 --server localhost:8001 --objective relu5_4:4 --steps 100 --optimizer sgd --learning-rate 0.1 \\
      --gradient-normalization std -o channel.png
"""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = options.add_command(
        commands,
        "ascend",
        _run,
        purpose="change an image step by step so that an objective grows",
        epilog=_EPILOG,
        required="--objective LAYER[:INDEX] ... -o FILE ",
    )
    option = parser.add_argument
    option(
        "--objective",
        required=True,
        nargs="+",
        action="extend",
        metavar="LAYER[:INDEX]",
        help="what to make large; see below. Several: one ascent each, side by side",
    )
    option(
        "-o",
        "--output",
        required=True,
        type=options.output_file(".png", ".npy"),
        metavar="FILE",
        help="where to write: .png, or .npy with the last pixels [images, ...]",
    )
    options.add_json(parser)
    ascent_options.add_start(parser)
    ascent_options.add_steps(parser)
    ascent_options.add_reports(parser)
    ascent_options.add_checkpoints(parser)


# ---- running ---------------------------------------------------------------------------------------------------------


def _run(arguments: argparse.Namespace) -> None:
    with open_model(arguments) as (verbs, name):
        version = arguments.model_version
        description = verbs.inspect(name, version=version)
        tensor = ascent_settings.changing_input(description, arguments.wrt)
        if arguments.output.suffix.lower() == ".png":
            _check_picture(tensor)
        known = checkpoint_file.read(arguments.resume) if arguments.resume else {}
        keeper = checkpoint_file.Keeper(arguments.checkpoint or arguments.resume, known)
        settings = ascent_settings.read(arguments, description, tensor)
        parsed = targets.parse(verbs, name, version, arguments.objective)
        asked = [Ascent(text, objective) for text, objective in zip(arguments.objective, parsed, strict=True)]
        with ascent_view.Bars(asked, arguments.steps) as bars:

            def watch(ascent: Ascent) -> None:
                assert ascent.last is not None
                bars.update(ascent)
                keeper.take(ascent.name, ascent.last.checkpoint)

            try:
                ascents.run(
                    asked,
                    lambda ascent: going_on.steps(
                        lambda resume: verbs.ascend(name, ascent.objective, **(settings | {"resume": resume})),
                        known.get(ascent.name),
                        patience=arguments.reconnect,
                    ),
                    jobs=arguments.jobs,
                    watch=watch,
                    cancel=verbs.close,
                )
            except BaseException:
                _say_how_to_go_on(keeper)
                raise
    ascent_view.write(arguments.output, asked, tensor, arguments.zoom)
    ascent_view.show(asked, description, as_json=arguments.json)
    console.note(f"wrote {arguments.output}")
    if any(ascent.last and ascent.last.stop_reason is StopReason.INTERRUPTED for ascent in asked):
        keeper.path = keeper.path or arguments.output.with_suffix(".checkpoint")
        _say_how_to_go_on(keeper)
        msg = "the server shut down before all steps were made"
        raise ServerUnavailable(msg)
    keeper.write()


def _say_how_to_go_on(keeper: checkpoint_file.Keeper) -> None:
    keeper.write()
    if keeper.path is not None and not keeper.is_empty:
        console.note(f"to go on, give the same command with --resume {keeper.path}")


def _check_picture(tensor: TensorDescription) -> None:
    open_channels = not isinstance(tensor.shape[-1 if tensor.image and tensor.image.layout == "NHWC" else 1], int)
    if len(tensor.shape) != 4 or not (open_channels or images.is_picture(tensor.shape[1:], tensor.image)):
        msg = f"-o: input '{tensor.name}' {console.shape(tensor.shape)} is no picture of 1 or 3 channels; write .npy"
        raise InvalidTensor(msg)
