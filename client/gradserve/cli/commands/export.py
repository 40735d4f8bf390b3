"""`gradserve export`: a network of PyTorch, Keras or scikit-learn becomes a verified model of a repository."""

import argparse
import ast
import contextlib
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gradserve.cli import console, options
from gradserve.cli.backend import export_model
from gradserve.errors import InvalidParameter

_EPILOG = """\
SUBJECT is package.module:factory, a function or class that makes the network (its module is looked for in the current
folder first; its code is run), or a .keras or .skops file, which is read without running what is in it. Weights are read
the same way: .safetensors, or .pt by torch.load(weights_only=True); every name and shape must fit.

The network is put into inference form and written with a batch axis of any size. Then gradserve runs and differentiates
the file beside the framework in float64 on random inputs. Only if both agree, it appears in the repository, at
REPOSITORY/NAME/VERSION/model.onnx with its config.pbtxt and labels; else nothing does, and the exit code is 1.
Differences are relative, in the L2 norm, of the worst sample; "doubt" is what a right float32 gradient may differ by near
kinks such as ReLU's.

Needs gradserve-server with the extra of the framework: export-torch, export-keras or export-sklearn.

examples:
  gradserve export torchvision.models:resnet50 --weights resnet50.safetensors --input image=1x3x224x224 -o models \\
      --range 0 1 --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225 --labels imagenet.txt --outputs logits
  gradserve export mine.networks:Classifier --set classes=10 width=64 --input 1x1x28x28 --exporter torchscript -o models
  gradserve export mine.networks:siamese --input left=1x1x28x28 right=1x1x28x28 -o models
  gradserve export digits.keras --layout NHWC --channel-order GREY --range 0 1 -o models
  gradserve export pipeline.skops --name iris -o models
"""
_INPUT = re.compile(r"(?:(?P<name>[^=:]+)=)?(?P<shape>\d+(?:x\d+)*)(?::(?P<dtype>float32|int64|int32|bool))?")


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "export",
        usage="gradserve export SUBJECT -o REPOSITORY [options]",
        help="export a PyTorch, Keras or scikit-learn network into a repository, verified",
        description="Export a network of PyTorch, Keras or scikit-learn into a model repository, and verify it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_run)
    parser.add_argument("subject", metavar="SUBJECT", help="package.module:factory, or a .keras or .skops file")
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="REPOSITORY", help="folder of models; made if it is not there"
    )
    parser.add_argument("--name", help="of the model (default: the factory's or the file's)")
    parser.add_argument(
        "--model-version", type=options.whole(1), metavar="N", help="version to write (default: the next that is free)"
    )
    _add_network(parser.add_argument_group("network"))
    _add_file(parser.add_argument_group("file"))
    _add_image(parser.add_argument_group("image description", "model input = (pixel - mean) / std, as config.pbtxt has it"))
    options.add_json(parser)


def _add_network(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        type=_assignment,
        metavar="KEY=VALUE",
        help="arguments of the factory; VALUE is a Python literal, or else a text",
    )
    group.add_argument("--weights", type=Path, metavar="FILE", help=".safetensors, .pt, .pth or .bin; Keras: .weights.h5")
    group.add_argument("--weights-key", metavar="KEY", help="where in a checkpoint the weights are: state_dict")
    group.add_argument("--weights-prefix", metavar="TEXT", help="what stands before each name in the file only: module.")
    group.add_argument(
        "--input",
        nargs="+",
        action="extend",
        default=[],
        type=_input,
        metavar="[NAME=]SHAPE[:DTYPE]",
        help="as in 1x3x224x224 or ids=1x128:int64; the first size is the batch's (Keras and scikit-learn know theirs)",
    )
    group.add_argument(
        "--outputs", nargs="+", metavar="NAME", help="which of the named outputs; else new names for all, in order"
    )


def _add_file(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--exporter", choices=("dynamo", "torchscript"), help="which of torch's exporters writes the file (default: dynamo)"
    )
    group.add_argument("--opset", type=options.whole(7), metavar="N", help="of the file (default: 20)")
    group.add_argument("--fixed-batch", action="store_true", default=None, help="keep the batch size of --input")
    group.add_argument(
        "--max-batch", type=options.whole(1), metavar="N", help="max_batch_size of config.pbtxt (default: 64)"
    )
    group.add_argument("--labels", type=Path, metavar="FILE", help="what each index of the output means, a line each")
    group.add_argument("--labels-output", metavar="NAME", help="of which output (default: the first)")
    group.add_argument("--seed", type=options.whole(), metavar="N", help="of the random inputs (default: 0)")


def _add_image(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--layout", choices=("NCHW", "NHWC"), help="default: by where the axis of 1 or 3 channels is")
    group.add_argument("--channel-order", choices=("GREY", "RGB", "BGR"), help="default: GREY for one channel, else RGB")
    group.add_argument("--range", nargs=2, type=float, metavar=("LOW", "HIGH"), help="of pixels (default: 0 1)")
    group.add_argument("--mean", nargs="+", type=float, metavar="X", help="in pixel units, for each channel or all")
    group.add_argument("--std", nargs="+", type=float, metavar="X", help="the same")
    group.add_argument("--image-input", nargs="+", metavar="NAME", help="which inputs (default: all of four axes)")


_SETTINGS = (
    *("name", "weights", "weights_key", "weights_prefix", "outputs", "exporter", "opset", "fixed_batch", "max_batch"),
    *("labels_output", "seed"),
)
"""Options that are settings of the same name."""


def _run(arguments: argparse.Namespace) -> None:
    settings = {name: getattr(arguments, name) for name in _SETTINGS}
    settings |= {"version": arguments.model_version, "arguments": dict(arguments.set), "image_inputs": arguments.image_input}
    settings |= {"inputs": arguments.input, "image": _image(arguments)}
    if arguments.labels is not None:
        settings["labels"] = _labels(arguments.labels)
    said = contextlib.redirect_stdout(sys.stderr)  # what the network's own code prints; standard output is the report's
    with console.progress().status(f"exporting {arguments.subject}"), said:
        report = export_model(
            arguments.subject, arguments.output, **{name: value for name, value in settings.items() if value is not None}
        )
    if arguments.json:
        console.print_json(asdict(report) | {"file": str(report.file)})
        return
    _print(report)


def _labels(file: Path) -> list[str]:
    try:
        return file.read_text("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        msg = f"labels '{file}': expected text in UTF-8: {error}"
        raise InvalidParameter(msg) from error


def _print(report: Any) -> None:
    for title, tensors in (("inputs", report.inputs), ("outputs", report.outputs)):
        rows = [(t.name, t.dtype, console.shape(t.shape)) for t in tensors]
        console.show(console.table(title, ["name", "dtype", "shape"], rows), "")
    numbers = ["difference", "doubt", "allowed"]
    rows = [
        (c.what, console.shape(c.shape), *(f"{x:.1e}" for x in (c.difference, c.doubt, c.allowed))) for c in report.checks
    ]
    title = f"difference from {report.framework}'s float64"
    console.show(console.table(title, ["tensor", "shape", *numbers], rows, right=numbers))
    for sentence in report.notes:
        console.note(sentence)
    what = f"version {report.version} of {report.model}, opset {report.opset}, by {report.exporter}"
    console.note(f"wrote {report.file}: {what}")


def _image(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """What is said of the image description, if anything is."""
    said = {
        "layout": arguments.layout,
        "channels": arguments.channel_order,
        "mean": arguments.mean and tuple(arguments.mean),
        "std": arguments.std and tuple(arguments.std),
    }
    if arguments.range is not None:
        said |= dict(zip(("low", "high"), arguments.range, strict=True))
    known = {name: value for name, value in said.items() if value is not None}
    return known or None


def _input(text: str) -> tuple[str, tuple[int, ...], str]:
    found = _INPUT.fullmatch(text)
    sizes = tuple(int(size) for size in found["shape"].split("x")) if found else ()
    if found is None or not all(sizes):
        msg = f"expected [NAME=]SIZExSIZEx...[:float32, int64, int32 or bool], as in image=1x3x224x224, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return found["name"] or "", sizes, found["dtype"] or "float32"


def _assignment(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not (name.isidentifier() and separator):
        msg = f"expected KEY=VALUE, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value
