"""Element-wise operators of several values, with broadcasting (the walk undoes it): arithmetic, extrema, selection."""

from collections.abc import Sequence

from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.autodiff.redirected import redirected
from gradserve_server.graph.autodiff.rules import Cotangent, unsupported, vjp
from gradserve_server.graph.autodiff.site import Pull, Site
from gradserve_server.graph.autodiff.vjp_activations import STEEP
from gradserve_server.graph.values import FLOATS

# ---- arithmetic ------------------------------------------------------------------------------------------------------


@vjp("Add", since=(14,), broadcasts=True)
def add(g: Emitter, n: Pull) -> Sequence[Cotangent]:  # noqa: ARG001
    """dA = dY, dB = dY."""
    return n.dy, n.dy


@vjp("Sub", since=(14,), broadcasts=True)
def sub(g: Emitter, n: Pull) -> Sequence[Cotangent]:  # noqa: ARG001
    """dA = dY, dB = -dY."""
    return n.dy, lambda: -n.dy


@vjp("Mul", since=(14,), broadcasts=True)
def mul(g: Emitter, n: Pull) -> Sequence[Cotangent]:  # noqa: ARG001
    """dA = dY * B, dB = dY * A."""
    return lambda: n.dy * n.input(1), lambda: n.dy * n.input(0)


@vjp("Div", since=(14,), broadcasts=True)
def div(g: Emitter, n: Pull) -> Sequence[Cotangent]:  # noqa: ARG001
    """dA = dY / B, dB = -(dY / B) * Y."""
    return lambda: n.dy / n.input(1), lambda: -(n.dy / n.input(1)) * n.y


@vjp("Where", since=(16,), broadcasts=True)
def where(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dA = dY where C, dB = dY where not C."""

    def chosen(yes: bool) -> Expr:
        return g.where(n.input(0), n.dy, 0) if yes else g.where(n.input(0), 0, n.dy)

    return None, lambda: chosen(yes=True), lambda: chosen(yes=False)


# ---- of any number of values -----------------------------------------------------------------------------------------


@vjp("Sum", since=(13,), broadcasts=True)
def sum_(g: Emitter, n: Pull) -> Sequence[Cotangent]:  # noqa: ARG001
    """dX_i = dY."""
    return [n.dy] * len(n.inputs)


@vjp("Mean", since=(13,), broadcasts=True)
def mean(g: Emitter, n: Pull) -> Sequence[Cotangent]:  # noqa: ARG001
    """dX_i = dY / k."""
    return [n.dy * (1 / len(n.inputs))] * len(n.inputs)


def _extremum(g: Emitter, n: Pull, steep: float) -> Sequence[Cotangent]:
    """dX_i = dY * 1[X_i = Y] / (how many are equal to Y)."""
    inputs = [n.input(i) for i in range(len(n.inputs))]
    if len(inputs) == 1:
        return (n.dy,)
    if len(inputs) == 2:
        # 1 where the first one wins, 1/2 where they are equal.
        first = g.op("HardSigmoid", inputs[0] - inputs[1], alpha=steep, beta=0.5)
        return lambda: n.dy * first, lambda: n.dy * (1 - first)
    equal = [g.cast(x.equals(n.y), n.dy.dtype) for x in inputs]
    share = n.dy / g.op("Sum", *equal)
    return [share * mask for mask in equal]


@vjp("Max", since=(13,), broadcasts=True)
def max_(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX_i = dY where X_i is the largest; the largest share it equally."""
    return _extremum(g, n, STEEP)


@vjp("Min", since=(13,), broadcasts=True)
def min_(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX_i = dY where X_i is the smallest; the smallest share it equally."""
    return _extremum(g, n, -STEEP)


@vjp("Clip", since=(13,))
def clip(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = min(max(X, low), high):  dX = dY where X = Y (so at the kinks too), dlow = sum dY where X < low, dhigh the rest.

    With low > high everything flows to high.
    """
    low, high = n.optional(1), n.optional(2)

    def masked(mask: Expr) -> Expr:
        return n.dy * g.cast(mask, n.dy.dtype)

    def dlow() -> Expr:
        below = n.x < low
        return g.unbroadcast(masked(below if high is None else g.op("And", below, low <= high)), n.input(1))

    def dhigh() -> Expr:
        return g.unbroadcast(masked((n.x if low is None else g.op("Max", n.x, low)) > high), n.input(2))

    return lambda: redirected(g, n, masked(n.x.equals(n.y)), low, high), dlow, dhigh


# ---- the same value --------------------------------------------------------------------------------------------------


@vjp("Identity", since=(16, 19, 21, 23, 24, 25))
def identity(g: Emitter, n: Pull) -> Sequence[Cotangent]:  # noqa: ARG001
    """dX = dY."""
    return (n.dy,)


@vjp("Cast", since=(13, 19, 21, 23, 24, 25, 28))
@vjp("CastLike", since=(15, 19, 21, 23, 24, 25), zero=(1,))
def cast(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX is dY in the type of X: between floats a cast counts as the identity. To an integer it is a step: no derivative."""
    return (g.cast(n.dy, n.x.dtype) if n.x.dtype in FLOATS else n.dy,)


def _is_training(n: Site) -> str | None:
    if not n.has(2):
        return None
    mode = n.constant(2)
    return "training_mode that is computed in the run" if mode is None else "training_mode" if mode.any() else None


@vjp("Dropout", since=(13, 22), zero=(1,), refuse=_is_training)
def dropout(g: Emitter, n: Pull) -> Sequence[Cotangent]:  # noqa: ARG001
    """Y = X in inference:  dX = dY."""
    return (n.dy,)


unsupported("the bits of a number, read as another number, are no function that has a derivative", {"BitCast": (26,)})
