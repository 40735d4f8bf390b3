"""Sampling at positions that are computed: GridSample, and AffineGrid, the grid that an affine map makes."""

from collections.abc import Sequence

import numpy as np

from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.autodiff.rules import Cotangent, expansion, rank_known, vjp
from gradserve_server.graph.autodiff.site import Pull, Site

MODES = {"bilinear": "linear", "bicubic": "cubic"}
"""Names of before opset 20."""
TAPS = {"nearest": (0,), "linear": (0, 1), "cubic": (-1, 0, 1, 2)}
"""Which values count, from the one at or before a position."""
CUBIC = -0.75


def _mode(n: Site) -> str:
    mode = n.string("mode", "linear")
    return MODES.get(mode, mode)


def _jumps(n: Site) -> Sequence[int]:
    """The grid, where the nearest value is taken."""
    return (1,) if _mode(n) == "nearest" else ()


@expansion("GridSample", since=(16, 20, 22), refuse=rank_known, zero_here=_jumps)
def grid_sample(g: Emitter, n: Site) -> Sequence[Expr]:
    """Y = the sum over taps of weight * X[tap], where a weight is a product over the axes.

    X outside is zero, or a copy of a value inside. Where a position lies on a value, the slope is that towards the next one,
    as in torch.
    """
    x, grid, taps = n.input(0), n.input(1), TAPS[_mode(n)]
    axes, batch, channels = x.rank - 2, g.size(x, 0), g.size(x, 1)
    # The grid names the last axis first, and so do all that follow. Positions: [batch, axes, points].
    lengths = g.unsqueeze(g.sizes(x, range(x.rank - 1, 1, -1)), [1])
    extent = g.cast(lengths, grid.dtype)
    moved = g.transpose(g.reshape(grid, batch, -1, axes), [0, 2, 1]) + 1
    position = moved / 2 * (extent - 1) if n.integer("align_corners", 0) else (moved * extent - 1) / 2
    first = g.op("Round" if _mode(n) == "nearest" else "Floor", position)
    # [batch, axes, taps, points]
    index = g.unsqueeze(g.cast(first, lengths.dtype), [2]) + g.const(np.array(taps)[:, None])
    index, weight = _inside(g, n, index, _weights(g, position - first, _mode(n)), g.unsqueeze(lengths, [2]))

    # [batch, axes, taps, points] -> [batch, taps ** axes, points], index then in X as [batch, channels, values]
    place, factor, stride = _along(g, index, 0), _along(g, weight, 0), g.ints(1)
    for axis in range(1, axes):
        stride = stride * g.size(x, x.rank - axis)
        outer, inner = [2], [1]
        place = g.unsqueeze(_along(g, index, axis) * stride, outer) + g.unsqueeze(place, inner)
        factor = g.unsqueeze(_along(g, weight, axis), outer) * g.unsqueeze(factor, inner)
        place, factor = (g.reshape(v, batch, len(taps) ** (axis + 1), -1) for v in (place, factor))
    everywhere = g.op("Expand", g.reshape(place, batch, 1, -1), g.concat(1, channels, 1))
    read = g.op("GatherElements", g.reshape(x, batch, channels, -1), everywhere, axis=2)
    weighed = g.reshape(read, batch, channels, len(taps) ** axes, -1) * g.unsqueeze(g.cast(factor, x.dtype), [1])
    return (g.reshape_like(g.sum(weighed, [2], keepdims=False), n.y),)


def _along(g: Emitter, x: Expr, axis: int) -> Expr:
    """[batch, taps, points] of one axis."""
    return g.squeeze(g.slice(x, [axis], [axis + 1], [1]), [1])


def _weights(g: Emitter, t: Expr, mode: str) -> Expr:
    """Of the taps, by how far behind the first one the position lies."""
    if mode == "nearest":
        return g.expand_like(g.const(1, t.dtype), g.unsqueeze(t, [2]))
    if mode == "linear":
        return g.concat(*(g.unsqueeze(weight, [2]) for weight in (1 - t, t)), axis=2)

    def near(u: Expr) -> Expr:
        return ((CUBIC + 2) * u - (CUBIC + 3)) * u * u + 1

    def far(u: Expr) -> Expr:
        return (((u - 5) * u + 8) * u - 4) * CUBIC

    return g.concat(*(g.unsqueeze(weight, [2]) for weight in (far(t + 1), near(t), near(1 - t), far(2 - t))), axis=2)


def _inside(g: Emitter, n: Site, index: Expr, weight: Expr, lengths: Expr) -> tuple[Expr, Expr]:
    """What stands in for taps outside."""
    mode = n.string("padding_mode", "zeros")
    if mode == "reflection":
        # At the last value, or half a value behind it: 0 1 2 1 0 1, or 0 1 2 2 1 0.
        period, last = (lengths * 2 - 2, 0) if n.integer("align_corners", 0) else (lengths * 2, 1)
        phase = g.op("Mod", index, g.op("Max", period, 1))
        return g.op("Min", phase, period - last - phase), weight
    if mode == "zeros":
        weight = g.where(g.op("And", index >= 0, index < lengths), weight, 0)
    return g.op("Min", g.op("Max", index, 0), lengths - 1), weight


def _dimensions_known(n: Site) -> str | None:
    return None if n.y.shape is not None or _dimensions(n) else "whether two or three axes, not known before the run"


def _dimensions(n: Site) -> int | None:
    shape, size = n.x.shape, n.input(1).shape
    for known in (shape[1] if shape else None, size[0] - 2 if size and isinstance(size[0], int) else None):
        if isinstance(known, int):
            return known
    return len(n.y.shape) - 2 if n.y.shape is not None else None


@vjp("AffineGrid", since=(20,), refuse=_dimensions_known)
def affine_grid(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = theta (p, 1) at the points p of a regular grid, which the identity map makes: dtheta = the sum of dY (p, 1)^T."""
    axes = _dimensions(n)
    assert axes is not None
    identity = g.const(np.eye(axes, axes + 1)[None], n.x.dtype)
    one = g.concat(1, g.slice(n.input(1), [1], [axes + 2], [0]))
    points = g.reshape(g.op("AffineGrid", identity, one, align_corners=n.integer("align_corners", 0)), -1, axes)
    dy = g.reshape(n.dy, g.size(n.x, 0), -1, axes)
    linear = g.op("MatMul", g.transpose(dy, [0, 2, 1]), points)
    return (g.concat(linear, g.unsqueeze(g.sum(dy, [1], keepdims=False), [2]), axis=2),)
