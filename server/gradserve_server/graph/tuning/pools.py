"""Where graphs take the gradient of a maximum over windows, and that as one operator of ours.

The rule (autodiff/vjp_pooling) runs a second MaxPool for its indices, twenty times slower than the first, and scatters by
them, in the plain layout. `MaxPoolGradient` looks for the maxima itself (csrc/kernels/simd/max_pool.h).
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from gradserve_server.graph.tuning.fused import DOMAIN
from gradserve_server.graph.values import constant, is_op, same_shape, shape_of, supersede

GRADIENT = "MaxPoolGradient"


class MaxPoolGradient(NamedTuple):
    """The gradient of a maximum over windows of two axes, float32."""

    node: ir.Node
    """Whose output it is."""
    pool: ir.Node
    """A MaxPool of x over the same windows."""
    x: ir.Value
    dy: ir.Value
    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    pads: list[int]


def max_pool_gradients(model: ir.Model) -> Iterator[MaxPoolGradient]:
    """Those of the main graph, each to be replaced before the next is asked for."""
    for node in list(model.graph):
        match = _by_scattering(node) if is_op(node, "Reshape") else _by_unpooling(node) if is_op(node, "MaxUnpool") else None
        pool = _pool_of(match[1]) if match is not None else None
        if match is None or pool is None or not _fits(node, pool, match[0]):
            continue
        x, rank, attributes = pool.inputs[0], 2, pool.attributes
        assert x is not None
        ones = [1] * rank
        yield MaxPoolGradient(
            node,
            pool,
            x,
            match[0],
            list(attributes.get_ints("kernel_shape", [])),
            list(attributes.get_ints("strides", ones)),
            list(attributes.get_ints("dilations", ones)),
            list(attributes.get_ints("pads", [0] * 2 * rank)),
        )


def replace_max_pool_gradients(model: ir.Model) -> None:
    """Rewrites them, in place."""
    found = False
    for gradient in max_pool_gradients(model):
        found, out = True, gradient.node.outputs[0]
        geometry = {"strides": gradient.strides, "dilations": gradient.dilations, "pads": gradient.pads}
        attributes: dict[str, Any] = {"block": 1, "kernel_shape": gradient.kernel, **geometry}
        name = f"{out.name}/max_pool_gradient"
        made = ir.node(GRADIENT, [gradient.x, gradient.dy], attributes, domain=DOMAIN, name=name)
        replace(gradient, [made], made.outputs[0])
    if found:
        model.graph.opset_imports[DOMAIN] = 1
        RemoveUnusedNodesPass()(model)


def replace(gradient: MaxPoolGradient, nodes: list[ir.Node], by: ir.Value) -> None:
    """Puts nodes in its place, one of whose outputs is the gradient."""
    graph = gradient.node.graph
    assert graph is not None
    graph.insert_before(gradient.node, nodes)
    supersede(gradient.node.outputs[0], by)
    graph.remove(gradient.node, safe=True)


def _by_scattering(node: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """dY and the indices of reshape(scatter_add(0, reshape(indices), reshape(dY)))."""
    scatter = _maker(node.inputs[0], "ScatterElements")
    if scatter is None or scatter.attributes.get_string("reduction", "none") != "add":
        return None
    if any(value is None or len(shape_of(value) or ()) != 1 for value in scatter.inputs):  # flat, all of them
        return None
    zeros, indices, dy = (
        _maker(value, op) for value, op in zip(scatter.inputs, ("ConstantOfShape", "Reshape", "Reshape"), strict=True)
    )
    if zeros is None or indices is None or dy is None:
        return None
    if "value" in zeros.attributes and zeros.attributes["value"].as_tensor().numpy().any():
        return None
    if dy.inputs[0] is None or indices.inputs[0] is None:
        return None
    return dy.inputs[0], indices.inputs[0]


def _by_unpooling(node: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """The same of a MaxUnpool, where no two windows overlap: it keeps the last of two, and a gradient is their sum."""
    dy, indices = node.inputs[:2]
    pool = _pool_of(indices) if indices is not None else None
    if dy is None or indices is None or pool is None:
        return None
    kernel = pool.attributes.get_ints("kernel_shape", [])
    ones = [1] * len(kernel)
    strides, dilations = pool.attributes.get_ints("strides", ones), pool.attributes.get_ints("dilations", ones)
    apart = all(s > d * (k - 1) for s, d, k in zip(strides, dilations, kernel, strict=True))
    return (dy, indices) if apart else None


def _maker(value: ir.Value | None, op: str) -> ir.Node | None:
    node = value.producer() if value is not None else None
    return node if node is not None and is_op(node, op) else None


def _pool_of(indices: ir.Value) -> ir.Node | None:
    """The MaxPool over two axes that gave the indices, where what lies in its windows is known."""
    pool = _maker(indices, "MaxPool")
    if pool is None or len(pool.outputs) != 2 or pool.outputs[1] is not indices:
        return None
    if pool.attributes.get_string("auto_pad", "NOTSET") != "NOTSET" or pool.attributes.get_int("storage_order", 0) != 0:
        return None
    return pool if len(pool.attributes.get_ints("kernel_shape", [])) == 2 else None


def _fits(node: ir.Node, pool: ir.Node, dy: ir.Value) -> bool:
    x, out = pool.inputs[0], node.outputs[0]
    shape = shape_of(out)
    return (
        x is not None
        and x.dtype is ir.DataType.FLOAT
        and shape is not None
        and len(shape) == 4
        and same_shape(x, out)
        and same_shape(dy, pool.outputs[0])
        and constant(x) is None
    )
