"""`gradserve gradient-graph`: a model's gradient as an ONNX file that any runtime runs."""

import argparse
from collections import Counter
from typing import Any

from gradserve.cli import console, options
from gradserve.cli.backend import save_gradient_graph

_EPILOG = f"""\
The file has the model's inputs and gives `objective/value` [N] and `grad/<input>`, the gradient of each sample; with
--cotangent it has inputs `cotangent/<layer>` and gives J^T v; with --tangent it has inputs `tangent/<input>` and gives J t;
with --hvp also `hvp/<input>`, the Hessian of the objective times `tangent/<input>`. Only standard ONNX operators are added.

{options.OBJECTIVES}
examples:
  gradserve gradient-graph models/digits --objective logits:7 -o seven.grad.onnx
  gradserve gradient-graph resnet50.onnx --objective 'layer4:12' --shape image=N,3,224,224 -o layer4.grad.onnx
  gradserve gradient-graph encoder.onnx --cotangent hidden --wrt embedding -o encoder.vjp.onnx
"""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "gradient-graph",
        usage="gradserve gradient-graph MODEL (--objective LAYER | --cotangent LAYER | --tangent LAYER) -o FILE [options]",
        help="write a model's gradient as a standard ONNX file",
        description="Write a model's gradient as a standard ONNX file.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_run)
    parser.add_argument("model", metavar="MODEL", help="an .onnx file or a model's folder (models/digits)")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--objective", metavar="LAYER[:INDEX]", help="what to differentiate; see below")
    kind.add_argument("--cotangent", nargs="+", metavar="LAYER", help="pull back what is given for these outputs or layers")
    kind.add_argument("--tangent", nargs="+", metavar="LAYER", help="say how these move with the inputs")
    parser.add_argument("--hvp", action="store_true", help="with --objective: also its Hessian times a direction")
    parser.add_argument(
        "--wrt",
        nargs="+",
        default=[],
        metavar="NAME",
        help="inputs or layers to differentiate with respect to (default: every float input)",
    )
    parser.add_argument(
        "--shape",
        nargs="+",
        default=[],
        type=_shape,
        metavar="NAME=N,3,224,224",
        help="sizes of an input, where the file leaves open what the objective must know; letters stay open",
    )
    parser.add_argument(
        "--backend", choices=("portable", "training", "auto"), default="portable", help="who makes it (default: portable)"
    )
    parser.add_argument(
        "--straight-through", action="store_true", help="differentiate as if quantization rounded nothing (default: refuse)"
    )
    parser.add_argument(
        "-o", "--output", required=True, type=options.output_file(".onnx"), metavar="FILE", help="the file to write"
    )
    options.add_json(parser)


def _run(arguments: argparse.Namespace) -> None:
    product = "hvp" if arguments.hvp else "jvp" if arguments.tangent else "vjp"
    made = save_gradient_graph(
        arguments.model,
        arguments.output,
        objective=arguments.objective,
        layers=arguments.cotangent or arguments.tangent or (),
        wrt=arguments.wrt,
        product=product,
        shapes=dict(arguments.shape),
        backend=arguments.backend,
        straight_through=arguments.straight_through,
    )
    tensors = {side: [_describe(value) for value in getattr(made.graph, side)] for side in ("inputs", "outputs")}
    operators = Counter(f"{node.domain}.{node.op_type}".lstrip(".") for node in made.graph.all_nodes())
    if arguments.json:
        console.print_json({"file": str(arguments.output), **tensors, "operators": dict(operators)})
        return
    for side, rows in tensors.items():
        console.show(console.table(side, ["name", "dtype", "shape"], [tuple(row.values()) for row in rows]), "")
    console.note(f"wrote {arguments.output}: {sum(operators.values())} nodes of {len(operators)} operators")


def _describe(value: Any) -> dict[str, str]:
    sizes = ", ".join("?" if size is None else str(size) for size in value.shape) if value.shape is not None else "..."
    return {"name": value.name, "dtype": str(value.dtype).lower(), "shape": f"[{sizes}]"}


def _shape(text: str) -> tuple[str, list[int | str]]:
    name, separator, sizes = text.partition("=")
    if not (name and separator and sizes):
        msg = f"expected NAME=SIZE,SIZE,..., got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return name, [int(size) if size.isdecimal() else size for size in sizes.split(",")]
