"""`gradserve ascend`: the picture that an objective asks for."""

import argparse
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from gradserve import (
    Adam,
    AdamW,
    AscentSettings,
    GradientNormalization,
    ModelDescription,
    Momentum,
    NAdam,
    Noise,
    RmsProp,
    Sgd,
    StopReason,
    TensorDescription,
    images,
    presets,
)
from gradserve.cli import ascent_view, ascents, checkpoint_file, console, going_on, inputs, options, targets
from gradserve.cli.ascents import Ascent
from gradserve.cli.backend import open_model
from gradserve.errors import InvalidTensor, ServerUnavailable
from gradserve.parameterizations import IMAGENET_COLOURS, Fourier, Laplacian, Pixels

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
_STEPS = 256
_OPTIMIZERS = {
    "adam": Adam,
    "adamw": AdamW,
    "momentum": Momentum,
    "nadam": NAdam,
    "rmsprop": RmsProp,
    "sgd": Sgd,
}
_PARAMETERIZATIONS = {"pixels": Pixels, "fourier": Fourier, "laplacian": Laplacian}
_IMAGE_RANK = 4
_PLAIN = ("steps", "seed", "count", "weight_decay", "jitter", "shape", "report_every", "image_every")
"""Options that are settings of the same name."""


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
    _add_start(parser)
    _add_steps(parser)
    _add_reports(parser)
    _add_checkpoints(parser)


def _add_start(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument_group("start").add_argument
    option(
        "--start",
        type=_start,
        default="noise",
        metavar="START",
        help="noise, zeros, constant:VALUE (a pixel value), or a picture file (default: %(default)s)",
    )
    option(
        "--noise",
        type=float,
        default=Noise().standard_deviation,
        metavar="SHARE",
        help="standard deviation of the noise, as a share of the range's width (default: %(default)s)",
    )
    option("--seed", type=options.whole(), default=0, metavar="N", help="same seed, same bytes (default: %(default)s)")
    option("--count", type=options.whole(1), default=1, metavar="N", help="images for each objective (default: %(default)s)")
    option(
        "--shape",
        nargs="+",
        type=options.whole(1),
        metavar="SIZE",
        help="size of one image, as in 3 224 224, where the model leaves it open",
    )
    option("--wrt", metavar="NAME", help="the input to change (default: the only float input)")
    option(
        "--input",
        nargs="+",
        action="extend",
        default=[],
        type=options.named_file,
        metavar="NAME=FILE.npy",
        help="an array for every other input of the model",
    )


def _add_steps(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument_group("steps").add_argument
    option("--steps", type=options.whole(1), default=_STEPS, metavar="N", help="updates to make (default: %(default)s)")
    option(
        "--preset",
        choices=("lucid",),
        help="parameterization, transforms, optimizer and start of Lucid's feature visualization (it made 512 steps)",
    )
    option(
        "--parameterization",
        choices=_PARAMETERIZATIONS,
        default="pixels",
        help="what changes: pixels, their spectrum, or a pyramid of sizes (default: %(default)s)",
    )
    option("--optimizer", choices=_OPTIMIZERS, default="adam", help="update rule (default: %(default)s)")
    option(
        "--learning-rate",
        type=float,
        default=Adam().learning_rate,
        metavar="RATE",
        help="pixels per step: about what Adam moves, or the factor of the gradient for sgd (default: %(default)s)",
    )
    option(
        "--gradient-normalization",
        choices=[str(kind) for kind in GradientNormalization],
        default=str(GradientNormalization.NONE),
        help="what each gradient is divided by, image by image (default: %(default)s)",
    )
    option(
        "--weight-decay",
        type=float,
        metavar="SHARE",
        help="share of the distance to the described mean taken away after each step, 0 to 1 (default: 0)",
    )
    option(
        "--jitter",
        type=options.whole(),
        metavar="PIXELS",
        help="largest random shift each way, with wrap-around (default: 0)",
    )
    option(
        "--bounds",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="pixel values are kept within these (default: the described range, or none)",
    )


def _add_reports(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument_group("reports").add_argument
    option(
        "--report-every",
        type=options.whole(1),
        metavar="STEPS",
        help="steps between two updates of the progress (default: 1)",
    )
    option(
        "--image-every",
        type=options.whole(1),
        metavar="STEPS",
        help="also draw the image every so many steps: one row of the sheet for each image (default: only the last)",
    )
    option(
        "--zoom", type=options.whole(1), metavar="N", help=f"each pixel as N x N (default: up to {images.VIEW_SIZE} pixels)"
    )
    option("--jobs", type=options.whole(1), default=8, metavar="N", help="ascents at a time (default: %(default)s)")


def _add_checkpoints(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument_group("going on later").add_argument
    option(
        "--checkpoint",
        type=options.output_file(),
        metavar="FILE",
        help="keep there how far the ascents are (default: the file of --resume)",
    )
    option(
        "--checkpoint-every",
        type=options.whole(1),
        default=16,
        metavar="STEPS",
        help="steps between two checkpoints, where there is such a file (default: %(default)s)",
    )
    option(
        "--resume",
        type=Path,
        metavar="FILE",
        help="go on from what --checkpoint has kept; all other options as they were, but more --steps are welcome",
    )
    option(
        "--reconnect",
        type=options.whole(),
        default=0,
        metavar="SECONDS",
        help="where a server goes away, wait so long for one to come back, and go on (default: %(default)s)",
    )


# ---- running ---------------------------------------------------------------------------------------------------------


def _run(arguments: argparse.Namespace) -> None:
    with open_model(arguments) as (verbs, name):
        version = arguments.model_version
        description = verbs.inspect(name, version=version)
        tensor = _changing_input(description, arguments.wrt)
        if arguments.output.suffix.lower() == ".png":
            _check_picture(tensor)
        known = checkpoint_file.read(arguments.resume) if arguments.resume else {}
        keeper = checkpoint_file.Keeper(arguments.checkpoint or arguments.resume, known)
        settings = _settings(arguments, description, tensor)
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


def _settings(arguments: argparse.Namespace, description: ModelDescription, tensor: TensorDescription) -> AscentSettings:
    given = vars(arguments)
    settings: Any = {name: given[name] for name in _PLAIN if given[name] is not None}
    settings |= {
        "version": arguments.model_version,
        "input": tensor.name,
        "inputs": inputs.read(description, [], arguments.input).arrays,
        "start": _start_image(arguments, tensor),
        "optimizer": _OPTIMIZERS[arguments.optimizer](learning_rate=arguments.learning_rate),
        "gradient_normalization": arguments.gradient_normalization,
        "checkpoint_every": arguments.checkpoint_every if arguments.checkpoint or arguments.resume else 0,
    }
    if arguments.bounds:
        settings["bounds"] = tuple(arguments.bounds)
    channels, *size = _picture_shape(tensor)
    if arguments.parameterization != "pixels":
        colours = IMAGENET_COLOURS if channels == len(IMAGENET_COLOURS) else ()
        settings["parameterization"] = _PARAMETERIZATIONS[arguments.parameterization](colours=colours)
    if arguments.preset:
        height, width = _given_size(arguments, tensor) or size
        settings |= {**presets.lucid(height, width, channels), "steps": arguments.steps}
    return cast("AscentSettings", settings)


def _start(text: str) -> str | float | Path:
    """The type of `--start`: a picture's path, a constant, or "noise"."""
    kind, _, value = text.partition(":")
    if text == "noise":
        return text
    if text == "zeros":
        return 0.0
    try:
        return float(value) if kind == "constant" else Path(text).resolve(strict=True)
    except (ValueError, OSError) as error:
        msg = f"expected noise, zeros, constant:VALUE or a picture file, got {text!r}"
        raise argparse.ArgumentTypeError(msg) from error


def _start_image(arguments: argparse.Namespace, tensor: TensorDescription) -> float | Noise | npt.NDArray[np.float32]:
    match arguments.start:
        case Path() as path:
            if tensor.image is None:
                msg = f"--start: expected an input with an image description, got '{tensor.name}' without one"
                raise InvalidTensor(msg)
            return images.load(path, tensor.image, images.picture_size(tensor) or _given_size(arguments, tensor))
        case float(constant):
            return constant
        case _:
            return Noise(arguments.noise)


def _picture_shape(tensor: TensorDescription) -> tuple[int, int, int]:
    """Channels, height and width; 0 for what the model leaves open or does not have."""
    sizes = [size if isinstance(size, int) else 0 for size in tensor.shape[1:]]
    if len(sizes) != _IMAGE_RANK - 1:
        return 0, 0, 0
    first, second, third = sizes
    return (third, first, second) if tensor.image and tensor.image.layout == "NHWC" else (first, second, third)


def _given_size(arguments: argparse.Namespace, tensor: TensorDescription) -> tuple[int, int] | None:
    """The height and width in `--shape`."""
    match arguments.shape, tensor.image and tensor.image.layout:
        case [height, width, _], "NHWC":
            return height, width
        case [_, height, width], _:
            return height, width
    return None


def _changing_input(description: ModelDescription, name: str | None) -> TensorDescription:
    found = [t for t in description.inputs if (t.name == name if name else t.dtype == "float32")]
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"'{tensor.name}' {tensor.dtype}" for tensor in description.inputs)
    msg = f"--wrt: expected the name of one float32 input among {names}, got {name or 'none'}"
    raise InvalidTensor(msg)


def _check_picture(tensor: TensorDescription) -> None:
    open_channels = not isinstance(tensor.shape[-1 if tensor.image and tensor.image.layout == "NHWC" else 1], int)
    if len(tensor.shape) != _IMAGE_RANK or not (open_channels or images.is_picture(tensor.shape[1:], tensor.image)):
        msg = f"-o: input '{tensor.name}' {console.shape(tensor.shape)} is no picture of 1 or 3 channels; write .npy"
        raise InvalidTensor(msg)
