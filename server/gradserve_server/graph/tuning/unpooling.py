"""Unpooling by ScatterElements: onnxruntime's CUDA provider has no MaxUnpool, and would leave it to the processor.

Y = zeros, then Y[I] = X, where I counts in all of Y (so does onnxruntime's own). The gradient of a MaxPool whose windows lie
side by side is one (`autodiff.vjp_pooling`), and no index of it occurs twice: no order of writing matters. Of a model's own
with equal indices, a GPU does not tell which is written last.
"""

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from gradserve_server.graph.values import constant, is_op, shape_of, supersede


def scatter_unpooled(model: ir.Model) -> None:
    """Rewrites those that are told the shape of their result, in place, subgraphs included.

    Args:
        model: Of opset 11 or newer.
    """
    for node in list(model.graph.all_nodes()):
        if is_op(node, "MaxUnpool") and len(node.inputs) > 2 and node.inputs[2] is not None:
            _scatter(node, node.inputs[2])


def _scatter(node: ir.Node, shape: ir.Value) -> None:
    graph, out = node.graph, node.outputs[0]
    assert graph is not None
    assert out.dtype is not None
    emit = _Emitter(out.name or "")
    flat = emit.numbers(-1)
    zeros = emit.op("ConstantOfShape", _count(emit, shape, out), value=ir.tensor(np.zeros(1, out.dtype.numpy())))
    indices, values = emit.op("Reshape", node.inputs[1], flat), emit.op("Reshape", node.inputs[0], flat)
    result = emit.op("Reshape", emit.op("ScatterElements", zeros, indices, values, axis=0), shape)
    graph.insert_before(node, emit.made)
    supersede(out, result)
    graph.remove(node, safe=True)


class _Emitter:
    """Makes nodes named after a value."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.made: list[ir.Node] = []

    def op(self, op: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """One node."""
        node = ir.node(op, inputs, attributes, name=f"{self._name}/scattered/{len(self.made)}_{op}")
        node.outputs[0].name = f"{node.name}/out"
        self.made.append(node)
        return node.outputs[0]

    def numbers(self, *values: int) -> ir.Value:
        """A constant, int64."""
        return self.op("Constant", value=ir.tensor(np.array(values, np.int64)))


def _count(emit: _Emitter, shape: ir.Value, out: ir.Value) -> ir.Value:
    """How many elements there are, int64 [1]."""
    known, static, asked = constant(shape), shape_of(out) or (None,), shape.producer()
    sizes = [int(size) for size in (known if known is not None else static) if isinstance(size, int | np.integer)]
    if len(sizes) == len(known if known is not None else static):
        return emit.numbers(math.prod(sizes))
    if asked is not None and is_op(asked, "Shape") and not asked.attributes:
        return emit.op("Reshape", emit.op("Size", asked.inputs[0]), emit.numbers(1))
    return emit.op("ReduceProd", shape, keepdims=1)
