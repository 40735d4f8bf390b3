"""Gradients that an activation would block altogether, redirected: how an ascent begins where its unit does not fire.

Lucid's rule (lucid/misc/redirected_relu_grad.py), for a ReLU and for a Clip (ReLU6), sample by sample along axis 0:

    passed    = dy where the activation is not flat, else 0            its derivative
    filtered  = 0 where x < low and dy < 0, 0 where x > high and dy > 0, else dy
    dx        = passed, if any number of it is not 0, else filtered

So a unit that is below its range may be pushed up, and one above it down. (Signs are those of a gradient to ascend; Lucid's
are of one to descend.) It is no derivative of anything.
"""

from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.autodiff.site import Pull

_LEAST_RANK = 2
"""As in Lucid: without other axes there is no whole of a sample."""


def redirected(g: Emitter, n: Pull, passed: Expr, low: Expr | float | None, high: Expr | float | None) -> Expr:
    """What an activation passes back, if the emitter redirects; `passed` otherwise.

    Args:
        g: The emitter.
        n: The activation.
        passed: Its derivative's.
        low: Where it is flat below; None: nowhere. At exactly `low` and `high` everything is let through.
        high: Where it is flat above; None: nowhere.
    """
    if not g.redirect_relu or n.x.shape is None or n.x.rank < _LEAST_RANK:
        return passed
    filtered = n.dy
    if low is not None:
        filtered = g.where(g.op("And", n.x < low, n.dy < 0), g.const(0, n.dy.dtype), filtered)
    if high is not None:
        filtered = g.where(g.op("And", n.x > high, n.dy > 0), g.const(0, n.dy.dtype), filtered)
    largest = g.reduce("ReduceMax", g.op("Abs", passed), range(1, n.x.rank))
    return g.where(largest > 0, passed, filtered)
