"""Convolutions with constant weights, and what runs inside them: an activation, a sum."""

from typing import Any

import numpy as np
import onnx_ir as ir

from gradserve_server.graph.tuning.blocked.filling import MOST, bound
from gradserve_server.graph.tuning.blocked.filters import Kind, kind_of, reorder_bias, reordered
from gradserve_server.graph.tuning.blocked.layout import DOMAIN, Layout
from gradserve_server.graph.tuning.blocked.table import handles, is_image, text
from gradserve_server.graph.values import constant, same_shape

ACTIVATIONS: dict[str, tuple[tuple[str, float], ...]] = {
    "HardSigmoid": (("alpha", 0.2), ("beta", 0.5)),
    "LeakyRelu": (("alpha", 0.01),),
    "Relu": (),
    "Sigmoid": (),
    "Tanh": (),
}
"""What onnxruntime applies inside a convolution, with attributes and their defaults. Clip's are inputs."""


@handles("Conv")
def _conv(layout: Layout, node: ir.Node) -> bool:
    x, (out,) = node.inputs[0], node.outputs
    weight, bias = constant(node.inputs[1]), constant(node.inputs[2]) if len(node.inputs) > 2 else None
    given = len(node.inputs) > 2 and node.inputs[2] is not None
    weight_tensor = node.inputs[1].const_value if node.inputs[1] is not None else None
    if x is None or weight is None or weight_tensor is None or (given and bias is None):
        return False
    if weight.ndim != 4 or weight.dtype != np.float32:
        return False
    if text(node, "auto_pad", "NOTSET") != "NOTSET" or not is_image(out, weight.shape[0]):
        return False
    group = node.attributes.get_int("group", 1)
    kind = kind_of(weight.shape, group, layout.block)
    if kind is None or (kind is not Kind.DIRECT and not layout.can_be_blocked(x)):
        return False
    source = layout.plain(x) if kind is Kind.DIRECT else layout.twin(x)
    inputs = [source, layout.constant(f"{out.name}/weight", reordered(weight_tensor, kind, layout.block))]
    if bias is not None:
        inputs.append(layout.constant(f"{out.name}/bias", reorder_bias(bias.astype(np.float32), layout.block)))
    attributes: dict[str, Any] = {
        "kernel_shape": weight.shape[2:],
        "strides": node.attributes.get_ints("strides", [1, 1]),
        "dilations": node.attributes.get_ints("dilations", [1, 1]),
        "pads": node.attributes.get_ints("pads", [0, 0, 0, 0]),
        "group": group,
    }
    layout.blocked("Conv", inputs, out, **attributes)
    return True


def fusible(layout: Layout, value: ir.Value) -> ir.Node | None:
    """The convolution that makes a value which nothing but one operator reads, and nothing follows inside it."""
    maker = layout.maker(value)
    alone = layout.is_only_blocked(value) and len(value.uses()) == 1 and not value.is_graph_output()
    if maker is None or not alone or (maker.domain, maker.op_type) != (DOMAIN, "Conv") or "activation" in maker.attributes:
        return None
    return maker


def activated(layout: Layout, node: ir.Node) -> bool:
    """An activation right after a convolution runs inside it."""
    x = node.inputs[0]
    conv = fusible(layout, x) if x is not None else None
    if x is None or conv is None:
        return False
    if node.op_type == "Clip":
        bounds = [constant(value) for value in node.inputs[1:3]]
        if len(bounds) != 2 or bounds[0] is None or bounds[1] is None:
            return False
        parameters = [float(bound) for bound in bounds]  # type: ignore[arg-type]
    elif node.op_type in ACTIVATIONS:
        parameters = [node.attributes.get_float(name, default) for name, default in ACTIVATIONS[node.op_type]]
    else:
        return False
    filling = bound(node, [layout.filling(x)])
    conv.attributes.add(ir.AttrString("activation", node.op_type))
    if parameters:
        conv.attributes.add(ir.AttrFloat32s("activation_params", parameters))
    layout.take_over(x, node.outputs[0], filling)
    return True


def summed(layout: Layout, node: ir.Node) -> bool:
    """A sum with the result of a convolution runs inside it."""
    if node.op_type not in ("Add", "Sum") or len(node.inputs) != 2 or node.inputs[0] is node.inputs[1]:
        return False
    for x, other in (node.inputs, node.inputs[::-1]):
        if x is None or other is None or not same_shape(x, other) or not layout.can_be_blocked(other):
            continue
        conv = fusible(layout, x)
        if conv is None or len(conv.inputs) > 3:
            continue
        filling = layout.filling(x) + layout.filling(other)
        if not filling <= MOST and not layout.is_full(x):
            continue
        addend = layout.twin(other)
        layout.nodes.remove(conv)  # to here, where the other addend is known
        bias = conv.inputs[2] if len(conv.inputs) > 2 else None
        conv.resize_inputs(4)
        conv.replace_input_with(2, bias)
        conv.replace_input_with(3, addend)
        layout.nodes.append(conv)
        layout.take_over(x, node.outputs[0], filling)
        return True
    return False
