"""Fourier transforms: linear maps of (real, imaginary) pairs along the last axis. Windows that depend on sizes only."""

from collections.abc import Sequence

import onnx_ir as ir

from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.autodiff.rules import Cotangent, expansion, proven_zero, rank_known, vjp
from gradserve_server.graph.autodiff.site import Pull, Site

AXIS_INPUT = 20
"""From this opset on, DFT has its axis as an input."""


def _dft_axis(n: Site) -> int | None:
    if n.opset < AXIS_INPUT:
        return n.integer("axis", 1)
    if not n.has(2):
        return -2
    axis = n.constant(2)
    return int(axis.item()) if axis is not None else None


def _axis_is_constant(n: Site) -> str | None:
    return None if _dft_axis(n) is not None else "its axis is not known before the run"


def _not_half_of_an_inverse(n: Site) -> str | None:
    both = n.integer("onesided", 0) and n.integer("inverse", 0)
    return "the inverse of half a spectrum" if both else None


def _dft(g: Emitter, x: Expr, length: Expr | None, axis: int, *, inverse: bool = False, onesided: bool = False) -> Expr:
    """The transform of a length, along an axis counted from the front."""
    inverted, half = int(inverse), int(onesided)
    if g.opset < AXIS_INPUT:
        y = g.op("DFT", x, length, axis=axis, inverse=inverted, onesided=half)
    else:
        y = g.op("DFT", x, length, g.const(axis), inverse=inverted, onesided=half)
    # Where the length is no constant, onnx infers nothing, and half a spectrum with the size of a whole one.
    if x.shape is not None and (y.shape is None or (onesided and not isinstance(y.shape[axis], int))):
        y.value.shape = ir.Shape([*x.shape[:axis], None, *x.shape[axis + 1 : -1], 2])
    return y


def _fitted(g: Emitter, x: Expr, axis: int, size: Expr) -> Expr:
    """Cut, or filled with zeros at the end, to a size."""
    x = g.op("Slice", x, g.ints(0), size, g.ints(axis))
    missing = g.op("Max", size - g.size(x, axis), g.ints(0))
    return g.pad(x, {axis: (0, missing)})


@vjp("DFT", since=(17, 20), zero=(1, 2), refuse=(rank_known, _axis_is_constant, _not_half_of_an_inverse))
def dft(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = F X:  dX = F^H dY = N times the inverse transform of dY. Y = F^-1 X:  dX = the transform of dY, divided by N.

    Of half a spectrum the other half is zero. What the transform padded is cut, what it cut is zero; of a real X the
    imaginary part is no input.
    """
    axis, inverse = _dft_axis(n), n.integer("inverse", 0) == 1
    assert axis is not None
    axis %= n.x.rank
    given = n.optional(1)
    length = g.op("Reshape", given, g.ints(1)) if given is not None else g.size(n.x, axis)
    scalar = g.squeeze(length, [0])
    count = g.cast(scalar, n.dy.dtype)
    dx = _dft(g, n.dy, scalar, axis, inverse=not inverse)
    dx = dx / count if inverse else dx * count
    if given is not None:
        dx = _fitted(g, dx, axis, g.size(n.x, axis))
    if n.x.shape is None or n.x.shape[-1] != 2:
        dx = g.op("Slice", dx, g.ints(0), g.size(n.x, -1), g.ints(-1))
    return (dx,)


@expansion("STFT", since=(17,), refuse=rank_known)
def stft(g: Emitter, n: Site) -> Sequence[Expr | None]:
    """Y[b, f] = DFT(window * X[b, f step : f step + length])."""
    x, step, window, length = n.x, n.input(1), n.optional(2), n.optional(3)
    x = g.unsqueeze(x, [2]) if x.rank == 2 else x
    size = g.op("Reshape", length, g.ints(1)) if length is not None else g.size(_there(window), 0)
    size, step = (g.squeeze(g.op("Reshape", g.cast(v, ir.DataType.INT64), g.ints(1)), [0]) for v in (size, step))
    end = g.squeeze(g.size(x, 1), [0]) - size + g.const(1)
    starts = g.op("Range", g.const(0), end, step)
    indices = g.unsqueeze(starts, [1]) + g.op("Range", g.const(0), size, g.const(1))
    frames = g.op("Gather", x, indices, axis=1)
    if window is not None:
        frames = frames * g.unsqueeze(window, [1])
    return [_dft(g, frames, None, 2, onesided=n.integer("onesided", 1) == 1)]


def _there(x: Expr | None) -> Expr:
    assert x is not None, "STFT has a window or a frame length"
    return x


proven_zero(
    "does not depend on values",
    {"HannWindow": (17,), "HammingWindow": (17,), "BlackmanWindow": (17,)},
)
proven_zero("the bands begin and end at whole frequency bins: piecewise constant", {"MelWeightMatrix": (17,)})
