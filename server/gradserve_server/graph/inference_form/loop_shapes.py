"""What onnx does not infer: that a loop's states keep their shapes, where they do."""

from collections.abc import Iterable

import onnx_ir as ir

from gradserve_server.graph.autodiff.emitter import infer
from gradserve_server.graph.values import is_op, opset_of, shape_of


def loop_shapes(model: ir.Model) -> None:
    """Gives the states of loops, and what is made of them in the loop and by it, their shapes."""
    _infer(model.graph, opset_of(model), everything=False)


def _infer(nodes: Iterable[ir.Node], opset: int, *, everything: bool) -> None:
    for node in nodes:
        if is_op(node, "Loop"):
            _loop(node, opset)
        elif everything:
            infer(node, opset)


def _loop(node: ir.Node, opset: int) -> None:
    body = node.attributes["body"].as_graph()
    initial, states = node.inputs[2:], body.inputs[2:]
    after, collected = body.outputs[1 : 1 + len(states)], body.outputs[1 + len(states) :]
    before = {out: out.shape for inside in body for out in inside.outputs}
    supposed = []
    for value, state, out in zip(initial, states, after, strict=True):
        if state.shape is None and value is not None and value.shape is not None:
            state.shape = value.shape.copy()
            supposed.append((state, out))
    while supposed:
        for out, shape in before.items():
            out.shape = shape
        _infer(body, opset, everything=True)
        wrong = [(state, out) for state, out in supposed if shape_of(state) != shape_of(out)]
        if not wrong:
            break
        for state, out in wrong:
            state.shape = _common(state, out)
        supposed = [(state, out) for state, out in supposed if state.shape is not None]
    for result, state in zip(node.outputs, states, strict=False):
        result.shape = result.shape or state.shape
    for result, out in zip(node.outputs[len(states) :], collected, strict=True):
        if result.shape is None and out.shape is not None:
            result.shape = ir.Shape([None, *out.shape])


def _common(one: ir.Value, other: ir.Value) -> ir.Shape | None:
    """The sizes that two values share; None where not even the ranks are the same."""
    a, b = shape_of(one), shape_of(other)
    if a is None or b is None or len(a) != len(b):
        return None
    return ir.Shape([size if size == also else None for size, also in zip(a, b, strict=True)])
