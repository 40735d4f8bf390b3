"""`gradserve infer`: predictions."""

import argparse
from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve import ModelDescription, TensorDescription
from gradserve.cli import console, inputs, options
from gradserve.cli.backend import open_model

_EPILOG = f"""\
An output [N, K] of floats is shown as the largest of its K values for each sample; any other by its range.

{options.PICTURES}
examples:
  gradserve infer models/digits --image seven.png --softmax
  gradserve infer digits --image *.png --top 3 --json
  gradserve infer model.onnx --input x=batch.npy --output predictions.npz
"""
_CLASS_RANK = 2


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = options.add_command(
        commands, "infer", _run, purpose="run a model on pictures or arrays and show its predictions", epilog=_EPILOG
    )
    options.add_inputs(parser)
    parser.add_argument(
        "--top", type=options.whole(1), default=5, metavar="K", help="values shown for each sample (default: %(default)s)"
    )
    parser.add_argument(
        "--softmax", action="store_true", help="show probabilities, the softmax of each output [N, K], instead of its values"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=options.output_file(".npz"),
        metavar="FILE.npz",
        help="write every output as the model gave it, one array for each name",
    )
    options.add_json(parser)
    options.add_describe(parser)


def _run(arguments: argparse.Namespace) -> None:
    with open_model(arguments) as (verbs, name):
        version = arguments.model_version
        description = verbs.inspect(name, version=version)
        given = inputs.read(description, arguments.image, arguments.input)
        outputs = verbs.infer(name, given.arrays, version=version)
    if arguments.output:
        np.savez(arguments.output, allow_pickle=False, **outputs)
    report = {
        tensor.name: _report(tensor, outputs[tensor.name], arguments.top, softmax=arguments.softmax)
        for tensor in description.outputs
    }
    if arguments.json:
        console.print_json({"model": name, "version": description.version, "samples": given.sources, "outputs": report})
    else:
        _print(description, given.sources, report)
    if arguments.output:
        console.note(f"wrote {arguments.output}")


def _report(tensor: TensorDescription, array: npt.NDArray[Any], top: int, *, softmax: bool) -> dict[str, Any]:
    """What there is to say about an output."""
    report: dict[str, Any] = {"dtype": array.dtype.name, "shape": list(array.shape)}
    if array.ndim == _CLASS_RANK and array.dtype.kind == "f":
        scores = _softmax(array) if softmax else array.astype(np.float64)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
        report["quantity"] = "probability" if softmax else "value"
        report["top"] = [
            [{"index": int(k), "label": _label(tensor, k), "value": row[k]} for k in chosen]
            for row, chosen in zip(scores, order, strict=True)
        ]
    elif array.size and array.dtype.kind in "fiub":
        report |= {"min": array.min(), "mean": array.mean(dtype=np.float64), "max": array.max()}
    return report


def _print(description: ModelDescription, sources: list[str], report: dict[str, dict[str, Any]]) -> None:
    others = {name: facts for name, facts in report.items() if "top" not in facts}
    for name, facts in report.items():
        if name in others:
            continue
        rows = [
            (source if rank == 0 else "", rank + 1, entry["index"], entry["label"], entry["value"])
            for source, ranking in zip(_for(facts["top"], sources), facts["top"], strict=True)
            for rank, entry in enumerate(ranking)
        ]
        columns = ["sample", "rank", "index", "label", facts["quantity"]]
        title = f"{name} of {description.name} version {description.version}"
        console.show(console.table(title, columns, rows, right=["rank", "index", facts["quantity"]]))
    if others:
        rows = [
            (name, facts["dtype"], console.shape(facts["shape"]), *(facts.get(key) for key in ("min", "mean", "max")))
            for name, facts in others.items()
        ]
        columns = ["output", "dtype", "shape", "min", "mean", "max"]
        console.show(console.table("outputs", columns, rows, right=columns[3:]))


def _for(rows: list[Any], sources: list[str]) -> list[str]:
    """What each row is about: its file, where there is a row for each."""
    return sources if len(sources) == len(rows) else [f"[{index}]" for index in range(len(rows))]


def _label(tensor: TensorDescription, index: int) -> str:
    return tensor.labels[index] if index < len(tensor.labels) else ""


def _softmax(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    powers = np.exp(values.astype(np.float64) - values.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
