"""`gradserve dream`: more of what a network sees in a photograph."""

import argparse
from pathlib import Path

from PIL import Image, ImageOps

from gradserve import AscentSettings, images
from gradserve.cli import ascent_options, ascent_settings, climbing, inputs, options, targets
from gradserve.cli.backend import open_model
from gradserve.recipes import Dream, deepdream
from gradserve.recipes.deepdream import size_settings
from gradserve.runs import Run

_EPILOG = f"""\
{options.OBJECTIVES}
The photograph is dreamt at several sizes, the smallest first, and what was found is carried on to the next; defaults are
those of google/deepdream. A model whose input has a fixed size sees each of them resized to it.

examples:
  gradserve dream googlenet --server localhost:8001 --objective inception_4c/output --image sky.jpg -o dream.png
  gradserve dream models/vgg16 --objective relu4_3 --image sky.jpg --size 512 -o dream.jpg dream.mp4
  gradserve dream models/digits --objective relu5 --image digit.png --octaves 2 --jitter 2 -o dream.png
"""
_DEFAULTS = Dream()


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = options.add_command(
        commands,
        "dream",
        _run,
        purpose="make more of what a network sees in a photograph (DeepDream)",
        epilog=_EPILOG,
        required="--objective LAYER[:INDEX] --image FILE -o FILE ... ",
    )
    option = parser.add_argument
    option(
        "--objective", required=True, metavar="LAYER[:INDEX]", help="what becomes large: a layer (its mean square), or below"
    )
    option("--image", required=True, type=Path, metavar="FILE", help="the photograph")
    option("--size", type=options.whole(2), metavar="PIXELS", help="its longer side (default: as it is)")
    ascent_options.add_output(parser)
    options.add_json(parser)
    options.add_describe(parser)
    option = parser.add_argument_group("dreaming").add_argument
    option("--octaves", type=options.whole(1), default=_DEFAULTS.octaves, metavar="N", help="sizes (default: %(default)s)")
    option("--scale", type=float, default=_DEFAULTS.scale, metavar="X", help="from size to size (default: %(default)s)")
    option(
        "--steps", type=options.whole(1), default=_DEFAULTS.steps, metavar="N", help="at each size (default: %(default)s)"
    )
    option(
        "--step",
        type=float,
        default=_DEFAULTS.step,
        metavar="LEVELS",
        help="what a pixel moves on average, in 255ths of the range (default: %(default)s)",
    )
    option(
        "--jitter",
        type=options.whole(),
        default=_DEFAULTS.jitter,
        metavar="PIXELS",
        help="largest random shift each way, undone after each step (default: %(default)s)",
    )
    option("--seed", type=options.whole(), default=0, metavar="N", help="same seed, same bytes (default: %(default)s)")
    option("--wrt", default="", metavar="NAME", help="the input to change (default: the only float input)")
    option(
        "--input",
        nargs="+",
        action="extend",
        default=[],
        type=options.named_file,
        metavar="NAME=FILE.npy",
        help="an array for every other input of the model",
    )
    option("--image-every", type=options.whole(1), metavar="STEPS", help="also draw the image every so many steps")
    options.add_preview(option, "the dream")
    parser.set_defaults(zoom=1)


def _run(arguments: argparse.Namespace) -> None:
    with open_model(arguments) as (verbs, name):
        version = arguments.model_version
        description = verbs.inspect(name, version=version)
        tensor, image = ascent_settings.photographed(arguments, description)
        pixels = images.load(arguments.image, image, _size(arguments.image, arguments.size))
        (objective,) = targets.parse(verbs, name, version, [arguments.objective])
        dream = Dream(arguments.octaves, arguments.scale, arguments.steps, arguments.step, arguments.jitter, arguments.seed)
        run = Run(arguments.objective, objective, tensor)
        run.settings = {"steps": dream.octaves * dream.steps}
        climbing.frames([run], arguments)
        others = AscentSettings(version=version, inputs=inputs.read(description, [], arguments.input).arrays)
        every = run.settings.get("image_every", 0)
        climbing.watch(
            verbs,
            [run],
            lambda run: deepdream(verbs, name, run.objective, pixels, tensor, dream=dream, settings=others, every=every),
            preview=arguments.preview,
        )
        run.settings |= {**others, **size_settings(tensor, pixels.shape)}
        climbing.measure(verbs, name, [run], arguments)
    climbing.deliver([run], description, arguments)


def _size(path: Path, longer: int | None) -> tuple[int, int] | None:
    """Height and width of the photograph with that longer side."""
    if longer is None:
        return None
    with Image.open(path) as opened:
        width, height = ImageOps.exif_transpose(opened).size
    return max(1, round(height * longer / max(width, height))), max(1, round(width * longer / max(width, height)))
