"""Element-wise operators: arithmetic of two values, with broadcasting (the walk undoes it), and selection."""

from collections.abc import Sequence

from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.autodiff.rules import Cotangent, vjp
from gradserve_server.graph.autodiff.site import Pull

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

    def chosen(yes: bool) -> Expr:  # noqa: FBT001
        return g.where(n.input(0), n.dy, 0) if yes else g.where(n.input(0), 0, n.dy)

    return None, lambda: chosen(yes=True), lambda: chosen(yes=False)
