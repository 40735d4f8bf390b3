"""Options that several commands share, and the types of their values."""

import argparse
from collections.abc import Callable
from pathlib import Path

from gradserve.cli import previews, server

OBJECTIVES = """\
objectives (every index is 0-based; `gradserve inspect MODEL --layers` lists the layers):
  logits:7        one unit (a logit), where the layer is [N, K]
  relu3:4         mean of channel 4, where the layer has spatial axes
  relu3:4@5,6     one neuron: channel 4 at y=5, x=6
  relu3:4^2       sum of the squares of channel 4
  relu3           mean of the squares of the whole layer (DeepDream)
  diversity(relu3), alignment(relu3)      how alike the images of one ascent are; minus how far neighbours differ
  channel_interpolate(relu3:4, relu3:7)   from one channel for the first image of an ascent to another for the last
Sums, with blanks around their signs, scale what they add, and may have penalties on the image itself:
  'logits:7 - 0.001 * total_variation()'  also l1(), l2(), boundary_complexity(), blur_input_each_step()
  'logits:7 - 0..0.01 * l1()'             a scale that changes from the first step to the last
"""

PICTURES = """\
pictures: --image files are cropped around their centre and resized to the model's size, then brought to the range, channel
order and normalization that the model's file or config.pbtxt, or --describe, says.
"""


def add_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[argparse.Namespace], int | None],
    *,
    purpose: str,
    epilog: str,
    required: str = "",
    needs_model: bool = True,
) -> argparse.ArgumentParser:
    """A parser whose namespace knows what to run, and which model."""
    parser = commands.add_parser(
        name,
        usage=f"gradserve {name} MODEL {required}[options]",  # MODEL first: an option with several values would take it
        help=purpose,
        description=f"{purpose[0].upper()}{purpose[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "model",
        nargs=None if needs_model else "?",
        metavar="MODEL",
        help="an .onnx file or a model's folder (models/digits), run in this process; otherwise a name on the server",
    )
    parser.add_argument("--model-version", default="", metavar="N", help="version of the model (default: the latest it has)")
    server.add_options(parser)
    return parser


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")


def add_preview(add: Callable[..., argparse.Action], what: str) -> None:
    """`--preview`."""
    add(
        "--preview",
        nargs="?",
        const=previews.AUTO,
        default="",
        choices=(previews.AUTO, *previews.DRAWERS),
        help=f"draw {what} in the terminal while it changes: as pictures, where it is known to show them by one of these "
        "protocols, else as half blocks; a name says how",
    )


def add_describe(parser: argparse.ArgumentParser) -> None:
    """`--describe`; `backend.open_model` uses it."""
    parser.add_argument(
        "--describe",
        nargs="+",
        action="extend",
        default=[],
        type=_described,
        metavar="INPUT.KEY=VALUE",
        help="how pixels become an input of a model in this process, whatever its file and config.pbtxt say, as in "
        "image.preprocessing=caffe (or tf, torch) or image.range='0 255'; other keys: layout, channels, mean, std",
    )


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """`--image` and `--input`; `inputs.read` uses them."""
    group = parser.add_argument_group("inputs")
    group.add_argument(
        "--image",
        nargs="+",
        action="extend",
        default=[],
        type=Path,
        metavar="FILE",
        help="pictures for the model's image input; several make a batch",
    )
    group.add_argument(
        "--input",
        nargs="+",
        action="extend",
        default=[],
        type=named_file,
        metavar="NAME=FILE.npy",
        help="an array for the input NAME, with its batch axis, as the model takes it (normalized)",
    )


def output_file(*suffixes: str) -> Callable[[str], Path]:
    """The type of a file to write: its ending says the format, if there are several, and its folder exists."""

    def parse(text: str) -> Path:
        path = Path(text)
        if suffixes and path.suffix.lower() not in suffixes:
            msg = f"expected a file name that ends in {', '.join(suffixes)}, got {text!r}"
            raise argparse.ArgumentTypeError(msg)
        if not path.parent.is_dir():
            msg = f"expected a file in a folder that exists, got {text!r}"
            raise argparse.ArgumentTypeError(msg)
        return path

    return parse


def whole(low: int = 0) -> Callable[[str], int]:
    """The type of a whole number."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < low:
            msg = f"expected a whole number of {low} or more, got {text!r}"
            raise argparse.ArgumentTypeError(msg)
        return int(text)

    return parse


def _described(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not (separator and "." in key):
        msg = f"expected INPUT.KEY=VALUE, as in image.range='0 255', got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return key, value


def named_file(text: str) -> tuple[str, Path]:
    """The type of NAME=FILE."""
    name, separator, file = text.partition("=")
    if not (name and separator and file):
        msg = f"expected NAME=FILE.npy, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return name, Path(file)
