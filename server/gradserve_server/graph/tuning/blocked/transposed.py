"""Transposed convolutions of single channels with stride 2: four small convolutions, whose results are interleaved.

Y[2 q + r] = sum over taps t, with r + begin - t even, of X[q + (r + begin - t) / 2] w[t]

For each axis and each r that is a convolution of stride 1. onnxruntime's own takes the channels one by one.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
import onnx_ir as ir

from gradserve_server.graph.tuning.blocked.filters import Kind, kind_of, reorder, reorder_bias
from gradserve_server.graph.tuning.blocked.layout import Layout
from gradserve_server.graph.tuning.blocked.table import fills_blocks, handles, static_image, text
from gradserve_server.graph.values import constant

STRIDE = 2


@dataclass(frozen=True)
class Phase:
    """Every second output along an axis.

    Attributes:
        taps: Of the kernel, in the order of the small one's.
        begin: Padding before the input.
        end: Padding after it.
    """

    taps: tuple[int, ...]
    begin: int
    end: int


def phases(kernel: int, begin: int, size: int, out: int) -> list[Phase] | None:
    """The phases along an axis; None where one has no taps, or would have to be cut."""
    found = []
    for r in range(STRIDE):
        offsets = {(r + begin - t) // STRIDE: t for t in range(kernel) if (r + begin - t) % STRIDE == 0}
        if not offsets:
            return None
        low, high = min(offsets), max(offsets)
        end = out // STRIDE - 1 + high - (size - 1)
        if -low < 0 or end < 0:
            return None
        found.append(Phase(tuple(offsets[o] for o in range(low, high + 1)), -low, end))
    return found


@handles("ConvTranspose")
def _depthwise(layout: Layout, node: ir.Node) -> bool:
    x, out = node.inputs[0], node.outputs[0]
    weight = constant(node.inputs[1])
    if x is None or weight is None or weight.ndim != 4 or weight.shape[1] != 1 or weight.dtype != np.float32:
        return False
    before, after = static_image(x), static_image(out)
    group = node.attributes.get_int("group", 1)
    plain = text(node, "auto_pad", "NOTSET") == "NOTSET" and list(node.attributes.get_ints("dilations", [1, 1])) == [1, 1]
    plain = plain and "output_shape" not in node.attributes
    doubled = list(node.attributes.get_ints("strides", [1, 1])) == [STRIDE, STRIDE]
    if before is None or after is None or not plain or not doubled or group != weight.shape[0] or after[0] != group:
        return False
    if kind_of(weight.shape, group, layout.block) is not Kind.DEPTHWISE or not fills_blocks(layout, x):
        return False
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if (len(node.inputs) > 2 and bias is None) or any(size % STRIDE for size in after[1:]):
        return False
    pads = node.attributes.get_ints("pads", [0, 0, 0, 0])
    by_axis = [phases(weight.shape[2 + i], pads[i], before[1 + i], after[1 + i]) for i in range(2)]
    rows, columns = by_axis
    if rows is None or columns is None:
        return False
    parts: list[ir.Value] = []
    for row, column in product(rows, columns):
        small = np.ascontiguousarray(weight[:, :, row.taps][:, :, :, column.taps], np.float32)
        name = f"{out.name}/{len(parts)}"
        inputs = [layout.twin(x), layout.constant(f"{name}/weight", reorder(small, Kind.DEPTHWISE, layout.block))]
        if bias is not None:
            inputs.append(layout.constant(f"{name}/bias", reorder_bias(bias.astype(np.float32), layout.block)))
        attributes = {"kernel_shape": small.shape[2:], "strides": [1, 1], "dilations": [1, 1], "group": group}
        padding = [row.begin, column.begin, row.end, column.end]
        parts.append(layout.block_operator("Conv", inputs, name, pads=padding, **attributes))
    layout.set_twin(out, _interleaved(layout, parts, out, after))
    return True


def _interleaved(layout: Layout, parts: list[ir.Value], out: ir.Value, image: tuple[int, int, int]) -> ir.Value:
    """Blocked images in the order of rows and columns become one of twice the height and width."""
    channels, height, width = image
    groups, block = channels // layout.block, layout.block
    pixels = _sizes(layout, out, "pixels", [0, groups * height * width // 4, block])
    lines = _sizes(layout, out, "lines", [0, groups * height // 2, width * block])
    rows = []
    for left, right in (parts[:2], parts[2:]):
        pair = [layout.standard("Reshape", [part, pixels], f"{part.name}/pixels") for part in (left, right)]
        row = layout.standard("Concat", pair, f"{left.name}/row", axis=2)
        rows.append(layout.standard("Reshape", [row, lines], f"{left.name}/lines"))
    whole = layout.standard("Concat", rows, f"{out.name}/rows", axis=2)
    return layout.standard("Reshape", [whole, _sizes(layout, out, "image", [0, *image])], f"{out.name}/interleaved")


def _sizes(layout: Layout, out: ir.Value, what: str, sizes: list[int]) -> ir.Value:
    return layout.constant(f"{out.name}/{what}", np.array(sizes))
