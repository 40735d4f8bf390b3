"""One number for each channel, or for each sample and channel, with images: [N, C, H, W] and [N, C, 1, 1].

Numbers [N, C, 1, 1] lie in memory as [N, C / B, 1, B] does: nothing is reordered. Constants become the weights of a
convolution over single channels, or the bias of the one before.
"""

import numpy as np
import onnx_ir as ir

from gradserve_server.graph.tuning.blocked.convolution import fusible
from gradserve_server.graph.tuning.blocked.filters import Array, Kind, reorder
from gradserve_server.graph.tuning.blocked.layout import Layout
from gradserve_server.graph.tuning.blocked.table import fills_blocks, handles, is_scalar, static_image
from gradserve_server.graph.tuning.fused import TABLE as PROGRAMS
from gradserve_server.graph.tuning.fused.fusion import known
from gradserve_server.graph.values import constant, is_op, same_shape, shape_of


@handles(*PROGRAMS)
def _in_a_program(layout: Layout, node: ir.Node) -> bool:
    """Images with numbers for each channel, as our own operator runs them in one pass."""
    operands = PROGRAMS[node.op_type].reads(node) if layout.fuses else None
    if not operands or known(node.outputs[0]) is None:
        return False
    images = [value for value in operands if same_shape(value, node.outputs[0])]
    wide = [value for value in images if _spread_from(node.outputs[0], value) is None]
    if not any(layout.is_blocked(value) for value in wide) or not all(fills_blocks(layout, value) for value in wide):
        return False
    if all(value in wide or is_scalar(value) for value in operands):
        return False
    read: dict[ir.Value, ir.Value] = {}
    for value in operands:
        if value in wide:
            read[value] = layout.twin(value)
        elif (numbers := _spread_from(node.outputs[0], value)) is not None:
            read[value] = layout.plain(numbers)
        elif (array := _numbers(wide[0], value)) is not None:
            if node.op_type == "Add" and _more_bias(layout, wide[0], array, node.outputs[0]):
                return True
            read[value] = layout.constant(f"{value.name}/numbers", array.reshape(1, -1, 1, 1))
        elif not is_scalar(value):
            return False
    layout.in_program(node, [read.get(value, value) if value is not None else None for value in node.inputs])
    return True


@handles("Add", "Mul")
def _constant_per_channel(layout: Layout, node: ir.Node) -> bool:
    for x, other in (node.inputs, node.inputs[::-1]):
        numbers = _numbers(x, other)
        if x is None or numbers is None or not layout.is_blocked(x) or not fills_blocks(layout, x):
            continue
        if node.op_type == "Add" and _more_bias(layout, x, numbers, node.outputs[0]):
            return True
        scale = numbers if node.op_type == "Mul" else np.ones_like(numbers)
        weight = reorder(scale.reshape(-1, 1, 1, 1), Kind.DEPTHWISE, layout.block)
        name = f"{node.outputs[0].name}/per_channel"
        inputs = [layout.twin(x), layout.constant(f"{name}/scale", weight)]
        if node.op_type == "Add":
            inputs.append(layout.constant(f"{name}/offset", numbers))
        one, none = [1, 1], [0, 0, 0, 0]
        layout.blocked(
            "Conv", inputs, node.outputs[0], kernel_shape=one, strides=one, dilations=one, pads=none, group=numbers.size
        )
        return True
    return False


def _numbers(x: ir.Value | None, other: ir.Value | None) -> Array | None:
    """A constant [C, 1, 1] or [1, C, 1, 1] beside an image of C channels."""
    array, shape = constant(other), shape_of(x) if x is not None else None
    if array is None or shape is None or len(shape) != 4 or array.dtype != np.float32 or array.ndim not in (3, 4):
        return None
    channels = (1,) * (array.ndim - 3) + (shape[1], 1, 1)
    return np.ascontiguousarray(array.reshape(-1), np.float32) if array.shape == channels and array.size > 1 else None


def _more_bias(layout: Layout, x: ir.Value, numbers: Array, out: ir.Value) -> bool:
    conv = fusible(layout, x)
    if conv is None or len(conv.inputs) > 3:
        return False
    before = conv.inputs[2] if len(conv.inputs) == 3 else None
    bias = constant(before)
    total = layout.constant(f"{out.name}/bias", numbers if bias is None else np.add(bias, numbers, dtype=np.float32))
    conv.resize_inputs(3)
    conv.replace_input_with(2, total)
    layout.take_over(x, out, 0.0)
    return True


@handles("Add", "Mul")
def _number_per_channel(layout: Layout, node: ir.Node) -> bool:
    name = node.outputs[0].name or ""
    for index, (x, other) in enumerate((node.inputs, node.inputs[::-1])):
        image = static_image(x) if x is not None and layout.is_blocked(x) and fills_blocks(layout, x) else None
        numbers = _spread_from(x, other) if x is not None and other is not None else None
        if x is None or image is None or numbers is None:
            continue
        channels, height, width = image
        groups, block = channels // layout.block, layout.block
        # Repeated along W: onnxruntime repeats short rows slowly.
        column = _reshaped(layout, layout.plain(numbers), f"{name}/column", [0, groups, 1, block])
        row = layout.standard("Tile", [column, layout.constant(f"{name}/repeats", np.array([1, 1, width, 1]))], name)
        row = _reshaped(layout, row, f"{name}/row", [0, groups, 1, width * block])
        rows = _reshaped(layout, layout.twin(x), f"{name}/rows", [0, groups, height, width * block])
        pair = [rows, row] if index == 0 else [row, rows]
        result = layout.standard(node.op_type, pair, name)
        layout.set_twin(node.outputs[0], _reshaped(layout, result, f"{name}/image", [0, *image]))
        return True
    return False


def _spread_from(x: ir.Value, other: ir.Value) -> ir.Value | None:
    """The numbers [N, C, 1, 1] that a value is, or that it was spread from over the shape of x."""
    shape = shape_of(x)
    if shape is None or shape[2:] == (1, 1) or other.dtype is not ir.DataType.FLOAT:
        return None
    wanted, maker = (*shape[:2], 1, 1), other.producer()
    if shape_of(other) == wanted:
        return other
    if maker is None or not is_op(maker, "Expand") or not same_shape(x, other):
        return None
    source = maker.inputs[0]
    return source if source is not None and shape_of(source) == wanted else None


@handles("ReduceMean", "ReduceSum")
def _over_positions(layout: Layout, node: ir.Node) -> bool:
    x = node.inputs[0]
    axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if x is None or axes is None or sorted(axis % 4 for axis in axes.tolist()) != [2, 3]:
        return False
    image = static_image(x)
    if image is None or not layout.is_only_blocked(x) or not fills_blocks(layout, x):
        return False
    if node.attributes.get_int("keepdims", 1) != 1:
        return False
    if layout.fuses and known(x) is not None:
        layout.numbers_in_program(node, [layout.twin(x), node.inputs[1]])
        return True
    name = node.outputs[0].name or ""
    channels, height, width = image
    grouped = [0, channels // layout.block, height * width, layout.block]
    over = [_reshaped(layout, layout.twin(x), f"{name}/grouped", grouped), layout.constant(f"{name}/axis", np.array([2]))]
    reduced = layout.standard(node.op_type, over, name, keepdims=1)
    layout.set_plain(node.outputs[0], _reshaped(layout, reduced, f"{name}/numbers", [0, channels, 1, 1]))
    return True


def _reshaped(layout: Layout, x: ir.Value, name: str, sizes: list[int]) -> ir.Value:
    return layout.standard("Reshape", [x, layout.constant(f"{name}/sizes", np.array(sizes))], name)
