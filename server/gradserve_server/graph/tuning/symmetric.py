"""Transposed convolutions padded alike at both ends of an axis: onnxruntime's CUDA provider leaves others to the processor.

    along one axis:   size of Y = (size of X - 1) * stride + output_padding + extent - begin - end

The adjoint of a strided convolution often has begin > end: its last window does not reach as far as the padding. What is
not cut off at the end is output padding as well: pads (1, 0) are pads (1, 1) with one element of output padding. Where that
would be a whole stride, or begin < end, what is too much is cut off by a Slice.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from gradserve_server.graph.values import is_op, shape_of, supersede

TO_THE_END = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a transposed convolution."""

    stride: int
    extra: int
    """`output_padding`."""
    begin: int
    end: int

    def symmetric(self) -> "Axis":
        """The same with begin = end, at least as much at either end."""
        extra = self.extra + self.begin - self.end
        if self.begin >= self.end and extra < self.stride:
            return Axis(self.stride, extra, self.begin, self.begin)
        least = min(self.begin, self.end)
        return Axis(self.stride, self.extra, least, least)

    def surplus(self, padded: "Axis") -> tuple[int, int]:
        """Elements that are too much when `padded` takes its place: at the start, at the end."""
        before = self.begin - padded.begin
        return before, padded.extra - padded.begin - padded.end - (self.extra - self.begin - self.end) - before


def pad_symmetrically(model: ir.Model) -> None:
    """Rewrites them, in place, subgraphs included. Those whose sizes nothing tells stay as they are.

    Args:
        model: Of opset 10 or newer, where a Slice is needed.
    """
    for node in list(model.graph.all_nodes()):
        if is_op(node, "ConvTranspose") and (axes := _axes(node)) is not None:
            padded = [axis.symmetric() for axis in axes]
            _rewrite(node, padded, [axis.surplus(new) for axis, new in zip(axes, padded, strict=True)])


def _axes(node: ir.Node) -> list[Axis] | None:
    """The axes of a node that is not symmetric, or may not be; None where it is, cannot be, or they are not known."""
    kernel = _kernel(node)
    if kernel is None:
        return None
    rank, attributes = len(kernel), node.attributes
    strides, extras = attributes.get_ints("strides", [1] * rank), attributes.get_ints("output_padding", [0] * rank)
    dilations, mode = attributes.get_ints("dilations", [1] * rank), attributes.get_string("auto_pad", "NOTSET")
    extents = [dilation * (size - 1) + 1 for dilation, size in zip(dilations, kernel, strict=True)]
    totals: list[int]
    if asked := attributes.get_ints("output_shape", []):
        sizes = _spatial(node.inputs[0], rank)
        if sizes is None:
            return None
        whole = zip(sizes, strides, extras, extents, asked[-rank:], strict=True)
        totals = [(size - 1) * stride + extra + extent - wanted for size, stride, extra, extent, wanted in whole]
    elif mode.startswith("SAME"):
        totals = [extra + extent - stride for extra, extent, stride in zip(extras, extents, strides, strict=True)]
    elif mode == "VALID":
        return None
    else:
        pads = attributes.get_ints("pads", [0] * 2 * rank)
        ends = zip(strides, extras, pads[:rank], pads[rank:], strict=True)
        axes = [Axis(*axis) for axis in ends]
        # cuDNN takes no negative ones.
        return None if all(axis.begin == axis.end for axis in axes) or min(pads) < 0 else axes
    if min(totals) < 0:  # runtimes disagree on what that means
        return None
    begins = [total // 2 if mode == "SAME_UPPER" else (total + 1) // 2 for total in totals]
    return [Axis(s, e, begin, total - begin) for s, e, begin, total in zip(strides, extras, begins, totals, strict=True)]


def _kernel(node: ir.Node) -> list[int] | None:
    """Sizes of the kernel: from the attribute, else from the weight's shape."""
    if "kernel_shape" in node.attributes:
        return list(node.attributes["kernel_shape"].as_ints())
    weight = node.inputs[1]
    shape = shape_of(weight) if weight is not None else None
    return _spatial(weight, len(shape) - 2) if shape is not None else None


def _spatial(value: ir.Value | None, rank: int) -> list[int] | None:
    shape = shape_of(value) if value is not None else None
    known = [size for size in shape[2:] if isinstance(size, int)] if shape is not None else []
    return known if len(known) == rank else None


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
