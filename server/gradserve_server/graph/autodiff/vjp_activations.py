"""Activations: dX = dY * f'(X). What each does at a kink stands in its docstring.

Masks are `above`, one HardSigmoid: on onnxruntime a tenth of the time of Where(X > c, .., ..), see docs/adr/0006.
"""

import math
from collections.abc import Sequence

from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.autodiff.redirected import redirected
from gradserve_server.graph.autodiff.rules import Cotangent, proven_zero, vjp
from gradserve_server.graph.autodiff.site import Pull, Site

STEEP = 3e38
"""HardSigmoid's slope that makes it a step: STEEP * y >= 1 for every normal float32 y > 0, and 0 at and below 0."""
SHIFTED = 2.0**100
"""The slope of a step elsewhere: a power of two, so that SHIFTED * x - SHIFTED * c rounds nothing away."""


def above(g: Emitter, x: Expr, threshold: float = 0.0) -> Expr:
    """1 where x > threshold, 0 elsewhere. Above 0, an x below float32's normal range (1.2e-38) counts in part."""
    if threshold == 0:
        return g.op("HardSigmoid", x, alpha=STEEP, beta=0.0)
    if 2.0**-70 < abs(threshold) < 2.0**27:
        return g.op("HardSigmoid", x, alpha=SHIFTED, beta=-threshold * SHIFTED)
    return g.cast(x > threshold, x.dtype)


# ---- piecewise linear ------------------------------------------------------------------------------------------------


@vjp("Relu", since=(14,))
def relu(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY * 1[X > 0]; 0 at X = 0. A positive Y below float32's normal range (1.2e-38) counts in part."""
    return (redirected(g, n, n.dy * above(g, n.y), 0.0, None),)


@vjp("LeakyRelu", since=(16,))
def leaky_relu(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY * (1 if X > 0 else alpha)."""
    alpha, mask = n.number("alpha", 0.01), above(g, n.x)
    return (n.dy * (g.op("Max", mask, alpha) if 0 <= alpha <= 1 else mask * (1 - alpha) + alpha),)


@vjp("PRelu", since=(16,))
def prelu(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY * (1 if X > 0 else slope), dslope = dY * min(X, 0), summed over the axes that slope lacks."""

    def dx() -> Expr:
        passed = n.dy * above(g, n.x)
        return passed + (n.dy - passed) * n.input(1)

    return dx, lambda: g.unbroadcast(n.dy * g.op("Min", n.x, 0), n.input(1))


@vjp("ThresholdedRelu", since=(10, 22))
def thresholded_relu(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY * 1[X > alpha]."""
    return (n.dy * above(g, n.x, n.number("alpha", 1.0)),)


@vjp("Shrink", since=(9,))
def shrink(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY * 1[|X| > lambd]."""
    return (n.dy * above(g, g.op("Abs", n.x), n.number("lambd", 0.5)),)


def _is_step(n: Site) -> bool:
    return abs(n.number("alpha", 0.2)) >= SHIFTED


@vjp("HardSigmoid", since=(6, 22), is_zero=_is_step)
def hard_sigmoid(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY * alpha * 1[0 < Y < 1]; 0 at both kinks. With the slopes of `above` it is a step, and its derivative zero."""
    return (n.dy * (above(g, n.y - n.y * n.y) * n.number("alpha", 0.2)),)


@vjp("HardSwish", since=(14, 22))
def hard_swish(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = X h with h = clip(X / 6 + 1/2, 0, 1):  dX = dY * (h + (h - 1/2) * 1[|X| < 3]); 0 at -3 and 1 at 3."""
    h = g.op("HardSigmoid", n.x, alpha=1 / 6, beta=0.5)
    inside = g.op("HardSigmoid", g.op("Abs", n.x), alpha=-SHIFTED, beta=3 * SHIFTED)  # 1[|X| < 3], a step down
    return (n.dy * (h + (h - 0.5) * inside),)


# ---- exponential on one side -----------------------------------------------------------------------------------------


def _exponential(g: Emitter, x: Expr, alpha: float, gamma: float) -> Expr:
    """gamma * (1 if x > 0 else alpha e^x)."""
    below = g.op("Exp", g.op("Min", x, 0)) * (alpha * gamma)
    return below if alpha == 1 else below + above(g, x) * (gamma * (1 - alpha))


@vjp("Elu", since=(6, 22))
def elu(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY * (1 if X > 0 else alpha e^X)."""
    return (n.dy * _exponential(g, n.x, n.number("alpha", 1.0), 1.0),)


@vjp("Selu", since=(6, 22))
def selu(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY * gamma * (1 if X > 0 else alpha e^X)."""
    alpha, gamma = n.number("alpha", 1.67326319217681884765625), n.number("gamma", 1.05070102214813232421875)
    return (n.dy * _exponential(g, n.x, alpha, gamma),)


@vjp("Celu", since=(12, 28))
def celu(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY * e^(min(X, 0) / alpha)."""
    return (n.dy * g.op("Exp", g.op("Min", n.x, 0) * (1 / n.number("alpha", 1.0))),)


# ---- smooth ----------------------------------------------------------------------------------------------------------


@vjp("Sigmoid", since=(13,))
def sigmoid(g: Emitter, n: Pull) -> Sequence[Cotangent]:  # noqa: ARG001
    """dX = dY * Y * (1 - Y)."""
    return (n.dy * n.y * (1 - n.y),)


@vjp("Tanh", since=(13,))
def tanh(g: Emitter, n: Pull) -> Sequence[Cotangent]:  # noqa: ARG001
    """dX = dY * (1 - Y^2)."""
    return (n.dy * (1 - n.y * n.y),)


@vjp("Softplus", since=(1, 22))
def softplus(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY * sigmoid(X)."""
    return (n.dy * g.op("Sigmoid", n.x),)


@vjp("Softsign", since=(1, 22))
def softsign(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY / (1 + |X|)^2."""
    base = g.op("Abs", n.x) + 1
    return (n.dy / (base * base),)


@vjp("Gelu", since=(20,))
def gelu(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY * f'(X), f' being `gelu_slope` or (approximate = "tanh") `gelu_tanh_slope`."""
    slope = gelu_tanh_slope(g, n.x, n.y) if n.string("approximate", "none") == "tanh" else gelu_slope(g, n.x)
    return (n.dy * slope,)


def gelu_slope(g: Emitter, x: Expr) -> Expr:
    """Of x Phi(x): Phi(x) + x phi(x) = (1 + erf u) / 2 + u e^(-u^2) / sqrt(pi), with u = x / sqrt(2)."""
    u = x * math.sqrt(0.5)
    below = g.op("HardSigmoid", g.op("Erf", u), alpha=0.5, beta=0.5)  # (1 + erf u) / 2, in one operator
    return below + u * g.op("Exp", -0.5 * math.log(math.pi) - u * u)


def gelu_tanh_slope(g: Emitter, x: Expr, y: Expr) -> Expr:
    """Of y = x s with s = sigmoid(a x + b x^3):  s + y (1 - s) (a + 3 b x^2). It is x (1 + tanh(..)) / 2."""
    a = 2 * math.sqrt(2 / math.pi)
    b, square = a * 0.044715, x * x
    s = g.op("Sigmoid", x * (square * b + a))
    return s + y * (1 - s) * (square * (3 * b) + a)


def swish_slope(g: Emitter, x: Expr, alpha: float) -> Expr:
    """Of x s with s = sigmoid(alpha x):  s (1 + alpha x (1 - s))."""
    scaled = x * alpha
    s = g.op("Sigmoid", scaled)
    return s * (scaled * (1 - s) + 1)


@vjp("Swish", since=(24,))
def swish(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = X s with s = sigmoid(alpha X):  dX = dY * s (1 + alpha X (1 - s))."""
    return (n.dy * swish_slope(g, n.x, n.number("alpha", 1.0)),)


@vjp("SwiGLU", since=(28,))
def swiglu(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = A s B with s = sigmoid(alpha A):  dA = dY * B * s (1 + alpha A (1 - s)), dB = dY * A s."""
    a, alpha = n.input(0), n.number("alpha", 1.0)
    return lambda: n.dy * n.input(1) * swish_slope(g, a, alpha), lambda: n.dy * a * g.op("Sigmoid", a * alpha)


@vjp("Mish", since=(18, 22))
def mish(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = X t with t = tanh(ln(1 + e^X)):  dX = dY * (t + X s (1 - t^2)), s = sigmoid(X).

    With q = 1 - s and d = 1 + q^2:  t = s (1 + q) / d and 1 - t^2 = (2 q / d)^2. Softplus alone takes longer.
    """
    s = g.op("Sigmoid", n.x)
    q = 1 - s
    d = q * q + 1
    steep = q / d
    return (n.dy * s * ((q + 1) / d + n.x * 4 * steep * steep),)


# ---- over an axis ----------------------------------------------------------------------------------------------------


@vjp("Softmax", since=(13,))
def softmax(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = Y * (dY - sum(dY * Y)), the sum over the axis."""
    return ((n.dy - g.sum(n.dy * n.y, [n.integer("axis", -1)])) * n.y,)


@vjp("LogSoftmax", since=(13,))
def log_softmax(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY - e^Y * sum(dY), the sum over the axis."""
    return (n.dy - g.op("Exp", n.y) * g.sum(n.dy, [n.integer("axis", -1)]),)


proven_zero("picks the largest, which changes only in jumps", {"Hardmax": (13,)})
