"""`gradserve grid`: what each channel of each layer asks for, as one picture, layer by layer."""

import argparse
import re
from collections.abc import Callable, Sequence

from gradserve import Layer, ModelDescription, Objective, objectives, outputs
from gradserve.cli import ascent_options, ascent_settings, climbing, options
from gradserve.cli.backend import open_model
from gradserve.errors import InvalidObjective, UnknownLayer
from gradserve.runs import Run, label_of

_EPILOG = """\
Every channel is an ascent of its own. As many as --jobs run at a time; those on one layer run as one batch on the server. A
layer with fewer channels has a shorter line; a channel whose gradient is 0 from its first step to its last is called dead.

examples:
  gradserve grid models/digits -o grid.png
  gradserve grid models/digits --op Relu --channels 0-3 8 --preset lucid -o grid.png
  gradserve grid vgg16 --server localhost:8001 --objective-kind channel_energy --steps 300 --jobs 10 -o grid.png
  gradserve grid models/digits --layers relu1 relu5 --steps 1000 -o grid.png --checkpoint grid.ckpt
  gradserve grid models/digits --layers relu1 relu5 --steps 1000 -o grid.png --resume grid.ckpt
"""

_KINDS: dict[str, tuple[Callable[[str, int], Objective], str]] = {
    "channel": (objectives.channel, "{layer}:{channel}"),
    "channel_energy": (objectives.channel_energy, "{layer}:{channel}^2"),
    "neuron": (objectives.neuron, "{layer}:{channel}@centre"),
}
"""Objectives of one channel, and what they are called."""
_REPORTS = 20
"""Of each ascent, unless --report-every says otherwise: between two, ascents step as batches without waiting for us."""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = options.add_command(
        commands,
        "grid",
        _run,
        purpose="draw what the channels of several layers ask for, as one picture",
        epilog=_EPILOG,
        required="-o FILE ... ",
    )
    option = parser.add_argument
    option("--layers", nargs="+", metavar="LAYER", help="which layers, in that order (default: all that --op makes)")
    option("--op", default="Conv", metavar="OPERATOR", help="the operator whose layers are drawn (default: %(default)s)")
    option(
        "--channels",
        nargs="+",
        type=_channels,
        default=[range(10)],
        metavar="N",
        help="which channels of each layer, as in 0-9 or 3 5 12-15 (default: 0-9)",
    )
    option(
        "--objective-kind",
        choices=_KINDS,
        default="channel",
        help="what of a channel becomes large: its mean, the sum of its squares, or its middle (default: %(default)s)",
    )
    ascent_options.add_output(parser)
    option("--record", type=options.output_file(".json"), metavar="FILE.json", help="write settings and values there")
    ascent_options.add(parser)


def _run(arguments: argparse.Namespace) -> None:
    with open_model(arguments) as (verbs, name):
        version = arguments.model_version
        description = verbs.inspect(name, version=version)
        tensor = description.changing_input(arguments.wrt)
        for path in arguments.output:
            outputs.check(path, tensor)
        settings = ascent_settings.read(arguments, description, tensor)
        settings.setdefault("report_every", max(1, arguments.steps // _REPORTS))
        layers = _layers(verbs.layers(name, version=version), arguments.layers, arguments.op, description)
        make, words = _KINDS[arguments.objective_kind]
        runs = []
        for layer in layers:
            for channel in _of(layer, arguments.channels):
                objective = make(layer.name, channel)
                title = words.format(layer=layer.name, channel=channel)
                label = label_of(objective, description)
                runs.append(Run(title, objective, tensor, settings.copy(), label, line=layer.name))
        climbing.frames(runs, arguments)
        climbing.climb(verbs, name, runs, arguments)
    climbing.deliver(runs, description, arguments)


def _layers(known: Sequence[Layer], named: Sequence[str] | None, op: str, description: ModelDescription) -> list[Layer]:
    """Those that are meant.

    Raises:
        UnknownLayer: There is none.
    """
    by_name = {layer.name: layer for layer in known}
    for name in named or ():
        if name not in by_name:
            msg = f"layer '{name}': expected one of {', '.join(map(repr, by_name))}"
            raise UnknownLayer(msg)
    found = [by_name[name] for name in named] if named else [layer for layer in known if layer.op == op and layer.shape[1:]]
    if not found:
        ops = ", ".join(dict.fromkeys(layer.op for layer in known))
        msg = f"model '{description.name}': --op: expected an operator that makes layers, one of {ops}, got {op}"
        raise UnknownLayer(msg)
    return found


def _of(layer: Layer, asked: Sequence[range]) -> list[int]:
    """The channels of a layer that are asked for and exist.

    Raises:
        InvalidObjective: None is.
    """
    size = layer.shape[1] if len(layer.shape) > 1 else 1
    channels = [channel for some in asked for channel in some if not isinstance(size, int) or channel < size]
    if not channels:
        msg = f"layer '{layer.name}': --channels: expected some below {size}, got none"
        raise InvalidObjective(msg)
    return list(dict.fromkeys(channels))


def _channels(text: str) -> range:
    """The type of `--channels`."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if match is None or int(match[2] or match[1]) < int(match[1]):
        msg = f"expected a channel or a range of them, as in 3 or 0-9, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return range(int(match[1]), int(match[2] or match[1]) + 1)
