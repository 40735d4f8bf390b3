"""Quantization: piecewise constant, so that its derivative is zero or not defined, and never what somebody wants.

With `straight_through` a quantizer passes derivatives as if it rounded nothing. The cotangent of a quantized value is then a
float: the derivative with respect to the number that the integer stands for, counted in steps.
"""

from collections.abc import Sequence

import ml_dtypes
import onnx_ir as ir

from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.autodiff.rules import Cotangent, rank_known, unsupported, vjp
from gradserve_server.graph.autodiff.site import Pull, Site

SINCE = (13, 19, 21, 23, 24, 25, 28)


def _asked_for(n: Site) -> str | None:
    if n.emitter.straight_through:
        return None
    return "quantization is piecewise constant; with `straight_through` it passes derivatives as if it rounded nothing"


def _axis_of(n: Site) -> int:
    return n.integer("axis", 1) % max(n.x.rank, 1)


def _spread(g: Emitter, n: Site, parameter: Expr) -> Expr:
    """A scale or zero point, so that it broadcasts to X: of the tensor, of each slice along the axis, or of each block."""
    if parameter.rank == 0:
        return parameter
    axis, block = _axis_of(n), n.integer("block_size", 0)
    if block:
        steps = g.op("Range", g.const(0), g.squeeze(g.size(n.x, axis), [0]), g.const(1))
        return g.op("Gather", parameter, steps / block, axis=axis)
    return g.unsqueeze(parameter, [i for i in range(n.x.rank) if i != axis])


def _gathered(g: Emitter, n: Site, x: Expr, parameter: Expr) -> Expr:
    """The adjoint of `_spread`."""
    axis, block = _axis_of(n), n.integer("block_size", 0)
    if not block or parameter.rank == 0:
        return g.reshape_like(g.unbroadcast(x, _spread(g, n, parameter)), parameter)
    missing = g.size(parameter, axis) * block - g.size(n.x, axis)
    whole = g.pad(x, {axis: (0, missing)})
    sizes = [g.sizes(x, range(axis)), g.size(parameter, axis), g.ints(block), g.sizes(x, range(axis + 1, x.rank))]
    return g.sum(g.reshape(whole, *sizes), [axis + 1], keepdims=False)


@vjp("QuantizeLinear", since=SINCE, zero=(2,), refuse=(_asked_for, rank_known))
def quantize_linear(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = X / s + z, where that is in range:  dX = dY / s, ds = -dY X / s^2; 0 where Y is at a bound of its type."""
    s = _spread(g, n, n.input(1))
    steps = g.cast(n.x, s.dtype) / s
    low, high = _bounds(n.y.dtype)
    zero = g.cast(_spread(g, n, n.input(2)), s.dtype) if n.has(2) else None
    counted = steps + zero if zero is not None else steps
    inside = g.op("And", counted >= low, counted <= high)
    passed = g.where(inside, g.cast(n.dy, s.dtype), 0) / s
    return lambda: g.cast(passed, n.x.dtype), lambda: _gathered(g, n, -passed * steps, n.input(1))


def _bounds(dtype: ir.DataType) -> tuple[float, float]:
    """Half a step more than what the type holds, in integers: those are rounded into it."""
    kind = dtype.numpy()
    if dtype.is_floating_point():
        held = ml_dtypes.finfo(kind)  # type: ignore[no-untyped-call]
        return float(held.min), float(held.max)
    counted = ml_dtypes.iinfo(kind)  # type: ignore[no-untyped-call]
    return float(counted.min) - 0.5, float(counted.max) + 0.5


@vjp("DequantizeLinear", since=SINCE, zero=(2,), refuse=rank_known)
def dequantize_linear(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = (X - z) s:  dX = dY s, ds = dY (X - z), summed over what shares the scale."""
    scale = n.input(1)
    dy = g.cast(n.dy, scale.dtype)

    spread = _spread(g, n, scale)
    # X - z by the output, so that a derivative of this one finds its way back to what made X.
    return lambda: dy * spread, lambda: _gathered(g, n, dy * (g.cast(n.y, scale.dtype) / spread), scale)


@vjp("DynamicQuantizeLinear", since=(11,), refuse=(_asked_for, rank_known))
def dynamic_quantize_linear(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = X / s + z:  dX = dY / s. The scale counts as a constant: what it changes is undone where Y is dequantized."""
    (dy, _, _), s = (*n.cotangents, None, None)[:3], n.outputs[1]
    return (dy / s if dy is not None else g.zeros_like(n.x),)


unsupported(
    "computes with integers; a model with QuantizeLinear and DequantizeLinear around float operators has a gradient",
    {"QLinearMatMul": (10, 21), "QLinearConv": (10,), "MatMulInteger": (10,), "ConvInteger": (10,)},
)
