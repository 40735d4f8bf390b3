"""Integers that are computed from constants alone become constants: `Mod(-2, 3)`, as torch's exporter writes axes.

Shape inference computes with sizes, but not with these, and a shape that depends on one would have no rank.
"""

import numpy as np
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from gradserve_server.graph.autodiff.emitter import MAX_KNOWN_SIZE, Array, initializer
from gradserve_server.graph.values import constant, is_op, opset_of

EXACT = (
    "Abs", "Add", "Concat", "Gather", "Max", "Min", "Mod", "Mul", "Neg", "Reshape", "Slice", "Squeeze", "Sub", "Transpose",
    "Unsqueeze",
)  # fmt: skip
"""Operators on integers that leave nothing to the runtime, as Div does (how it rounds below 0), and make nothing large."""


def fold_integers(model: ir.Model) -> list[str]:
    """Computes them, in the main graph, in place. Returns what was computed, in words."""
    graph, opset, folded = model.graph, opset_of(model), 0
    for node in list(graph):
        arrays = [constant(value) for value in node.inputs if value is not None]
        if not is_op(node, *EXACT) or node.outputs[0].is_graph_output() or not all(_is_small(array) for array in arrays):
            continue
        result = _computed(node, opset)
        if not _is_small(result):
            continue
        out = node.outputs[0]
        name, out.name = out.name or "", None
        ir.convenience.replace_all_uses_with(out, initializer(graph, name, np.asarray(result)))
        graph.remove(node, safe=True)
        folded += 1
    return [f"computed {folded} integer constants"] if folded else []


def _is_small(array: Array | None) -> bool:
    return array is not None and array.dtype.kind in "iu" and array.size <= MAX_KNOWN_SIZE


def _computed(node: ir.Node, opset: int) -> Array:
    feeds = {value.name or "": constant(value) for value in node.inputs if value is not None}
    (result,) = ReferenceEvaluator(ir.to_proto(node), opsets={"": opset}).run(None, feeds)
    return np.asarray(result)
