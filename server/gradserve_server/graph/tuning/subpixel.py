"""Transposed convolutions as convolutions, whose sums no GPU takes in another order the next time.

cuDNN's gradients of convolutions may add in any order: onnxruntime takes the first of its suggestions, deterministic or not,
and on an H100 the gradient of a strided convolution was not the same bytes twice.

    along one axis:   Y[stride * q + r] = sum over o of  X[q + o] * W[t],   where stride * o = r + begin - dilation * t

For each remainder r that is a convolution of stride 1. All of them are the channels of one convolution, in the end
interleaved (the sub-pixel convolution of https://arxiv.org/abs/1609.05158). At stride 2 a kernel of 3 has a tap of zeros.
Remainders that no tap reaches, those of a kernel smaller than the stride, are zeros put between the others.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.tuning.transposed import Axis, axes_of, spatial
from gradserve_server.graph.values import constant, is_op, opset_of, supersede

_BIAS = 2
"""Its place among the inputs."""
_PLANE = 2
"""Axes of what DepthToSpace takes."""


@dataclass(frozen=True)
class Phases:
    """One axis as convolutions of stride 1.

    Attributes:
        axis: Of the transposed convolution.
        first: The first remainder that has a convolution.
        count: How many have, one after the other.
    """

    axis: Axis
    first: int
    count: int

    @cached_property
    def taps(self) -> dict[tuple[int, int], int]:
        """What of the kernel comes to which remainder (from `first` on) from which offset o."""
        axis = self.axis
        found = {}
        for tap in range(axis.kernel):
            place = axis.begin - axis.dilation * tap
            remainder = -place % axis.stride  # the r that makes r + place a multiple of the stride
            found[remainder - self.first, (remainder + place) // axis.stride] = tap
        return found

    @property
    def low(self) -> int:
        """The smallest offset, or 0: no convolution leaves out what X begins with."""
        return min(0, *(offset for _, offset in self.taps))

    @property
    def high(self) -> int:
        """The largest, or that of what X ends with."""
        return max(-self.more, *(offset for _, offset in self.taps))

    @property
    def more(self) -> int:
        """How many more elements each remainder has than X."""
        axis = self.axis
        return -(-(axis.extra + axis.extent - axis.begin - axis.end) // axis.stride) - 1

    @property
    def surplus(self) -> int:
        """Elements of the interleaved remainders behind the end of Y."""
        axis = self.axis
        return (self.more + 1) * axis.stride - (axis.extra + axis.extent - axis.begin - axis.end)

    @property
    def pads(self) -> tuple[int, int]:
        """Around X."""
        return -self.low, self.more + self.high

    @property
    def both(self) -> int:
        """Of these, what is the same at both ends."""
        return min(self.pads)


def convolve_transposed(model: ir.Model) -> None:
    """Rewrites them, in place, where weights are constant.

    Args:
        model: Of opset 11 or newer: before, DepthToSpace knows one order only, and Pad takes no sizes.
    """
    if opset_of(model) < 11:
        return
    for number, node in enumerate(list(model.graph)):
        if is_op(node, "ConvTranspose"):
            _convolve(model, node, number)


def _convolve(model: ir.Model, node: ir.Node, number: int) -> None:
    given = node.inputs[_BIAS] if len(node.inputs) > _BIAS else None
    weight, bias, axes = constant(node.inputs[1]), constant(given), axes_of(node)
    if weight is None or axes is None or (bias is None and given is not None):
        return
    rank, x = len(axes), node.inputs[0]
    sizes = spatial(x, rank)
    in_planes = rank == _PLANE and axes[0].stride == axes[1].stride
    # Between numbers of a bias there are no zeros; and to put some between others, sizes must be known.
    sparse = bias is None and sizes is not None
    phases = [_reached(axis) if sparse else Phases(axis, 0, axis.stride) for axis in axes]
    strides = [axis.stride for axis in axes]
    whole = [phase.count for phase in phases] == strides
    if prod(strides) > 1 and sizes is None and not in_planes:
        return
    group, out = node.attributes.get_int("group", 1), node.outputs[0]
    g = Emitter(model.graph, opset_of(model), f"{out.name}/subpixel_{number}")
    assert x is not None
    # Padded by itself where both ends differ: cuDNN's fast kernels pad alike.
    apart = [phase.pads[end] - phase.both for end in range(2) for phase in phases]
    padded = g.op("Pad", g.of(x), g.ints(0, 0, *apart[:rank], 0, 0, *apart[rank:])) if any(apart) else g.of(x)
    attributes: dict[str, Any] = {
        "pads": [phase.both for phase in phases] * 2,
        "kernel_shape": [phase.high - phase.low + 1 for phase in phases],
        "group": group,
    }
    biases = [] if bias is None else [g.const(np.repeat(bias, prod(strides)))]
    y = g.op("Conv", padded, g.const(_filters(weight, group, phases)), *biases, **attributes)
    if whole and in_planes and strides[0] > 1:
        y = g.op("DepthToSpace", y, blocksize=strides[0], mode="CRD")
    elif sizes is not None and prod(strides) > 1:
        y = _interleaved(g, y, phases, [size + phase.more for size, phase in zip(sizes, phases, strict=True)])
    if any(phase.surplus for phase in phases):
        ends = [-phase.surplus or np.iinfo(np.int64).max for phase in phases]
        y = g.slice(y, [0] * rank, ends, range(2, 2 + rank))
    model.graph.insert_before(node, g.nodes)
    supersede(out, y.value)
    model.graph.remove(node, safe=True)


def _reached(axis: Axis) -> Phases:
    """From the first remainder that a tap reaches to the last one."""
    reached = [remainder for remainder, _ in Phases(axis, 0, axis.stride).taps]
    return Phases(axis, min(reached), max(reached) - min(reached) + 1)


def _filters(weight: npt.NDArray[Any], group: int, phases: list[Phases]) -> npt.NDArray[Any]:
    """Of the convolution, [M * remainders, C / group, offsets], of [C, M / group, kernel]."""
    channels, outputs, *kernel = weight.shape
    rank, inputs = len(kernel), channels // group
    by_tap = np.moveaxis(weight.reshape(group, inputs, outputs, *kernel), [0, 2, 1], [-3, -2, -1])
    counts, offsets = [phase.count for phase in phases], [phase.high - phase.low + 1 for phase in phases]
    made = np.zeros((*counts, *offsets, group, outputs, inputs), weight.dtype)
    for taps in product(*(phase.taps.items() for phase in phases)):
        remainders = [remainder for (remainder, _), _ in taps]
        at = [offset - phase.low for ((_, offset), _), phase in zip(taps, phases, strict=True)]
        made[(*remainders, *at)] = by_tap[tuple(tap for _, tap in taps)]
    ordered = np.moveaxis(made, [-3, -2, *range(rank), -1], range(rank + 3))
    return ordered.reshape(group * outputs * prod(counts), inputs, *offsets)


def _interleaved(g: Emitter, y: Expr, phases: list[Phases], sizes: list[int]) -> Expr:
    """The remainders between one another, [N, M, sizes * strides], of [N, M * remainders, sizes]."""
    rank = len(phases)
    counts, strides = [phase.count for phase in phases], [phase.axis.stride for phase in phases]
    parts = g.op("Reshape", y, g.ints(0, -1, *counts, *sizes))
    between = [axis for place in range(rank) for axis in (2 + rank + place, 2 + place)]
    parts = g.transpose(parts, [0, 1, *between])
    if counts != strides:
        before = [number for phase in phases for number in (0, phase.first)]
        after = [number for phase in phases for number in (0, phase.axis.stride - phase.first - phase.count)]
        parts = g.op("Pad", parts, g.ints(0, 0, *before, 0, 0, *after))
    long = [size * stride for size, stride in zip(sizes, strides, strict=True)]
    return g.op("Reshape", parts, g.ints(0, -1, *long))
