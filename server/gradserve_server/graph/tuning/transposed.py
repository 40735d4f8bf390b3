"""The axes of transposed convolutions.

along one axis:   size of Y = (size of X - 1) * stride + output_padding + extent - begin - end
with extent = dilation * (kernel - 1) + 1
"""

from dataclasses import dataclass, replace

import onnx_ir as ir

from gradserve_server.graph.values import shape_of


@dataclass(frozen=True)
class Axis:
    """One spatial axis."""

    kernel: int
    stride: int
    dilation: int
    extra: int
    """`output_padding`."""
    begin: int = 0
    end: int = 0

    @property
    def extent(self) -> int:
        """How far a window reaches."""
        return self.dilation * (self.kernel - 1) + 1


def axes_of(node: ir.Node) -> list[Axis] | None:
    """The spatial axes of a ConvTranspose; None where they are not known before the run, or runtimes disagree on them."""
    kernel = _kernel(node)
    if kernel is None:
        return None
    rank, attributes = len(kernel), node.attributes
    strides, extras = attributes.get_ints("strides", [1] * rank), attributes.get_ints("output_padding", [0] * rank)
    dilations, mode = attributes.get_ints("dilations", [1] * rank), attributes.get_string("auto_pad", "NOTSET")
    axes = [Axis(*numbers) for numbers in zip(kernel, strides, dilations, extras, strict=True)]
    if asked := attributes.get_ints("output_shape", []):
        sizes = spatial(node.inputs[0], rank)
        if sizes is None:
            return None
        wanted = zip(axes, sizes, asked[-rank:], strict=True)
        totals = [(size - 1) * axis.stride + axis.extra + axis.extent - result for axis, size, result in wanted]
    elif mode.startswith("SAME"):
        totals = [axis.extra + axis.extent - axis.stride for axis in axes]
    else:
        pads = [0] * 2 * rank if mode == "VALID" else attributes.get_ints("pads", [0] * 2 * rank)
        return [replace(axis, begin=begin, end=end) for axis, begin, end in zip(axes, pads[:rank], pads[rank:], strict=True)]
    if min(totals) < 0:
        return None
    begins = [total // 2 if mode == "SAME_UPPER" else (total + 1) // 2 for total in totals]
    cut = zip(axes, begins, totals, strict=True)
    return [replace(axis, begin=begin, end=total - begin) for axis, begin, total in cut]


def spatial(value: ir.Value | None, rank: int) -> list[int] | None:
    """The spatial sizes of an image; None where one is not known."""
    shape = shape_of(value) if value is not None else None
    known = [size for size in shape[2:] if isinstance(size, int)] if shape is not None else []
    return known if len(known) == rank else None


def _kernel(node: ir.Node) -> list[int] | None:
    """Sizes of the kernel: from the attribute, else from the weight's shape."""
    if "kernel_shape" in node.attributes:
        return list(node.attributes["kernel_shape"].as_ints())
    weight = node.inputs[1]
    shape = shape_of(weight) if weight is not None else None
    return spatial(weight, len(shape) - 2) if shape is not None else None
