"""`gradserve inspect`: what a model takes and gives, what was done to it, and whether its gradients are right."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import asdict

from rich.progress import track

from gradserve import ImageDescription, Layer, ModelDescription, checks
from gradserve.cli import console, inputs, options
from gradserve.cli.backend import Verbs, open_model

_EPILOG = """\
examples:
  gradserve inspect models/digits
  gradserve inspect resnet50.onnx --layers
  gradserve inspect digits --server localhost:8001 --json | jq .backend
  gradserve inspect models/digits --check-gradient --image seven.png
  gradserve inspect encoder.onnx --check-gradient --size sequence=12 --wrt embedding

--check-gradient: "difference" compares each layer's gradient with finite differences of predictions, and "doubt" says how
far those can be trusted (float32 rounding, kinks such as ReLU's): an error below the doubt means nothing. "adjoint" compares
J^T v with J t, which other rules make. All are relative, of the worst of three random directions.
"""
_MANY_LABELS = 10
_MANY_LAYERS = 40


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = options.add_command(
        commands,
        "inspect",
        _run,
        purpose="show a model's inputs, outputs, image description, labels, rewrites and gradient backend",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--layers", action="store_true", help="also list the layers that objectives can name, in the order of the graph"
    )
    parser.add_argument(
        "--check-gradient",
        action="store_true",
        help="compare the gradients of layers with finite differences along random directions (random inputs by default)",
    )
    parser.add_argument("--wrt", nargs="+", default=[], metavar="NAME", help="check with respect to these inputs or layers")
    parser.add_argument(
        "--size",
        nargs="+",
        default=[],
        type=_size,
        metavar="SYMBOL=N",
        help="what an open size is in the check's random inputs",
    )
    options.add_inputs(parser)
    options.add_json(parser)
    options.add_describe(parser)


def _run(arguments: argparse.Namespace) -> None:
    with open_model(arguments) as (verbs, name):
        description = verbs.inspect(name, version=arguments.model_version)
        wanted = arguments.layers or arguments.check_gradient
        layers = verbs.layers(name, version=arguments.model_version) if wanted else []
        found = _check(verbs, name, description, layers, arguments) if arguments.check_gradient else []
    if arguments.json:
        document = asdict(description)
        document |= {"layers": [asdict(layer) for layer in layers]} if arguments.layers else {}
        document |= {"check": [asdict(finding) for finding in found]} if arguments.check_gradient else {}
        console.print_json(document)
        return
    _print_description(description)
    if arguments.layers:
        _print_layers(layers)
    if arguments.check_gradient:
        _print_check(found)


def _check(
    verbs: Verbs, name: str, description: ModelDescription, layers: Sequence[Layer], arguments: argparse.Namespace
) -> list[checks.LayerCheck]:
    given = inputs.read(description, arguments.image, arguments.input).arrays
    arrays = given or checks.random_inputs(description, dict(arguments.size))
    names = [layer.name for layer in layers if layer.differentiable and layer.dtype.startswith("float")]
    stride = max(1, math.ceil(len(names) / _MANY_LAYERS))
    chosen = names[::-1][::stride][::-1]  # the last is always among them
    if stride > 1:
        console.note(f"checking {len(chosen)} of {len(names)} layers")
    found = checks.check_gradient(verbs, name, arrays, chosen, wrt=arguments.wrt, version=arguments.model_version)
    return list(track(found, "checking", len(chosen), console=console.progress(), transient=True))


def _print_description(model: ModelDescription) -> None:
    facts = [
        ("model", f"{model.name}, version {model.version}"),
        ("sha256", model.sha256),
        ("opset", str(model.opset)),
        ("gradients", f"{model.backend}: {model.backend_reason}"),
        ("rewrites", "\n".join(model.rewrites) or "none: the file is in inference form already"),
    ]
    if model.rewrites:
        facts.append(("rewrite error", f"{model.rewrite_error:.2g} of the largest output, on a random batch"))
    facts_table = console.table("", ["", ""], facts)
    facts_table.show_header, facts_table.title = False, None
    console.show(facts_table)
    for title, tensors in (("inputs", model.inputs), ("outputs", model.outputs)):
        rows = [(t.name, t.dtype, console.shape(t.shape), _meaning(t.image, t.labels)) for t in tensors]
        console.show("", console.table(title, ["name", "dtype", "shape", "meaning"], rows))


def _meaning(image: ImageDescription | None, labels: tuple[str, ...]) -> str:
    if image is not None:
        mean, std = (", ".join(map(console.number, numbers)) for numbers in (image.mean, image.std))
        pixels = f"{console.number(image.low)} to {console.number(image.high)}"
        return f"{image.channels} {image.layout}, pixels {pixels}, mean {mean}, std {std}"
    if labels:
        shown = ", ".join(labels[:_MANY_LABELS]) + (", …" if len(labels) > _MANY_LABELS else "")
        return f"{len(labels)} labels: {shown}"
    return ""


def _print_layers(layers: Sequence[Layer]) -> None:
    rows = [
        (
            layer.name,
            layer.op,
            layer.dtype,
            console.shape(layer.shape),
            layer.backend or "none",
            layer.reason or layer.backend_reason,
        )
        for layer in layers
    ]
    console.show("", console.table("layers", ["name", "op", "dtype", "shape", "gradient by", "because"], rows))


def _print_check(found: Sequence[checks.LayerCheck]) -> None:
    rows = [(f.layer, *(_error(error) for error in (f.difference, f.doubt, f.adjoint)), f.problem) for f in found]
    numbers = ["difference", "doubt", "adjoint"]
    console.show("", console.table("gradients", ["layer", *numbers, "problem"], rows, right=numbers))
    worst = max((f for f in found if not math.isnan(f.difference)), key=lambda f: f.difference, default=None)
    if worst is not None:
        console.show(f"worst: {_error(worst.difference)} at {worst.layer}, in doubt by {_error(worst.doubt)}")


def _error(error: float) -> str:
    return "-" if math.isnan(error) else f"{error:.1e}"


def _size(text: str) -> tuple[str, int]:
    name, _, size = text.partition("=")
    if not (name and size.isdecimal()):
        msg = f"expected SYMBOL=N, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return name, int(size)
