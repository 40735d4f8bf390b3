"""What every exporter's model goes through on its way to the file."""

import re
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes import common as passes

from gradserve.errors import InvalidModel
from gradserve_server.graph.save import save
from gradserve_server.graph.values import is_op, opset_of

BATCH = "batch"
"""The symbol of the batch axis."""

VALID = ("NOTSET", "VALID")
"""Values of `auto_pad` that pad nothing by themselves."""


def finish(
    model: ir.Model, path: Path, *, inputs: list[str], outputs: list[str], opset: int, batched: list[str] | None
) -> None:
    """Writes a model; without metadata and comments, which tell where on the author's disk the code was.

    Args:
        model: Changed in place.
        path: The file.
        inputs: The names that it must have.
        outputs: The same.
        opset: That it may have at most.
        batched: The outputs whose first axis is the batch, as that of all inputs; None: its size is fixed.

    Raises:
        InvalidModel: It is another model than that.
    """
    for kind, wanted, values in (("input", inputs, model.graph.inputs), ("output", outputs, model.graph.outputs)):
        got = [value.name for value in values]
        if got != wanted:
            known = ", ".join(map(str, got)) or "none"
            msg = f"expected the exporter to write the {kind}s {', '.join(wanted)}, got {known}"
            raise InvalidModel(msg)
    if opset_of(model) > opset:
        msg = f"expected the exporter to write opset {opset}, got {opset_of(model)}"
        raise InvalidModel(msg)
    if batched is not None:
        _name_batch(model, batched)
    _count_no_padding(model.graph)
    passes.ClearMetadataAndDocStringPass()(model)
    save(model, path)


def _count_no_padding(graph: ir.Graph) -> None:
    """Where there is no padding, a mean that counts it is the same as one that does not.

    But not for onnxruntime 1.19: it divides a last window that reaches beyond the image (`ceil_mode`) by its whole kernel.
    torch writes the former by default, and transformers' EfficientNet pools that way.
    """
    for node in graph.all_nodes():
        padded = any(node.attributes.get_ints("pads", [])) or node.attributes.get_string("auto_pad", VALID[0]) not in VALID
        if is_op(node, "AveragePool") and not padded:
            node.attributes.pop("count_include_pad", None)


def _name_batch(model: ir.Model, batched: list[str]) -> None:
    """Calls the batch axis the same everywhere."""
    outputs = [value for value in model.graph.outputs if value.name in batched]
    for kind, values in (("input", model.graph.inputs), ("output", outputs)):
        for value in values:
            if value.shape and isinstance(size := value.shape[0], int):
                msg = (
                    f"{kind} '{value.name}': expected a batch axis of any size, got {size}: the exporter fixed it, because "
                    f"the network computes with it. Try the other exporter, or keep the size with --fixed-batch"
                )
                raise InvalidModel(msg)
    symbols = {
        size.value for value in model.graph.inputs if value.shape and isinstance(size := value.shape[0], ir.SymbolicDim)
    }
    names = "|".join(re.escape(symbol) for symbol in symbols if symbol)
    for value in _values(model.graph):
        if value.shape is not None and names:
            value.shape = ir.Shape([_renamed(size, rf"\b({names})\b") for size in value.shape])
    for value in (*model.graph.inputs, *outputs):
        if value.shape is not None:
            value.shape = ir.Shape([BATCH, *value.shape[1:]])


def _renamed(size: int | ir.SymbolicDim, pattern: str) -> int | ir.SymbolicDim:
    if isinstance(size, int) or size.value is None:
        return size
    return ir.SymbolicDim(re.sub(pattern, BATCH, size.value))


def _values(graph: ir.Graph) -> list[ir.Value]:
    return [*graph.inputs, *(value for node in graph for value in node.outputs)]
