"""Mathematical functions of one value, one line each; powers and remainders."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.autodiff.rules import Cotangent, vjp
from gradserve_server.graph.autodiff.site import Pull
from gradserve_server.graph.autodiff.vjp_activations import STEEP

# ---- of one value ----------------------------------------------------------------------------------------------------


def _function(op: str, since: tuple[int, ...], formula: str, dx: Callable[[Emitter, Pull], Expr]) -> None:
    def pull(g: Emitter, n: Pull) -> Sequence[Cotangent]:
        return (dx(g, n),)

    pull.__doc__ = formula
    vjp(op, since=since)(pull)


def _one_minus_square(x: Expr) -> Expr:
    """(1 - x) (1 + x): keeps its digits near x = 1, which 1 - x^2 does not."""
    return (1 - x) * (x + 1)


def signed(g: Emitter, dy: Expr, x: Expr) -> Expr:
    """Dy * sign(x). A third of the time of Sign on onnxruntime: a step that is 1/2 at 0, twice, less one."""
    half = dy * g.op("HardSigmoid", x, alpha=STEEP, beta=0.5)
    return half - (dy - half)


_function("Abs", (13,), "dX = dY * sign(X); 0 at X = 0.", lambda g, n: signed(g, n.dy, n.x))
_function("Neg", (13,), "dX = -dY.", lambda g, n: -n.dy)  # noqa: ARG005
_function("Exp", (13,), "dX = dY * Y.", lambda g, n: n.dy * n.y)  # noqa: ARG005
_function("Log", (13,), "dX = dY / X.", lambda g, n: n.dy / n.x)  # noqa: ARG005
_function("Sqrt", (13,), "dX = dY / (2 Y).", lambda g, n: n.dy / (n.y * 2))  # noqa: ARG005
_function("Reciprocal", (13,), "dX = -dY * Y^2.", lambda g, n: -(n.dy * (n.y * n.y)))  # noqa: ARG005
_function(
    "Erf",
    (13,),
    "dX = dY * 2 / sqrt(pi) * e^(-X^2).",
    lambda g, n: n.dy * g.op("Exp", math.log(2 / math.sqrt(math.pi)) - n.x * n.x),
)

_function("Sin", (7, 22), "dX = dY * cos(X).", lambda g, n: n.dy * g.op("Cos", n.x))
_function("Cos", (7, 22), "dX = -dY * sin(X).", lambda g, n: -(n.dy * g.op("Sin", n.x)))
_function("Tan", (7, 22), "dX = dY * (1 + Y^2).", lambda g, n: n.dy * (n.y * n.y + 1))  # noqa: ARG005
_function("Sinh", (9, 22), "dX = dY * cosh(X).", lambda g, n: n.dy * g.op("Cosh", n.x))
_function("Cosh", (9, 22), "dX = dY * sinh(X).", lambda g, n: n.dy * g.op("Sinh", n.x))

_function("Asin", (7, 22), "dX = dY / sqrt(1 - X^2).", lambda g, n: n.dy / g.op("Sqrt", _one_minus_square(n.x)))
_function("Acos", (7, 22), "dX = -dY / sqrt(1 - X^2).", lambda g, n: -(n.dy / g.op("Sqrt", _one_minus_square(n.x))))
_function("Atan", (7, 22), "dX = dY / (1 + X^2).", lambda g, n: n.dy / (n.x * n.x + 1))  # noqa: ARG005
_function("Asinh", (9, 22), "dX = dY / sqrt(X^2 + 1).", lambda g, n: n.dy / g.op("Sqrt", n.x * n.x + 1))
_function("Acosh", (9, 22), "dX = dY / sqrt(X^2 - 1).", lambda g, n: n.dy / g.op("Sqrt", (n.x - 1) * (n.x + 1)))
_function("Atanh", (9, 22), "dX = dY / (1 - X^2).", lambda g, n: n.dy / _one_minus_square(n.x))  # noqa: ARG005


# ---- of two ----------------------------------------------------------------------------------------------------------


def _constant_power(n: Pull, exponent: float) -> Expr:
    """dX = dY * c X^(c - 1), without a Pow where there is a faster way."""
    match exponent:
        case 0:
            return n.dy * 0
        case 1:
            return n.dy
        case 0.5:
            return n.dy / (n.y * 2)
        case -1:
            return -(n.dy * (n.y * n.y))
        case _:
            return n.dy * (n.x ** (exponent - 1) * exponent)


@vjp("Pow", since=(15,), broadcasts=True)
def power(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Z = X^Y:  dX = dZ * Y X^(Y - 1), 0 where X = Y = 0;  dY = dZ * Z ln X, 0 where X = 0 and Y >= 0."""
    x, y, z = n.input(0), n.input(1), n.y
    known = n.constant(1)

    def dx() -> Expr:
        if known is not None and known.size == 1:
            return _constant_power(n, float(np.asarray(known, np.float64).item()))
        origin = g.op("And", x.equals(0), y.equals(0))
        return n.dy * (g.cast(y, n.dy.dtype) * g.where(origin, 1, x) ** (y - 1))

    def dy() -> Expr:
        flat = g.op("And", x.equals(0), y >= 0)
        return g.cast(n.dy * z * g.op("Log", g.where(flat, 1, x)), y.dtype)

    return dx, dy


@vjp("Mod", since=(13, 28), broadcasts=True)
def mod(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """C = A - q B with a whole q that changes only in jumps:  dA = dC, dB = -q dC."""

    def quotient() -> Expr:
        return g.op("Round", (n.input(0) - n.y) / n.input(1))

    return n.dy, lambda: -(n.dy * quotient())
