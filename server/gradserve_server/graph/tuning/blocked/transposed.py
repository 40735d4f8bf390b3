"""Transposed convolutions with stride 2: four small convolutions, whose results are interleaved.

Y[2 q + r] = sum over taps t, with r + begin - t even, of X[q + (r + begin - t) / 2] w[t]

For each axis and each r that is a convolution of stride 1. onnxruntime's own knows the plain layout only, and takes single
channels one by one.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
import onnx_ir as ir

from gradserve_server.graph.tuning.blocked.filters import Array, Kind, kind_of, reorder, reorder_bias
from gradserve_server.graph.tuning.blocked.layout import Layout
from gradserve_server.graph.tuning.blocked.table import fills_blocks, handles, static_image, text
from gradserve_server.graph.values import constant

STRIDE = 2

INTERLEAVE = "Interleave"
"""Ours (csrc/ort/interleave.cc)."""


@dataclass(frozen=True)
class Phase:
    """Every second output along an axis.

    Attributes:
        taps: Of the kernel, in the order of the small one's; none where the outputs are 0.
        begin: Padding before the input.
        end: Padding after it.
    """

    taps: tuple[int, ...]
    begin: int
    end: int


def phases(kernel: int, begin: int, size: int, out: int) -> list[Phase] | None:
    """The phases along an axis; None where one would have to be cut."""
    found = []
    for r in range(STRIDE):
        offsets = {(r + begin - t) // STRIDE: t for t in range(kernel) if (r + begin - t) % STRIDE == 0}
        if not offsets:
            found.append(Phase((), 0, 0))
            continue
        low, high = min(offsets), max(offsets)
        end = out // STRIDE - 1 + high - (size - 1)
        if -low < 0 or end < 0:
            return None
        found.append(Phase(tuple(offsets[o] for o in range(low, high + 1)), -low, end))
    return found


@handles("ConvTranspose")
def _doubling(layout: Layout, node: ir.Node) -> bool:
    x, out = node.inputs[0], node.outputs[0]
    given = constant(node.inputs[1])
    if x is None or given is None or given.ndim != 4 or given.dtype != np.float32 or not _doubles(node):
        return False
    weight = given.astype(np.float32, copy=False)
    group = node.attributes.get_int("group", 1)
    kind, by_axis = _kind(layout, weight, group), _phases(node, weight)
    if kind is None or by_axis is None or not fills_blocks(layout, x) or not fills_blocks(layout, out):
        return False
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    whole = all(phase.taps for phases_ in by_axis for phase in phases_)
    # Without our operator every part has to be there; and a bias would have to fill one that is not.
    if (len(node.inputs) > 2 and bias is None) or (not whole and (bias is not None or not layout.fuses)):
        return False
    parts = [
        _part(layout, node, weight[:, :, row.taps][:, :, :, column.taps], kind, (row, column))
        for row, column in product(*by_axis)
    ]
    there = [part for part in parts if part is not None]
    if layout.fuses:
        present = [int(part is not None) for part in parts]
        layout.our_operator(INTERLEAVE, there, out, block=layout.block, present=present)
    else:
        layout.set_twin(out, _interleaved(layout, there, out))
    return True


def _doubles(node: ir.Node) -> bool:
    attributes = node.attributes
    plain = text(node, "auto_pad", "NOTSET") == "NOTSET" and "output_shape" not in attributes
    dense = list(attributes.get_ints("dilations", [1, 1])) == [1, 1]
    return plain and dense and list(attributes.get_ints("strides", [1, 1])) == [STRIDE, STRIDE]


def _kind(layout: Layout, weight: Array, group: int) -> Kind | None:
    """The kernel of the small convolutions: of single channels; with our operator to interleave, any blocked one pays."""
    if group == 1:
        kind = kind_of((weight.shape[1], weight.shape[0], *weight.shape[2:]), 1, layout.block)
        return kind if layout.fuses and kind is Kind.BLOCKED else None
    return kind_of(weight.shape, group, layout.block) if weight.shape[:2] == (group, 1) else None


def _phases(node: ir.Node, weight: Array) -> tuple[list[Phase], list[Phase]] | None:
    """Of rows and columns; None where the image is not exactly doubled."""
    before, after = (static_image(value) if value is not None else None for value in (node.inputs[0], node.outputs[0]))
    if before is None or after is None or after[1:] != (STRIDE * before[1], STRIDE * before[2]):
        return None
    pads = node.attributes.get_ints("pads", [0, 0, 0, 0])
    rows, columns = (phases(weight.shape[2 + i], pads[i], before[1 + i], after[1 + i]) for i in range(2))
    return (rows, columns) if rows is not None and columns is not None else None


def _part(layout: Layout, node: ir.Node, small: Array, kind: Kind, axes: tuple[Phase, Phase]) -> ir.Value | None:
    """Every second row and column; None for zeros."""
    if not small.size:
        return None
    row, column = axes
    filters = small if kind is Kind.DEPTHWISE else small.transpose(1, 0, 2, 3)
    name = f"{node.outputs[0].name}/part"
    ordered = reorder(np.ascontiguousarray(filters, np.float32), kind, layout.block)
    x, bias = node.inputs[0], constant(node.inputs[2]) if len(node.inputs) > 2 else None
    assert x is not None
    inputs = [layout.twin(x), layout.constant(f"{name}/weight", ordered)]
    if bias is not None:
        inputs.append(layout.constant(f"{name}/bias", reorder_bias(bias.astype(np.float32), layout.block)))
    group = node.attributes.get_int("group", 1)
    attributes = {"kernel_shape": small.shape[2:], "strides": [1, 1], "dilations": [1, 1], "group": group}
    padding = [row.begin, column.begin, row.end, column.end]
    return layout.block_operator("Conv", inputs, name, pads=padding, **attributes)


def _interleaved(layout: Layout, parts: list[ir.Value], out: ir.Value) -> ir.Value:
    """Blocked images in the order of rows and columns become one of twice the height and width."""
    image = static_image(out)
    assert image is not None
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
