"""Element-wise functions of one value: dX = dY * f'(X). What each does at a kink stands in its docstring."""

from collections.abc import Sequence

from gradserve_server.graph.autodiff.emitter import Emitter
from gradserve_server.graph.autodiff.rules import Cotangent, vjp
from gradserve_server.graph.autodiff.site import Pull, Site

STEEP = 3e38
"""HardSigmoid's slope that makes it a step: STEEP * y >= 1 for every normal float32 y > 0, and 0 at and below 0."""


@vjp("Relu", since=(14,))
def relu(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY * 1[X > 0]; 0 at X = 0. A positive Y below float32's normal range (1.2e-38) counts in part."""
    # The fastest exact mask on onnxruntime: a tenth of the time of Where(Y > 0, dY, 0), see docs/adr/0006.
    return (n.dy * g.op("HardSigmoid", n.y, alpha=STEEP, beta=0.0),)


@vjp("Sigmoid", since=(13,))
def sigmoid(g: Emitter, n: Pull) -> Sequence[Cotangent]:  # noqa: ARG001
    """dX = dY * Y * (1 - Y)."""
    return (n.dy * n.y * (1 - n.y),)


@vjp("Tanh", since=(13,))
def tanh(g: Emitter, n: Pull) -> Sequence[Cotangent]:  # noqa: ARG001
    """dX = dY * (1 - Y^2)."""
    return (n.dy * (1 - n.y * n.y),)


def _is_step(n: Site) -> bool:
    return n.number("alpha", 0.2) >= STEEP / 2


@vjp("HardSigmoid", since=(6, 22), is_zero=_is_step)
def hard_sigmoid(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY * alpha * 1[0 < Y < 1]; 0 at both kinks. With the slope `STEEP` it is a step, and its derivative zero."""
    inside = g.op("And", n.y > 0, n.y < 1)
    return (g.where(inside, n.dy * n.number("alpha", 0.2), 0),)
