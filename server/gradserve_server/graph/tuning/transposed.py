"""The axes of transposed convolutions.

along one axis:   size of Y = (size of X - 1) * stride + output_padding + extent - begin - end
with extent = dilation * (kernel - 1) + 1
"""

from dataclasses import dataclass

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
    begin: int
    end: int

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
    extents = [dilation * (size - 1) + 1 for dilation, size in zip(dilations, kernel, strict=True)]
    if asked := attributes.get_ints("output_shape", []):
        sizes = spatial(node.inputs[0], rank)
        if sizes is None:
            return None
        whole = zip(sizes, strides, extras, extents, asked[-rank:], strict=True)
        totals = [(size - 1) * stride + extra + extent - wanted for size, stride, extra, extent, wanted in whole]
    elif mode.startswith("SAME"):
        totals = [extra + extent - stride for extra, extent, stride in zip(extras, extents, strides, strict=True)]
    else:
        pads = [0] * 2 * rank if mode == "VALID" else attributes.get_ints("pads", [0] * 2 * rank)
        return [Axis(*axis) for axis in zip(kernel, strides, dilations, extras, pads[:rank], pads[rank:], strict=True)]
    if min(totals) < 0:
        return None
    begins = [total // 2 if mode == "SAME_UPPER" else (total + 1) // 2 for total in totals]
    ends = [total - begin for total, begin in zip(totals, begins, strict=True)]
    return [Axis(*axis) for axis in zip(kernel, strides, dilations, extras, begins, ends, strict=True)]


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
