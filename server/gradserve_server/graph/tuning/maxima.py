"""The gradient of a maximum over windows without its indices: what GPUs do not say, or say differently.

onnxruntime's WebGPU provider has no MaxPool with indices. That of its CUDA provider takes the first of equal maxima by
columns, and says -1 where it has found none; and adding by them, where windows overlap, adds in any order.

Here each place of the window is one pass, in row-major order: the first that holds the maximum takes the window's cotangent.

    left_0 = dY;   taken_k = left_k where X at place k equals Y, else 0;   left_(k+1) = left_k - taken_k

With i = stride * j + r, what place i of a window took in window w belongs to row w * stride + i of X: row w + j of those
with remainder r. So the rows of one remainder are a sum of shifted arrays, and the remainders are put together in the end.
"""

import functools
import itertools
import operator
from math import prod
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.tuning.pools import MaxPoolGradient, max_pool_gradients, replace
from gradserve_server.graph.values import opset_of, shape_of

LOWEST = float(np.finfo(np.float32).min)
"""What the padding holds: no maximum, as long as a window has a larger one."""

_SPATIAL = (2, 3)


class Axis(NamedTuple):
    """One axis of the windows."""

    size: int
    windows: int
    kernel: int
    stride: int
    dilation: int
    begin: int

    @property
    def needed(self) -> int:
        """Elements from the first one of the first window to the last one of the last."""
        return (self.windows - 1) * self.stride + (self.kernel - 1) * self.dilation + 1

    @property
    def rows(self) -> int:
        """Elements of one remainder."""
        return self.windows + (self.kernel - 1) * self.dilation // self.stride


def find_maxima_again(model: ir.Model) -> None:
    """Rewrites them, in place, where sizes are known.

    Args:
        model: Of opset 18 or newer.
    """
    if opset_of(model) < 18:
        return
    found = False
    for number, gradient in enumerate(max_pool_gradients(model)):
        axes = _axes(gradient)
        if axes is not None:
            found = True
            g = Emitter(model.graph, opset_of(model), f"{gradient.node.outputs[0].name}/maxima_{number}")
            dx = _gradient(g, gradient, axes)
            replace(gradient, g.nodes, dx.value)
    if found:
        RemoveUnusedNodesPass()(model)


def _axes(gradient: MaxPoolGradient) -> list[Axis] | None:
    sizes, windows = (shape_of(value) or () for value in (gradient.x, gradient.dy))
    axes = []
    for axis, place in enumerate(_SPATIAL):
        size, count = sizes[place], windows[place]
        if not isinstance(size, int) or not isinstance(count, int):
            return None
        geometry = gradient.kernel[axis], gradient.strides[axis], gradient.dilations[axis], gradient.pads[axis]
        axes.append(Axis(size, count, *geometry))
    return axes


def _gradient(g: Emitter, gradient: MaxPoolGradient, axes: list[Axis]) -> Expr:
    x, left = g.of(gradient.x), g.of(gradient.dy)
    y = g.op("MaxPool", x, **dict[str, Any](gradient.pool.attributes))  # the forward one, which onnxruntime computes once
    before, after = [axis.begin for axis in axes], [max(axis.needed - axis.begin - axis.size, 0) for axis in axes]
    padded = g.op("Pad", x, g.ints(0, 0, *before, 0, 0, *after), LOWEST)
    parts: dict[tuple[int, ...], list[Expr]] = {}
    for place in itertools.product(*(range(axis.kernel) for axis in axes)):
        at = [k * axis.dilation for k, axis in zip(place, axes, strict=True)]
        ends = [first + (axis.windows - 1) * axis.stride + 1 for first, axis in zip(at, axes, strict=True)]
        seen = g.op("Slice", padded, g.ints(*at), g.ints(*ends), g.ints(*_SPATIAL), g.ints(*(axis.stride for axis in axes)))
        holds = seen.equals(y)
        taken, left = g.where(holds, left, 0), g.where(holds, 0, left)
        shifts = [first // axis.stride for first, axis in zip(at, axes, strict=True)]
        rest = [axis.rows - axis.windows - shift for axis, shift in zip(axes, shifts, strict=True)]
        moved = g.op("Pad", taken, g.ints(0, 0, *shifts, 0, 0, *rest)) if any(shifts + rest) else taken
        parts.setdefault(tuple(first % axis.stride for first, axis in zip(at, axes, strict=True)), []).append(moved)
    return _together(g, parts, axes)


def _zeros(g: Emitter, like: Expr) -> Expr:
    """As large, without asking for its shape."""
    zero = g.const(0, like.dtype)
    return g.where(like.equals(like), zero, zero)


def _together(g: Emitter, parts: dict[tuple[int, ...], list[Expr]], axes: list[Axis]) -> Expr:
    """The array whose rows and columns of each remainder are these."""
    rows, strides = [axis.rows for axis in axes], [axis.stride for axis in axes]
    remainders = []
    for remainder in itertools.product(*map(range, strides)):
        moved = parts.get(remainder) or [_zeros(g, next(iter(parts.values()))[0])]
        remainders.append(g.unsqueeze(functools.reduce(operator.add, moved), [2]))
    if prod(strides) > 1:
        stacked = g.op("Reshape", g.concat(*remainders, axis=2), g.ints(0, 0, *strides, *rows))
        whole = g.transpose(stacked, [0, 1, 4, 2, 5, 3])
    else:
        (whole,) = remainders
    long = [stride * count for stride, count in zip(strides, rows, strict=True)]
    whole = g.op("Reshape", whole, g.ints(0, 0, *long))
    lacking = [max(axis.begin + axis.size - length, 0) for axis, length in zip(axes, long, strict=True)]
    if any(lacking):
        whole = g.op("Pad", whole, g.ints(0, 0, 0, 0, 0, 0, *lacking))
    begins, ends = [axis.begin for axis in axes], [axis.begin + axis.size for axis in axes]
    if not any(begins) and long == ends:
        return whole
    return g.slice(whole, begins, ends, _SPATIAL)
