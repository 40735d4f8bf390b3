"""Losses, spelled out; and the determinant."""

from collections.abc import Sequence

from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.autodiff.rules import Cotangent, expansion, vjp
from gradserve_server.graph.autodiff.site import Pull, Site


def _negative_log_likelihood(g: Emitter, n: Site, log_prob: Expr) -> Expr:
    """l = -w[t] log_prob[t] for each target t, then their sum, or their weighted mean sum(l) / sum(w[t]).

    A target that is to be ignored has the weight 0.
    """
    targets, weights = n.input(1), n.optional(2)
    weight = g.op("Gather", weights, targets) if weights is not None else None
    if "ignore_index" in n.node.attributes:
        ignored = targets.equals(n.integer("ignore_index", 0))
        targets = g.where(ignored, 0, targets)
        kept = g.cast(g.op("Not", ignored), log_prob.dtype)
        weight = kept if weights is None else g.op("Gather", weights, targets) * kept
    picked = g.squeeze(g.op("GatherElements", log_prob, g.unsqueeze(targets, [1]), axis=1), [1])
    losses = -picked if weight is None else -(picked * weight)
    match n.string("reduction", "mean"):
        case "none":
            return losses
        case "mean" if weight is None:
            return g.op("ReduceMean", losses, keepdims=0)
        case "mean":
            return g.op("ReduceSum", losses, keepdims=0) / g.op("ReduceSum", weight, keepdims=0)
        case _:
            return g.op("ReduceSum", losses, keepdims=0)


@expansion("NegativeLogLikelihoodLoss", since=(13, 22))
def negative_log_likelihood_loss(g: Emitter, n: Site) -> Sequence[Expr]:
    """See `_negative_log_likelihood`."""
    return (_negative_log_likelihood(g, n, n.x),)


@expansion("SoftmaxCrossEntropyLoss", since=(13,))
def softmax_cross_entropy_loss(g: Emitter, n: Site) -> Sequence[Expr]:
    """See `_negative_log_likelihood`, of LogSoftmax(X) along the classes, which is the second output."""
    log_prob = g.op("LogSoftmax", n.x, axis=1)
    return _negative_log_likelihood(g, n, log_prob), log_prob


def _size(n: Site) -> int | None:
    """Rows of the matrix."""
    sizes = [size for size in (n.x.shape or ())[-2:] if isinstance(size, int)]
    return sizes[0] if sizes else None


def _size_known(n: Site) -> str | None:
    return "a matrix size that is not known before the run" if _size(n) is None else None


@vjp("Det", since=(11, 22), refuse=_size_known)
def det(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY times the cofactors, signed determinants without row i and column j: right for singular matrices too."""
    rank, size = n.x.rank, _size(n)
    dy = g.unsqueeze(n.dy, [-2, -1])
    assert size is not None
    if size == 1:
        return (g.reshape_like(dy, n.x),)
    others = g.const([[k for k in range(size) if k != i] for i in range(size)])
    without_row = g.op("Gather", n.x, others, axis=rank - 2)  # [.., i, row, column]
    minors = g.op("Gather", without_row, others, axis=rank)  # [.., i, row, j, column]
    minors = g.transpose(minors, [*range(rank - 2), rank - 2, rank, rank - 1, rank + 1])
    sign = g.const([[(-1.0) ** (i + j) for j in range(size)] for i in range(size)], n.x.dtype)
    return (dy * (g.op("Det", minors) * sign),)
