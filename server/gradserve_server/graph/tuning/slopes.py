"""Masks and slopes of activations in fewer passes over memory: the rules' formulas, put differently.

| activation | as the rules write it | here |
|---|---|---|
| Y = X s, s = sigmoid(X) | dY s + (dY X) s (1 - s) | dY (s + Y (1 - s)) |
| Y = clip(X, low, high) | cast(X = Y), or cast(low <= X and X <= high) | hard_sigmoid(1 - 3e38 abs(X - Y)) |

The mask is exact but for an X that lies less than float32's smallest normal number (1e-38) from its bound.
"""

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from gradserve_server.graph.autodiff.vjp_activations import STEEP
from gradserve_server.graph.values import constant, is_op, same_shape, supersede


def fuse_slopes(model: ir.Model) -> None:
    """Rewrites them, in place, in the main graph."""
    before: set[ir.Node] = set()
    for node in list(model.graph):
        if is_op(node, "Cast"):
            _clip_mask(model.graph, node, before)
        elif is_op(node, "Add", "Sum"):
            _swish_slope(model.graph, node, before)
        before.add(node)
    RemoveUnusedNodesPass()(model)


def _clip_mask(graph: ir.Graph, cast: ir.Node, before: set[ir.Node]) -> None:
    found = _inside(cast.inputs[0], before)
    if found is None or cast.attributes.get_int("to") != ir.DataType.FLOAT:
        return
    x, y = found
    if x.dtype is not ir.DataType.FLOAT:
        return
    out = cast.outputs[0]
    difference = _new(graph, cast, "Sub", [x, y], f"{out.name}/difference", like=x)
    distance = _new(graph, cast, "Abs", [difference], f"{out.name}/distance", like=x)
    mask = _new(graph, cast, "HardSigmoid", [distance], f"{out.name}/mask", like=x, alpha=-STEEP, beta=1.0)
    supersede(out, mask)
    graph.remove(cast, safe=True)


def _inside(mask: ir.Value | None, before: set[ir.Node]) -> tuple[ir.Value, ir.Value] | None:
    """X and Y = clip(X) of a mask that says where X is within its bounds."""
    node = mask.producer() if mask is not None else None
    if node is not None and is_op(node, "Equal"):
        return _unchanged(node)
    return _between(node, before) if node is not None and is_op(node, "And") else None


def _unchanged(node: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """As the portable backend says it: X = Y."""
    x, y = node.inputs
    clip = y.producer() if y is not None else None
    return (x, y) if x is not None and y is not None and _clips(clip, x) else None


def _between(node: ir.Node, before: set[ir.Node]) -> tuple[ir.Value, ir.Value] | None:
    """As the training backend says it: X >= low and X <= high."""
    tests = [value.producer() if value is not None else None for value in node.inputs]
    bounds = {test.op_type: test.inputs for test in tests if test is not None}
    if bounds.keys() != {"GreaterOrEqual", "LessOrEqual"}:
        return None
    (x, low), (same, high) = bounds["GreaterOrEqual"], bounds["LessOrEqual"]
    if x is None or x is not same:
        return None
    for user, _ in x.uses():
        if user in before and _clips(user, x) and _equal(user.inputs[1], low) and _equal(user.inputs[2], high):
            return x, user.outputs[0]
    return None


def _clips(node: ir.Node | None, x: ir.Value) -> bool:
    """Whether the node clips x between two finite constants: else Y may be infinite, and X - Y not a number."""
    if node is None or not is_op(node, "Clip") or node.inputs[0] is not x or len(node.inputs) != 3:
        return False
    bounds = [constant(value) for value in node.inputs[1:]]
    return all(array is not None and np.isfinite(array).all() for array in bounds)


def _equal(a: ir.Value | None, b: ir.Value | None) -> bool:
    first, second = constant(a), constant(b)
    return a is b or (first is not None and second is not None and np.array_equal(first, second))


def _swish_slope(graph: ir.Graph, add: ir.Node, before: set[ir.Node]) -> None:
    """Finds dY s + (dY X) s (1 - s) among the terms of a sum."""
    for direct in _terms(add):
        for s, dy in (direct.inputs, direct.inputs[::-1]):
            sigmoid = s.producer() if s is not None else None
            if s is None or dy is None or sigmoid is None or not is_op(sigmoid, "Sigmoid") or not same_shape(s, dy):
                continue
            x = sigmoid.inputs[0]
            products = [user for user, _ in s.uses() if user in before and is_op(user, "Mul")]
            y = next((user.outputs[0] for user in products if set(user.inputs) == {x, s}), None)
            for through in _terms(add):
                rest = _slope_of(through, s, dy, x)
                if y is not None and rest is not None:
                    _replace(graph, add, (direct, through), (s, dy, y, rest))
                    return


def _terms(add: ir.Node) -> list[ir.Node]:
    """The products that nothing but the sum reads."""
    producers = [value.producer() for value in add.inputs if value is not None and len(value.uses()) == 1]
    return [node for node in producers if node is not None and is_op(node, "Mul")]


def _slope_of(node: ir.Node, s: ir.Value, dy: ir.Value, x: ir.Value | None) -> ir.Value | None:
    """1 - s, where the node is ((dY X) s) (1 - s)."""
    for product, rest in (node.inputs, node.inputs[::-1]):
        inner = product.producer() if product is not None else None
        complement = rest.producer() if rest is not None else None
        if inner is None or complement is None or not is_op(inner, "Mul") or not is_op(complement, "Sub"):
            continue
        one = constant(complement.inputs[0])
        if one is None or one.size != 1 or one.item() != 1 or complement.inputs[1] is not s or s not in inner.inputs:
            continue
        other = inner.inputs[1 - inner.inputs.index(s)]
        outer = other.producer() if other is not None else None
        if outer is not None and is_op(outer, "Mul") and set(outer.inputs) == {dy, x}:
            return rest
    return None


def _replace(
    graph: ir.Graph, add: ir.Node, terms: tuple[ir.Node, ir.Node], of: tuple[ir.Value, ir.Value, ir.Value, ir.Value]
) -> None:
    (direct, through), (s, dy, y, rest) = terms, of
    name = f"{direct.outputs[0].name}/swish"
    curved = _new(graph, add, "Mul", [y, rest], f"{name}/curved", like=s)
    slope = _new(graph, add, "Add", [s, curved], f"{name}/slope", like=s)
    whole = _new(graph, add, "Mul", [dy, slope], f"{name}/product", like=s)
    others = [value for value in add.inputs if value not in (direct.outputs[0], through.outputs[0])]
    if others:
        total = _new(graph, add, "Sum" if len(others) > 1 else "Add", [whole, *others], f"{name}/sum", like=s)  # type: ignore[list-item]
    else:
        total = whole
    supersede(add.outputs[0], total)
    graph.remove(add, safe=True)


def _new(
    graph: ir.Graph, before: ir.Node, op: str, inputs: list[ir.Value], name: str, *, like: ir.Value, **attributes: float
) -> ir.Value:
    node = ir.node(op, inputs, attributes or None, name=name)
    out = node.outputs[0]
    out.name, out.type, out.shape = name, like.type, like.shape
    graph.insert_before(before, node)
    return out
