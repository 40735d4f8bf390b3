"""`gradserve invert` and `gradserve caricature`: ascents towards what a layer has of a photograph."""

import argparse
from collections.abc import Callable
from pathlib import Path

from gradserve import images
from gradserve.cli import ascent_options, ascent_settings, climbing, options
from gradserve.cli.backend import open_model
from gradserve.recipes import caricature, inversion
from gradserve.runs import Run

_EPILOG = """\
Several layers: one ascent each, side by side. --record keeps the target, so --from-record of `ascend` needs no photograph.

examples:
  gradserve {name} models/digits --layers relu2 relu5 --image seven.png --steps 512 -o {name}.png
  gradserve {name} vgg16 --server localhost:8001 --layers relu4_3 --image dog.jpg {option} -o {name}.png
"""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds both commands."""
    parser = _add(
        commands, "invert", inversion, "draw what layers have kept of a photograph: an image with the same activations"
    )
    parser.add_argument(
        "--total-variation",
        type=float,
        default=0.0,
        metavar="WEIGHT",
        help="weight of the total variation that is subtracted (default: %(default)s)",
    )
    parser.set_defaults(extra="total_variation")
    parser = _add(commands, "caricature", caricature, "draw what layers see in a photograph, exaggerated")
    parser.add_argument(
        "--cosine-power",
        type=float,
        default=0.0,
        metavar="P",
        help="above 0 the direction of the activations counts more (default: %(default)s)",
    )
    parser.set_defaults(extra="cosine_power")


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, recipe: Callable[..., Run], purpose: str
) -> argparse.ArgumentParser:
    option = "--total-variation 1e-6" if recipe is inversion else "--cosine-power 2"
    parser = options.add_command(
        commands,
        name,
        _run,
        purpose=purpose,
        epilog=_EPILOG.format(name=name, option=option),
        required="--layers LAYER ... --image FILE -o FILE ... ",
    )
    parser.add_argument("--layers", required=True, nargs="+", metavar="LAYER", help="which layers")
    parser.add_argument("--image", required=True, type=Path, metavar="FILE", help="the photograph")
    ascent_options.add_output(parser)
    parser.add_argument(
        "--record", type=options.output_file(".json"), metavar="FILE.json", help="write settings, targets and values there"
    )
    ascent_options.add(parser)
    # Mahendran & Vedaldi change pixels; Lucid's caricatures have spectra.
    parser.set_defaults(recipe=recipe, parameterization="pixels" if recipe is inversion else "fourier")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    with open_model(arguments) as (verbs, name):
        version = arguments.model_version
        description = verbs.inspect(name, version=version)
        tensor, image = ascent_settings.photographed(arguments, description)
        size = images.picture_size(tensor) or ascent_settings.given_size(arguments, tensor)
        pixels = images.load(arguments.image, image, size)
        settings = ascent_settings.read(arguments, description, tensor)
        if images.picture_size(tensor) is None:
            settings["shape"] = pixels.shape
        extra = {arguments.extra: getattr(arguments, arguments.extra)}
        runs = [
            arguments.recipe(verbs, name, layer, pixels, tensor, settings=settings, **extra) for layer in arguments.layers
        ]
        climbing.frames(runs, arguments)
        climbing.climb(verbs, name, runs, arguments)
    climbing.deliver(runs, description, arguments)
