"""`gradserve inspect`: what a model takes and gives, and what was done to it."""

import argparse
from dataclasses import asdict

from gradserve import ImageDescription, Layer, ModelDescription
from gradserve.cli import console, options
from gradserve.cli.backend import open_model

_EPILOG = """\
examples:
  gradserve inspect models/digits
  gradserve inspect resnet50.onnx --layers
  gradserve inspect digits --server localhost:8001 --json | jq .backend
"""
_MANY_LABELS = 10


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
    options.add_json(parser)


def _run(arguments: argparse.Namespace) -> None:
    with open_model(arguments.model, arguments.server) as (verbs, name):
        description = verbs.inspect(name, version=arguments.model_version)
        layers = verbs.layers(name, version=arguments.model_version) if arguments.layers else None
    if arguments.json:
        document = asdict(description)
        console.print_json(document if layers is None else {**document, "layers": [asdict(layer) for layer in layers]})
        return
    _print_description(description)
    if layers is not None:
        _print_layers(layers)


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


def _print_layers(layers: list[Layer]) -> None:
    rows = [
        (layer.name, layer.op, layer.dtype, console.shape(layer.shape), "yes" if layer.differentiable else layer.reason)
        for layer in layers
    ]
    console.show("", console.table("layers", ["name", "op", "dtype", "shape", "gradient"], rows))
