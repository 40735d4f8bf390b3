"""`com.microsoft` operators that stand alone: activations, and relatives of standard operators.

Gradients are in standard operators only, whatever the forward graph uses.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir

from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.autodiff.rules import (
    MICROSOFT,
    Cotangent,
    Expansion,
    Refusal,
    Rule,
    expansion,
    lookup,
    rank_known,
    vjp,
)
from gradserve_server.graph.autodiff.site import Pull, Site

V1 = (1,)
"""Every operator of this domain has one version."""

# ---- activations -----------------------------------------------------------------------------------------------------


def gelu_slope(g: Emitter, x: Expr) -> Expr:
    """Phi(x) + x phi(x): the normal distribution's function and density."""
    below = (g.op("Erf", x * math.sqrt(0.5)) + 1) * 0.5
    return below + x * (g.op("Exp", x * x * -0.5) * (1 / math.sqrt(2 * math.pi)))


def fast_gelu_slope(g: Emitter, x: Expr) -> Expr:
    """(1 + t) / 2 + x (1 - t^2) u' / 2 of x (1 + t) / 2 with t = tanh(u), u = sqrt(2/pi) (x + 0.044715 x^3)."""
    a, b = math.sqrt(2 / math.pi), math.sqrt(2 / math.pi) * 0.044715
    square = x * x
    t = g.op("Tanh", x * (square * b + a))
    return ((t + 1) + x * (1 - t * t) * (square * (3 * b) + a)) * 0.5


def silu_slope(g: Emitter, x: Expr, alpha: float) -> Expr:
    """s (1 + alpha x (1 - s)) of x s with s = sigmoid(alpha x)."""
    s = g.op("Sigmoid", x * alpha)
    return s * (x * alpha * (1 - s) + 1)


def _biased(slope: Callable[[Emitter, Expr], Expr]) -> Callable[[Emitter, Pull], Sequence[Cotangent]]:
    """The rule of f(X + bias): dX = dY * f'(X + bias), and dbias its sum over the axes that bias lacks."""

    def pull(g: Emitter, n: Pull) -> Sequence[Cotangent]:
        """Y = f(X + B): dX = dY f'(X + B), dB = the sum of dX over the axes that B was broadcast along."""
        dx = n.dy * slope(g, n.x + n.input(1) if n.has(1) else n.x)
        return dx, lambda: g.unbroadcast(dx, n.input(1))

    return pull


vjp("Gelu", "BiasGelu", since=V1, domain=MICROSOFT)(_biased(gelu_slope))
vjp("FastGelu", since=V1, domain=MICROSOFT)(_biased(fast_gelu_slope))


@vjp("QuickGelu", since=V1, domain=MICROSOFT)
def quick_gelu(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = X s with s = sigmoid(alpha X):  dX = dY * s (1 + alpha X (1 - s))."""
    return (n.dy * silu_slope(g, n.x, n.number("alpha", 1.702)),)


# ---- linear algebra --------------------------------------------------------------------------------------------------


@vjp("Inverse", since=V1, domain=MICROSOFT, refuse=rank_known)
def inverse(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = X^-1:  dX = -Y^T dY Y^T."""
    transposed = g.transpose(n.y, [*range(n.x.rank - 2), n.x.rank - 1, n.x.rank - 2])
    return (-g.op("MatMul", g.op("MatMul", transposed, n.dy), transposed),)


def _is_known_metric(n: Site) -> str | None:
    metric = n.string("metric", "sqeuclidean")
    return None if metric in ("sqeuclidean", "euclidean") else f"no rule for the metric '{metric}'"


@vjp("CDist", since=V1, domain=MICROSOFT, refuse=_is_known_metric)
def cdist(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """C[i, j] = |A[i] - B[j]|^2:  dA[i] = 2 sum_j dC[i, j] (A[i] - B[j]), dB[j] likewise.

    Of the distance itself: the same with dC / (2 C) for dC; 0 between equal points.
    """
    a, b = n.input(0), n.input(1)
    weight = n.dy * 2
    if n.string("metric", "sqeuclidean") == "euclidean":
        apart = n.y > 0
        weight = g.where(apart, n.dy / g.where(apart, n.y, 1), 0)
    flipped = g.transpose(weight, [1, 0])
    return (
        lambda: a * g.sum(weight, [1]) - g.op("MatMul", weight, b),
        lambda: b * g.sum(flipped, [1]) - g.op("MatMul", flipped, a),
    )


# ---- relatives of standard operators ---------------------------------------------------------------------------------


def like(op_type: str) -> Refusal:
    """Refuses what the standard operator with the same inputs refuses."""

    def refuse(n: Site) -> str | None:
        state = lookup(ir.Node("", op_type, []), n.opset)
        if not isinstance(state, (Rule, Expansion)):
            return f"{op_type}: {state.reason}"
        return next((reason for of in state.refuse if (reason := of(n)) is not None), None)

    return refuse


@vjp("SampleOp", since=V1, domain=MICROSOFT)
def sample_op(g: Emitter, n: Pull) -> Sequence[Cotangent]:  # noqa: ARG001
    """Y = X:  dX = dY."""
    return (n.dy,)


@vjp("ExpandDims", since=V1, domain=MICROSOFT)
def expand_dims(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """A new axis of size 1:  dX is dY in the shape of X."""
    return (g.reshape_like(n.dy, n.x),)


@expansion("GatherND", since=V1, domain=MICROSOFT, refuse=(rank_known, like("GatherND")))
def gather_nd(g: Emitter, n: Site) -> Sequence[Expr]:
    """The standard operator, without batch axes."""
    return (g.op("GatherND", n.x, n.input(1)),)


@expansion("Trilu", since=V1, domain=MICROSOFT, refuse=(rank_known, like("Trilu")))
def trilu(g: Emitter, n: Site) -> Sequence[Expr]:
    """The standard operator."""
    return (g.op("Trilu", n.x, n.optional(1), upper=n.integer("upper", 1)),)


@expansion("Pad", since=V1, domain=MICROSOFT, refuse=rank_known)
def pad(g: Emitter, n: Site) -> Sequence[Expr]:
    """The standard operator; its pads may have a first axis of size 1."""
    pads, value = n.input(1), n.optional(2)
    pads = pads if pads.shape == (2 * n.x.rank,) else g.reshape(pads, -1)
    value = value if value is None or value.shape == () else g.reshape(value)
    return (g.op("Pad", n.x, pads, value, mode=n.string("mode", "constant")),)


def _pads_are_constant(n: Site) -> str | None:
    return None if not n.has(2) or n.constant(2) is not None else "pads that are computed in the run"


@expansion("ConvTransposeWithDynamicPads", since=V1, domain=MICROSOFT, refuse=(rank_known, _pads_are_constant))
def conv_transpose_with_dynamic_pads(g: Emitter, n: Site) -> Sequence[Expr]:
    """The standard operator, with the pads where they are constant."""
    attributes = {name: attribute.value for name, attribute in n.node.attributes.items()}
    pads = n.constant(2)
    if pads is not None:
        attributes |= {"pads": [int(pad) for pad in pads.ravel()]}
    return (g.op("ConvTranspose", n.x, n.input(1), n.optional(3), **attributes),)


@expansion("GridSample", since=V1, domain=MICROSOFT, refuse=(rank_known, like("GridSample")))
def grid_sample(g: Emitter, n: Site) -> Sequence[Expr]:
    """The standard operator, whose modes have other names from opset 20 on."""
    mode = n.string("mode", "bilinear")
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode) if g.opset >= 20 else mode
    attributes: dict[str, Any] = {
        "mode": mode,
        "padding_mode": n.string("padding_mode", "zeros"),
        "align_corners": n.integer("align_corners", 0),
    }
    return (g.op("GridSample", n.x, n.input(1), **attributes),)


@expansion("UnfoldTensor", since=V1, domain=MICROSOFT, refuse=rank_known)
def unfold_tensor(g: Emitter, n: Site) -> Sequence[Expr]:
    """Y[.., i, .., k] = X[.., step i + k, ..]: one Gather, whose second new axis goes last."""
    rank, size, step = n.x.rank, n.integer("size", 1), n.integer("step", 1)
    axis = n.integer("dim", -1) % rank
    ends = g.squeeze(g.size(n.x, axis), [0]) - (size - 1)
    starts = g.op("Range", g.const(0), ends, g.const(step))
    indices = g.unsqueeze(starts, [1]) + g.const([list(range(size))])
    windows = g.op("Gather", n.x, indices, axis=axis)
    return (g.transpose(windows, [i for i in range(rank + 1) if i != axis + 1] + [axis + 1]),)


@vjp("Range", since=V1, domain=MICROSOFT, zero=(1,))
def range_(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y[i] = start + i delta:  dstart = sum dY, ddelta = sum i dY[i]; the limit only moves the length, in jumps."""

    def ddelta() -> Expr:
        length = g.squeeze(g.size(n.y, 0), [0])
        steps = g.cast(g.op("Range", g.const(0), length, g.const(1)), n.dy.dtype)
        return g.reshape_like(g.sum(n.dy * steps, [0]), n.input(2))

    return lambda: g.reshape_like(g.sum(n.dy, [0]), n.input(0)), None, ddelta
