"""`gradserve ascend`: the picture that an objective asks for."""

import argparse

from gradserve import ModelDescription, TensorDescription, outputs, records
from gradserve.cli import ascent_options, ascent_settings, climbing, console, options, targets
from gradserve.cli.backend import Verbs, open_model
from gradserve.errors import InvalidAscent
from gradserve.runs import Run, label_of

_EPILOG = f"""\
{options.OBJECTIVES}
A single picture is written as it is; several are laid out on one contact sheet. Pixels are those of the model's described
range, never stretched; where the model describes none, each picture is, and a line on standard error says so.

examples:
  gradserve ascend models/digits --objective logits:7 -o seven.png
  gradserve ascend models/digits --objective logits:7 --preset lucid --steps 512 -o robust.png robust.gif robust.svg
  gradserve ascend models/digits --objective logits:7 --record seven.json -o seven.png
  gradserve ascend --from-record seven.json -o again.png
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
        required="--objective LAYER[:INDEX] ... -o FILE ... ",
        needs_model=False,
    )
    ascent_options.add_objectives(parser)
    ascent_options.add_output(parser)
    ascent_options.add(parser)


def _run(arguments: argparse.Namespace) -> None:
    ascent_options.check_record(arguments)
    record = records.read(arguments.from_record) if arguments.from_record else None
    arguments.model = arguments.model or (record and record.model["source"])
    with open_model(arguments) as (verbs, name):
        version = record.model["version"] if record else arguments.model_version
        description = verbs.inspect(name, version=version)
        tensor = description.changing_input(record.model["input"] if record else arguments.wrt)
        for path in arguments.output:
            outputs.check(path, tensor)
        if record is None:
            runs = _asked(verbs, name, arguments, description, tensor)
        else:
            runs = (record if arguments.any_model else record.check(description)).runs(tensor)
        climbing.frames(runs, arguments)
        climbing.climb(verbs, name, runs, arguments)
    climbing.deliver(runs, description, arguments)
    if record is not None:
        _compare(record, runs, any_model=arguments.any_model)


def _asked(
    verbs: Verbs, name: str, arguments: argparse.Namespace, description: ModelDescription, tensor: TensorDescription
) -> list[Run]:
    """A run for each objective."""
    settings = ascent_settings.read(arguments, description, tensor)
    parsed = targets.parse(verbs, name, arguments.model_version, arguments.objective)
    return [
        Run(text, objective, tensor, settings.copy(), label_of(objective, description))
        for text, objective in zip(arguments.objective, parsed, strict=True)
    ]


def _compare(record: records.Record, runs: list[Run], *, any_model: bool) -> None:
    """Says whether the images are the recorded ones.

    Raises:
        InvalidAscent: They are not, although the model is.
    """
    different = ", ".join(record.differences(runs))
    if different and not any_model:
        msg = f"{different}: expected the images of the record, got others"
        raise InvalidAscent(msg)
    console.note(f"{different}: other images than recorded" if different else "the same bytes as recorded")
