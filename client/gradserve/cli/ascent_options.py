"""The options of an ascent, group by group: what starts it, steps it, reports it. `ascent_settings.read` uses them."""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gradserve import Adam, GradientNormalization, Noise, images, outputs
from gradserve.cli import options
from gradserve.cli.ascent_settings import OPTIMIZERS, PARAMETERIZATIONS, PRESETS, PROJECTIONS
from gradserve.parameterizations import Shared
from gradserve.projections import Projection
from gradserve.regularizers import GaussianBlur
from gradserve.stopping import Keep

_STEPS = 256


def add(parser: argparse.ArgumentParser) -> None:
    """All groups but `add_output`."""
    parser.set_defaults(wrong=parser.error, default_of=parser.get_default)
    options.add_json(parser)
    options.add_describe(parser)
    add_start(parser)
    add_steps(parser)
    add_reports(parser)
    add_checkpoints(parser)


def add_output(parser: argparse.ArgumentParser) -> None:
    """`-o`."""
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        nargs="+",
        action="extend",
        type=options.output_file(*outputs.ENDINGS),
        metavar="FILE",
        help="where to write, by its ending: a picture or contact sheet (.png .webp .jpg), what moves (.gif .mp4, and .webp "
        "with --image-every), the last pixels (.npy), all numbers (.npz), values by step (.csv) or their plot (.svg .pdf)",
    )


def add_objectives(parser: argparse.ArgumentParser) -> None:
    """What to make large, as options or as a record has it."""
    scratch = argparse.ArgumentParser(add_help=False)
    add_start(scratch)
    add_steps(scratch)
    parser.set_defaults(recorded=vars(scratch.parse_args([])))
    option = parser.add_mutually_exclusive_group(required=True).add_argument
    option(
        "--objective",
        nargs="+",
        action="extend",
        metavar="LAYER[:INDEX]",
        help="what to make large; see below. Several: one ascent each, side by side",
    )
    option(
        "--from-record",
        type=Path,
        metavar="FILE.json",
        help="do what such a file says again, to the same bytes: objectives and settings are the file's, and so is MODEL "
        "unless it is given",
    )
    option = parser.add_argument_group("records").add_argument
    option(
        "--record",
        type=options.output_file(".json"),
        metavar="FILE.json",
        help="write every setting, the model's hash and the values there",
    )
    option(
        "--any-model",
        action="store_true",
        help="with --from-record: even if the model's file or description is not the recorded one",
    )


def check_record(arguments: argparse.Namespace) -> None:
    """Makes sure that settings are given once, by options or by a record; else the process ends with wrong usage."""
    if arguments.from_record is None:
        if arguments.model is None:
            arguments.wrong("the following arguments are required: MODEL")
        return
    for name, default in arguments.recorded.items():
        if getattr(arguments, name) != default:
            arguments.wrong(f"--from-record: expected no other settings beside it, got --{name.replace('_', '-')}")


def add_start(parser: argparse.ArgumentParser) -> None:
    """What there is before the first step, and the inputs that stay."""
    option = parser.add_argument_group("start").add_argument
    option(
        "--start",
        type=_start,
        default="noise",
        metavar="START",
        help="noise, mean (the described one: a model input of zeros), zeros (black, where the range begins at 0), "
        "constant:VALUE (a pixel value), or a picture file (default: %(default)s)",
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


def add_steps(parser: argparse.ArgumentParser) -> None:
    """What a step is."""
    group = parser.add_argument_group("steps")
    option = group.add_argument
    option("--steps", type=options.whole(1), default=_STEPS, metavar="N", help="updates to make (default: %(default)s)")
    option(
        "--preset",
        choices=PRESETS,
        help="settings as others have published them: parameterization, transforms, optimizer, start and redirected "
        "gradients of Lucid's feature visualization (512 steps); or weight decay, blurs, sparseness, optimizer and start of "
        "row 2 or 3 of Yosinski's Table 1 (750, 1000 steps). Options beside it go before; --steps is never of it",
    )
    option(
        "--parameterization",
        choices=PARAMETERIZATIONS,
        default="pixels",
        help="what changes: pixels, their spectrum, or a pyramid of sizes (default: %(default)s)",
    )
    option(
        "--alpha",
        action="store_true",
        help="a transparent picture: the model sees it over another random image in each step",
    )
    option(
        "--alpha-penalty",
        type=float,
        default=0.0,
        metavar="WEIGHT",
        help="of the mean opacity, taken from the objective (default: %(default)s)",
    )
    option(
        "--shared",
        nargs="+",
        type=_shared,
        metavar="IMAGES/FACTOR",
        help="numbers that the images of --count have in common: pictures smaller by that factor, 1/4 for one that is in "
        "all, or 2/8 for two that they lie between",
    )
    option("--optimizer", choices=OPTIMIZERS, default="adam", help="update rule (default: %(default)s)")
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
        "--blur-every",
        type=_blur,
        metavar="STEPS:RADIUS",
        help="smooth the image every so many steps by a Gaussian of that standard deviation in pixels, as in 4:0.5",
    )
    option(
        "--small-norms",
        type=float,
        metavar="PERCENTILE",
        help="after each step, pixels nearer to the described mean than this percentile become it, 0 to 100",
    )
    option(
        "--small-contributions",
        type=float,
        metavar="PERCENTILE",
        help="the same for pixels whose difference from the mean adds less to the objective, either way, by the gradient",
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
        type=_bound,
        metavar=("LOW", "HIGH"),
        help="pixel values are kept within these: numbers, or .npy files that broadcast to an image, as for features of "
        "their own ranges (default: the described range, or none)",
    )
    option(
        "--projection",
        type=_projection,
        metavar="BALL:RADIUS",
        help="keep the image near its start: linf:0.03 (no pixel changes by more) or l2:1.5 (Euclidean)",
    )
    option("--random-start", action="store_true", help="begin anywhere in the ball of --projection")
    option(
        "--redirect-relu-steps",
        type=options.whole(),
        metavar="N",
        help="first steps in which a ReLU that blocks a whole gradient redirects it: units that do not fire (default: 0)",
    )
    goal = group.add_mutually_exclusive_group().add_argument
    goal(
        "--stop-at",
        type=float,
        metavar="VALUE",
        help="an image whose objective has reached this is done; the ascent ends once all are",
    )
    goal(
        "--until-probability",
        type=float,
        metavar="SHARE",
        help="the same for the softmax of the objective's unit, as in logits:7, seen without transforms: 0.9999",
    )
    option("--keep", choices=[str(kind) for kind in Keep], help="deliver the last image, or the best so far (default: last)")


def add_reports(parser: argparse.ArgumentParser) -> None:
    """What is told and drawn meanwhile."""
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
    options.add_preview(option, "the latest images")
    option("--jobs", type=options.whole(1), default=8, metavar="N", help="ascents at a time (default: %(default)s)")


def add_checkpoints(parser: argparse.ArgumentParser) -> None:
    """How to go on later."""
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


def _projection(text: str) -> Projection:
    """The type of `--projection`."""
    kind, _, radius = text.partition(":")
    try:
        return PROJECTIONS[kind](float(radius))
    except (KeyError, ValueError) as error:
        msg = f"expected {' or '.join(f'{name}:RADIUS' for name in PROJECTIONS)}, got {text!r}"
        raise argparse.ArgumentTypeError(msg) from error


def _shared(text: str) -> Shared:
    """The type of `--shared`."""
    images, _, factor = text.partition("/")
    try:
        return Shared(options.whole(1)(images), options.whole(1)(factor))
    except argparse.ArgumentTypeError as error:
        msg = f"expected IMAGES/FACTOR, as in 1/4, got {text!r}"
        raise argparse.ArgumentTypeError(msg) from error


def _blur(text: str) -> GaussianBlur:
    """The type of `--blur-every`."""
    every, _, radius = text.partition(":")
    try:
        return GaussianBlur(float(radius), options.whole(1)(every))
    except (ValueError, argparse.ArgumentTypeError) as error:
        msg = f"expected STEPS:RADIUS, as in 4:0.5, got {text!r}"
        raise argparse.ArgumentTypeError(msg) from error


def _bound(text: str) -> float | npt.NDArray[np.float32]:
    """The type of `--bounds`."""
    try:
        return float(text) if not text.endswith(".npy") else np.asarray(np.load(text), np.float32)
    except (ValueError, OSError) as error:
        msg = f"expected a number or an .npy file of numbers, got {text!r}"
        raise argparse.ArgumentTypeError(msg) from error


def _start(text: str) -> str | float | Path:
    """The type of `--start`: a picture's path, a constant, "noise" or "mean"."""
    kind, _, value = text.partition(":")
    if text in ("noise", "mean"):
        return text
    if text == "zeros":
        return 0.0
    try:
        return float(value) if kind == "constant" else Path(text).resolve(strict=True)
    except (ValueError, OSError) as error:
        msg = f"expected noise, mean, zeros, constant:VALUE or a picture file, got {text!r}"
        raise argparse.ArgumentTypeError(msg) from error
