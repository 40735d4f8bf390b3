"""Sums, in the spelling of whatever opset the model has."""

import numpy as np
import onnx_ir as ir

OPSET_WITH_AXES_INPUT = 13
"""From here on ReduceSum takes its axes as an input."""


def sum_all(value: ir.Value, name: str) -> ir.Node:
    """The sum of all elements, a scalar."""
    node = ir.node("ReduceSum", [value], {"keepdims": 0}, name=name)
    return _typed(node, name, value.type, ir.Shape([]))


def sum_per_sample(graph: ir.Graph, value: ir.Value, opset: int, name: str) -> list[ir.Node]:
    """The sum over all axes but the first, [N]; the last node makes it. Of any rank, [N] included."""
    flat = ir.node("Flatten", [value], {"axis": 1}, name=f"{name}/flat")
    _typed(flat, f"{name}/flat", value.type, None)
    if opset < OPSET_WITH_AXES_INPUT:
        total = ir.node("ReduceSum", flat.outputs, {"keepdims": 0, "axes": [1]}, name=name)
    else:
        axes = ir.Value(name=f"{name}/axes", const_value=ir.tensor(np.array([1], np.int64), name=f"{name}/axes"))
        graph.register_initializer(axes)
        total = ir.node("ReduceSum", [*flat.outputs, axes], {"keepdims": 0}, name=name)
    batch = value.shape[0] if value.shape is not None and len(value.shape) else None
    return [flat, _typed(total, name, value.type, ir.Shape([batch]))]


def _typed(node: ir.Node, name: str, type_: ir.TypeProtocol | None, shape: ir.Shape | None) -> ir.Node:
    out = node.outputs[0]
    out.name, out.type, out.shape = name, type_, shape
    return node
