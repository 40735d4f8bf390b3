"""Reductions over axes, which may be constant, given in the run, or left out; and running sums and products."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from gradserve_server.graph.autodiff.emitter import Dim, Emitter, Expr
from gradserve_server.graph.autodiff.rules import Cotangent, expansion, rank_known, vjp
from gradserve_server.graph.autodiff.site import Pull, Site
from gradserve_server.graph.autodiff.vjp_math import signed

# ---- axes ------------------------------------------------------------------------------------------------------------


def _no_axes(n: Site) -> bool:
    """Whether it is known before the run that no axes are named: all are meant, or (noop_with_empty_axes) none."""
    axes = n.constant(1)
    return not n.has(1) or (axes is not None and axes.size == 0)


def _kept(g: Emitter, n: Pull, reduced: Expr) -> Expr:
    """Something in the shape of Y, with size 1 for every axis that the reduction took away, so that it broadcasts to X."""
    if n.integer("keepdims", 1) or _no_axes(n):
        return reduced
    return g.op("Unsqueeze", reduced, n.input(1))


def _again(g: Emitter, n: Pull, op: str, x: Expr) -> Expr:
    """Another reduction over the same axes, which stay with size 1."""
    return g.op(op, x, n.optional(1), keepdims=1, noop_with_empty_axes=n.integer("noop_with_empty_axes", 0))


def _split(shape: tuple[Dim, ...] | None) -> tuple[int, list[Dim]]:
    """The product of the sizes that are known, and those that are not."""
    sizes: tuple[Dim, ...] = (None,) if shape is None else shape
    return math.prod(size for size in sizes if isinstance(size, int)), [size for size in sizes if not isinstance(size, int)]


def count(g: Emitter, whole: Expr, part: Expr) -> float | Expr:
    """Elements of `whole` for each one of `part`: how many numbers a mean is taken of."""
    known, symbols = zip(*(_split(x.shape) for x in (whole, part)), strict=True)
    if symbols[0] == symbols[1] and None not in symbols[0]:
        return float(known[0] / max(known[1], 1))
    return g.cast(g.op("Size", whole), whole.dtype) / g.cast(g.op("Size", part), whole.dtype)


# ---- reductions ------------------------------------------------------------------------------------------------------


def _reduction(
    op: str, since: tuple[int, ...], formula: str, dx: Callable[[Emitter, Pull, Expr, Expr], Expr], *, alone: bool
) -> None:
    """Registers a rule.

    Args:
        op: The operator.
        since: Its versions.
        formula: Its rule.
        dx: The same, of Y and dY as `_kept` makes them.
        alone: Whether one number alone is reduced to itself.
    """

    def pull(g: Emitter, n: Pull) -> Sequence[Cotangent]:
        if alone and n.integer("noop_with_empty_axes", 0) and _no_axes(n):
            return (n.dy,)
        return (dx(g, n, _kept(g, n, n.y), _kept(g, n, n.dy)),)

    pull.__doc__ = formula
    vjp(op, since=since)(pull)


def _mean(g: Emitter, n: Pull, y: Expr, dy: Expr) -> Expr:  # noqa: ARG001
    return g.expand_like(dy / count(g, n.x, n.y), n.x)


def _l1(g: Emitter, n: Pull, y: Expr, dy: Expr) -> Expr:  # noqa: ARG001
    return signed(g, g.expand_like(dy, n.x), n.x)


def _norm(g: Emitter, n: Pull, y: Expr, dy: Expr) -> Expr:
    return n.x * (dy / g.where(y.equals(0), 1, y))


def _extremum(g: Emitter, n: Pull, y: Expr, dy: Expr) -> Expr:
    mask = g.cast(n.x.equals(y), dy.dtype)
    return mask * (dy / _again(g, n, "ReduceSum", mask))


def _prod(g: Emitter, n: Pull, y: Expr, dy: Expr) -> Expr:  # noqa: ARG001
    """The product of the others: of those that are not 0, times 1, x_k or 0 where no, one (the k-th) or more are 0.

    That x_k is 0 too; written as x_k it has the right derivative.
    """
    is_zero = n.x.equals(0)
    zeros, safe = g.cast(is_zero, dy.dtype), g.where(is_zero, 1, n.x)
    only_zeros = n.x * zeros
    other_zeros = _again(g, n, "ReduceSum", zeros) - zeros
    other_sum = _again(g, n, "ReduceSum", only_zeros) - only_zeros
    factor = g.cast(other_zeros.equals(0), dy.dtype) + g.cast(other_zeros.equals(1), dy.dtype) * other_sum
    return dy * _again(g, n, "ReduceProd", safe) / safe * factor


_reduction("ReduceSum", (13,), "dX = dY.", lambda g, n, y, dy: g.expand_like(dy, n.x), alone=True)  # noqa: ARG005
_reduction("ReduceMean", (18,), "dX = dY / count.", _mean, alone=True)
_reduction("ReduceL1", (18,), "dX = dY * sign(X); 0 at X = 0.", _l1, alone=False)
_reduction("ReduceL2", (18,), "dX = dY * X / Y; 0 at Y = 0.", _norm, alone=False)
_reduction("ReduceSumSquare", (18,), "dX = dY * 2 X.", lambda g, n, y, dy: n.x * (dy * 2), alone=False)  # noqa: ARG005
_reduction(
    "ReduceLogSum", (18, 28), "dX = dY / sum.", lambda g, n, y, dy: g.expand_like(dy * g.op("Exp", -y), n.x), alone=False
)
_reduction("ReduceLogSumExp", (18, 28), "dX = dY * e^(X - Y).", lambda g, n, y, dy: g.op("Exp", n.x - y) * dy, alone=True)
for _op in ("ReduceMax", "ReduceMin"):
    _reduction(_op, (18, 20), "dX = dY where X = Y; those that are equal share it equally.", _extremum, alone=True)
_reduction("ReduceProd", (18,), "dX = dY * the product of the others, also where some are 0.", _prod, alone=True)


# ---- running sums and products ---------------------------------------------------------------------------------------


@vjp("CumSum", since=(14,))
def cum_sum(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX is the running sum of dY from the other end."""
    reverse, exclusive = n.integer("reverse", 0), n.integer("exclusive", 0)
    return (g.op("CumSum", n.dy, n.input(1), reverse=1 - reverse, exclusive=exclusive),)


def _axis_is_constant(n: Site) -> str | None:
    return "axis that is computed in the run" if n.constant(1) is None else None


@expansion("CumProd", since=(26,), refuse=(rank_known, _axis_is_constant))
def cum_prod(g: Emitter, n: Site) -> Sequence[Expr]:
    """Y[j] is the product over k of X[k] where k <= j (k < j, k >= j, k > j), else 1: an axis for j before that of k."""
    axis = int(np.asarray(n.constant(1)).item()) % n.x.rank
    compare = ("LessOrEqual", "Less", "GreaterOrEqual", "Greater")[2 * n.integer("reverse", 0) + n.integer("exclusive", 0)]
    size = g.squeeze(g.size(n.x, axis), [0])
    k = g.op("Range", g.const(0), size, g.const(1))
    after = list(range(1, n.x.rank - axis))
    taken = g.op(compare, g.unsqueeze(k, after), g.unsqueeze(k, [1, *(i + 1 for i in after)]))
    return (g.reduce("ReduceProd", g.where(taken, g.unsqueeze(n.x, [axis]), 1), [axis + 1], keepdims=False),)
