"""Normalizations.

With d = x - mean(x), r = 1 / sqrt(mean(d^2) + epsilon) and h = d r:  dx = r (dh - mean(dh)) - d r^3 mean(dh d).
"""

from collections.abc import Sequence

from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.autodiff.rules import Cotangent, rank_known, vjp
from gradserve_server.graph.autodiff.site import Pull, Site
from gradserve_server.graph.autodiff.vjp_math import signed
from gradserve_server.graph.autodiff.vjp_reduction import count

# ---- what they share -------------------------------------------------------------------------------------------------


def _mean(g: Emitter, x: Expr, axes: Sequence[int]) -> Expr:
    return g.reduce("ReduceMean", x, axes)


def _standardized(g: Emitter, x: Expr, axes: Sequence[int], epsilon: float) -> tuple[Expr, Expr]:
    """(d, r)."""
    d = x - _mean(g, x, axes)
    return d, 1 / g.op("Sqrt", _mean(g, d * d, axes) + epsilon)


def _pulled(g: Emitter, dh: Expr, d: Expr, r: Expr, axes: Sequence[int], gain: Expr | float = 1.0) -> Expr:
    """dx * gain, for a gain that is the same for all that one mean is taken of."""
    return (dh - _mean(g, dh, axes)) * (r * gain) - d * (_mean(g, dh * d, axes) * (r * r * r * gain))


def _per_channel(g: Emitter, vector: Expr, rank: int) -> Expr:
    """[C] as [C, 1, ..]: broadcasts along axis 1 of `rank` axes."""
    return g.unsqueeze(vector, list(range(1, rank - 1)))


def _channel_sum(g: Emitter, x: Expr, like: Expr) -> Expr:
    """Over all axes but the channel's, which is 1."""
    return g.reshape_like(g.sum(x, [axis for axis in range(x.rank) if axis != 1] or [0], keepdims=False), like)


# ---- with statistics of their own ------------------------------------------------------------------------------------


def _in_training_form(n: Site) -> str | None:
    return "training_mode" if n.integer("training_mode", 0) else None


@vjp("BatchNormalization", since=(15,), refuse=(rank_known, _in_training_form))
def batch_normalization(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = s (X - m) r + b with r = 1 / sqrt(v + epsilon), all [C]:  dX = dY s r, dm = -s r sum dY, db = sum dY.

    ds = r sum dY (X - m),  dv = -s r^3 / 2 sum dY (X - m).
    """
    scale, mean, variance = n.input(1), n.input(3), n.input(4)
    rank = n.x.rank
    r = 1 / g.op("Sqrt", variance + n.number("epsilon", 1e-5))

    def total() -> Expr:
        return _channel_sum(g, n.dy, n.input(2))

    def weighted() -> Expr:
        return _channel_sum(g, n.dy * (n.x - _per_channel(g, mean, rank)), scale)

    return (
        lambda: n.dy * _per_channel(g, scale * r, rank),
        lambda: weighted() * r,
        total,
        lambda: -(total() * scale * r),
        lambda: weighted() * scale * (r * r * r * -0.5),
    )


# ---- with statistics of the sample -----------------------------------------------------------------------------------


@vjp("InstanceNormalization", since=(6, 22), refuse=rank_known)
def instance_normalization(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = s h + b, h as above over the axes from 2 on:  dX = s dx, ds = sum dY h, db = sum dY."""
    scale, axes = n.input(1), list(range(2, n.x.rank))
    d, r = _standardized(g, n.x, axes, n.number("epsilon", 1e-5))
    return (
        lambda: _pulled(g, n.dy, d, r, axes, _per_channel(g, scale, n.x.rank)),
        lambda: _channel_sum(g, n.dy * (d * r), scale),
        lambda: _channel_sum(g, n.dy, n.input(2)),
    )


def _grouped(g: Emitter, n: Pull, x: Expr) -> Expr:
    """[N, C, ..] as [N, groups, what is left]."""
    return g.reshape(x, g.size(n.x, 0), n.integer("num_groups", 1), -1)


@vjp("GroupNormalization", since=(18,), refuse=rank_known)
def group_normalization_18(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = s h + b with s and b of each group, h as above over its elements:  dX = s dx, ds = sum dY h, db = sum dY."""
    scale, dy = n.input(1), _grouped(g, n, n.dy)
    d, r = _standardized(g, _grouped(g, n, n.x), [2], n.number("epsilon", 1e-5))
    return (
        lambda: g.reshape_like(_pulled(g, dy, d, r, [2], g.unsqueeze(scale, [1])), n.x),
        lambda: _channel_sum(g, dy * (d * r), scale),
        lambda: _channel_sum(g, dy, n.input(2)),
    )


@vjp("GroupNormalization", since=(21,), refuse=rank_known)
def group_normalization(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = s h + b with s and b of each channel, h as above over a group's elements.

    dX = dx of s dY, ds = sum dY h, db = sum dY.
    """
    scale = n.input(1)
    d, r = _standardized(g, _grouped(g, n, n.x), [2], n.number("epsilon", 1e-5))

    def dx() -> Expr:
        dh = _grouped(g, n, n.dy * _per_channel(g, scale, n.x.rank))
        return g.reshape_like(_pulled(g, dh, d, r, [2]), n.x)

    return (
        dx,
        lambda: _channel_sum(g, n.dy * g.reshape_like(d * r, n.x), scale),
        lambda: _channel_sum(g, n.dy, n.input(2)),
    )


@vjp("LayerNormalization", since=(17,), refuse=rank_known)
def layer_normalization(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = s h + b, h as above over the axes from `axis` on:  dX = dx of s dY, ds = sum dY h, db = sum dY.

    Of the other outputs, with N = how many numbers a mean is of:  dX += dMean / N - dInvStdDev * d r^3 / N.
    """
    scale, axes = n.input(1), list(range(n.axis, n.x.rank))
    dy, dmean, dr = (*n.cotangents, None, None)[:3]
    d, r = _standardized(g, n.x, axes, n.number("epsilon", 1e-5))

    def dx() -> Expr:
        parts = [_pulled(g, dy * scale, d, r, axes)] if dy is not None else []
        if dmean is not None:
            parts.append(g.expand_like(g.cast(dmean, n.x.dtype) / count(g, n.x, r), n.x))
        if dr is not None:
            parts.append(d * (g.cast(dr, n.x.dtype) * (r * r * r) / count(g, n.x, r) * -1))
        return parts[0] if len(parts) == 1 else g.op("Sum", *parts)

    return (
        dx,
        lambda: g.unbroadcast(dy * (d * r), scale) if dy is not None else g.zeros_like(scale),
        lambda: g.unbroadcast(dy, n.input(2)) if dy is not None else g.zeros_like(n.input(2)),
    )


@vjp("RMSNormalization", since=(23,), refuse=rank_known)
def rms_normalization(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = s X r with r = 1 / sqrt(mean(X^2) + epsilon):  dX = r s dY - X r^3 mean(s dY X), ds = sum dY X r."""
    scale, axes = n.input(1), list(range(n.axis, n.x.rank))
    r = 1 / g.op("Sqrt", _mean(g, n.x * n.x, axes) + n.number("epsilon", 1e-5))

    def dx() -> Expr:
        dh = n.dy * scale
        return dh * r - n.x * (_mean(g, dh * n.x, axes) * (r * r * r))

    return dx, lambda: g.unbroadcast(n.dy * (n.x * r), scale)


@vjp("MeanVarianceNormalization", since=(13,))
def mean_variance_normalization(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = d r with r = 1 / (sqrt(mean(d^2)) + 1e-9):  dX = r (dY - mean(dY) - Y mean(dY Y))."""
    axes = n.integers("axes", [0, 2, 3])
    d = n.x - _mean(g, n.x, axes)
    r = 1 / (g.op("Sqrt", _mean(g, d * d, axes)) + 1e-9)
    return ((n.dy - _mean(g, n.dy, axes) - n.y * _mean(g, n.dy * n.y, axes)) * r,)


# ---- by a norm -------------------------------------------------------------------------------------------------------


@vjp("LpNormalization", since=(1, 22))
def lp_normalization(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = X / |X|:  dX = (dY - sum(dY Y) d|X|/dX) / |X|, where d|X|/dX is Y, or with p = 1 sign(X); 0 where |X| = 0."""
    axis, p = n.integer("axis", -1), n.integer("p", 2)
    norm = g.reduce(f"ReduceL{p}", n.x, [axis])
    along = g.sum(n.dy * n.y, [axis])
    slope = signed(g, g.expand_like(along, n.x), n.x) if p == 1 else n.y * along
    is_zero = norm.equals(0)
    return ((n.dy - slope) * g.where(is_zero, 0, 1 / g.where(is_zero, 1, norm)),)


@vjp("LRN", since=(13,), refuse=rank_known)
def lrn(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = X s^-beta with s = bias + alpha * (mean of X^2 over a window of channels).

    dX = dY s^-beta - 2 alpha beta X * (mean of dY Y / s over the mirrored window).
    """
    size, alpha, beta = n.integer("size", 1), n.number("alpha", 1e-4), n.number("beta", 0.75)

    def windowed(x: Expr, before: int, after: int) -> Expr:
        """Means over channels, those outside counting as 0."""
        flat = [0] * (n.x.rank - 2)
        kernel, pads = [size, *(1 for _ in flat)], [before, *flat, after, *flat]
        means = g.op("AveragePool", g.unsqueeze(x, [1]), kernel_shape=kernel, pads=pads, count_include_pad=1)
        return g.squeeze(means, [1])

    before, after = (size - 1) // 2, size // 2
    s = windowed(n.x * n.x, before, after) * alpha + n.number("bias", 1.0)
    # s^-beta: Pow takes four times as long.
    power = g.op("Exp", g.op("Log", s) * -beta)
    return (n.dy * power - n.x * windowed(n.dy * n.y / s, after, before) * (2 * alpha * beta),)
