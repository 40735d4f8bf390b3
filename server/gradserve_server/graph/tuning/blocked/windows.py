"""Pools, what joins and parts along the channels, and questions about shapes."""

import numpy as np
import onnx_ir as ir

from gradserve_server.graph.tuning.blocked.layout import Layout
from gradserve_server.graph.tuning.blocked.table import fills_blocks, handles, is_image, text
from gradserve_server.graph.tuning.pools import GRADIENT
from gradserve_server.graph.values import constant

IMAGE_AXES = 4

REPEATS = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
"""Settings of a Resize that repeats pixels."""


@handles("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
def _pool(layout: Layout, node: ir.Node) -> bool:
    x = node.inputs[0]
    plain = node.attributes.get_int("ceil_mode", 0) == 0 and text(node, "auto_pad", "NOTSET") == "NOTSET"
    if node.op_type == "AveragePool":  # the blocked one has no dilations
        plain = plain and set(node.attributes.get_ints("dilations", [1])) == {1}
    if x is None or len(node.outputs) != 1 or not layout.is_blocked(x) or not plain or not is_image(node.outputs[0]):
        return False
    made = layout.blocked(node.op_type, [layout.twin(x)], node.outputs[0], filling=layout.filling(x))
    for name, attr in node.attributes.items():
        if name not in ("ceil_mode", "storage_order") and (name, node.op_type) != ("dilations", "AveragePool"):
            made.attributes.add(attr)
    return True


@handles("Resize")
def _repeat(layout: Layout, node: ir.Node) -> bool:
    """Each pixel repeated a whole number of times: the adjoint of a mean over windows that lie side by side."""
    x, _, given, *sizes = (*node.inputs, None, None)
    scales = constant(given)
    if x is None or scales is None or scales.size != IMAGE_AXES or any(sizes) or not layout.is_blocked(x):
        return False
    factors = scales.astype(int).tolist()
    is_whole = np.array_equal(scales, factors) and factors[:2] == [1, 1] and min(factors) >= 1
    is_plain = all(text(node, name, "") == value for name, value in REPEATS.items()) and "axes" not in node.attributes
    if not is_whole or not is_plain or not is_image(node.outputs[0]):
        return False
    layout.blocked("Upsample", [layout.twin(x)], node.outputs[0], filling=layout.filling(x), scales=factors, mode="nearest")
    return True


@handles(GRADIENT)
def _max_pool_gradient(layout: Layout, node: ir.Node) -> bool:
    x, dy = node.inputs
    if x is None or dy is None or not (layout.is_blocked(x) or layout.is_blocked(dy)):
        return False
    if not fills_blocks(layout, x) or not fills_blocks(layout, dy):
        return False
    layout.same(node, [layout.twin(x), layout.twin(dy)])
    made = layout.nodes[-1]
    made.attributes.add(ir.AttrInt64("block", layout.block))
    return True


@handles("Concat")
def _concat(layout: Layout, node: ir.Node) -> bool:
    parts = [value for value in node.inputs if value is not None]
    if node.attributes.get_int("axis", 0) not in (1, -3) or not any(layout.is_blocked(value) for value in parts):
        return False
    if not all(fills_blocks(layout, value) for value in parts):
        return False
    layout.same(node, [layout.twin(value) for value in parts])
    return True


@handles("Split")
def _split(layout: Layout, node: ir.Node) -> bool:
    x = node.inputs[0]
    if x is None or node.attributes.get_int("axis", 0) not in (1, -3) or not layout.is_blocked(x):
        return False
    if not all(fills_blocks(layout, value) for value in (x, *node.outputs)):
        return False
    layout.same(node, [layout.twin(x), *node.inputs[1:]])
    return True


@handles("Shape", "Size")
def _shape(layout: Layout, node: ir.Node) -> bool:
    """Both forms have the same shape where the channels fill their blocks."""
    x = node.inputs[0]
    if x is None or not layout.is_only_blocked(x) or not fills_blocks(layout, x):
        return False
    node.replace_input_with(0, layout.twin(x))
    layout.nodes.append(node)
    return True
