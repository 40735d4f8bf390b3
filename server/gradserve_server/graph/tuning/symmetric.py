"""Transposed convolutions padded alike at both ends of an axis: onnxruntime's CUDA provider leaves others to the processor.

The adjoint of a strided convolution often has begin > end: its last window does not reach as far as the padding. What is
not cut off at the end is output padding as well: pads (1, 0) are pads (1, 1) with one element of output padding. Where that
would be a whole stride, or begin < end, what is too much is cut off by a Slice.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from gradserve_server.graph.tuning.transposed import Axis, axes_of
from gradserve_server.graph.values import is_op, supersede

TO_THE_END = np.iinfo(np.int64).max


def pad_symmetrically(model: ir.Model) -> None:
    """Rewrites them, in place, subgraphs included. Those whose sizes nothing tells stay as they are.

    Args:
        model: Of opset 10 or newer, where a Slice is needed.
    """
    for node in list(model.graph.all_nodes()):
        axes = axes_of(node) if is_op(node, "ConvTranspose") else None
        # cuDNN takes no negative ones.
        if axes is None or min(min(axis.begin, axis.end) for axis in axes) < 0:
            continue
        if any(axis.begin != axis.end for axis in axes) or _is_told_otherwise(node):
            padded = [_symmetric(axis) for axis in axes]
            _rewrite(node, padded, [_surplus(axis, new) for axis, new in zip(axes, padded, strict=True)])


def _is_told_otherwise(node: ir.Node) -> bool:
    """Whether its padding is not told as such."""
    return "output_shape" in node.attributes or node.attributes.get_string("auto_pad", "NOTSET").startswith("SAME")


def _symmetric(axis: Axis) -> Axis:
    """The same with begin = end, at least as much at either end."""
    extra = axis.extra + axis.begin - axis.end
    if axis.begin >= axis.end and extra < axis.stride:
        return replace(axis, extra=extra, end=axis.begin)
    least = min(axis.begin, axis.end)
    return replace(axis, begin=least, end=least)


def _surplus(axis: Axis, padded: Axis) -> tuple[int, int]:
    """Elements that are too much when `padded` takes its place: at the start, at the end."""
    before = axis.begin - padded.begin
    return before, padded.extra - padded.begin - padded.end - (axis.extra - axis.begin - axis.end) - before


def _rewrite(node: ir.Node, axes: list[Axis], surplus: list[tuple[int, int]]) -> None:
    graph, out, begins = node.graph, node.outputs[0], [axis.begin for axis in axes]
    assert graph is not None
    kept = {name: value for name, value in node.attributes.items() if name not in ("auto_pad", "output_shape")}
    padding = {"pads": [*begins, *begins], "output_padding": [axis.extra for axis in axes]}
    fresh = ir.node("ConvTranspose", node.inputs, {**kept, **padding}, name=node.name)
    whole = fresh.outputs[0]
    whole.name, whole.type = f"{out.name}/symmetric", out.type
    graph.insert_before(node, fresh)
    if any(any(parts) for parts in surplus):
        starts, ends = ([parts[0] for parts in surplus], [-parts[1] or TO_THE_END for parts in surplus])
        bounds = [
            _numbers(node, f"{whole.name}/{name}", numbers)
            for name, numbers in (("starts", starts), ("ends", ends), ("axes", range(2, 2 + len(surplus))))
        ]
        cut = ir.node("Slice", [whole, *bounds], name=f"{whole.name}/cut")
        graph.insert_before(node, cut)
        whole = cut.outputs[0]
    supersede(out, whole)
    graph.remove(node, safe=True)


def _numbers(before: ir.Node, name: str, numbers: Iterable[int]) -> ir.Value:
    """A Constant in the same graph."""
    made = ir.node("Constant", [], {"value": ir.tensor(np.array([*numbers], np.int64), name=name)}, name=name)
    made.outputs[0].name = name
    assert before.graph is not None
    before.graph.insert_before(before, made)
    return made.outputs[0]
