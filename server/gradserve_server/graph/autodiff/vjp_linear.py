"""Matrix products. A cotangent goes through the same product with the other factor transposed."""

from collections.abc import Sequence

from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.autodiff.rules import Cotangent, vjp
from gradserve_server.graph.autodiff.site import Pull, Site


def _ranks_known(n: Site) -> str | None:
    return None if all(x is not None and x.shape is not None for x in n.inputs) else "ranks not known before the run"


def _transposed(g: Emitter, x: Expr) -> Expr:
    """The last two axes swapped."""
    return g.transpose(x, [*range(x.rank - 2), x.rank - 1, x.rank - 2], merge=True)


@vjp("MatMul", since=(13,), refuse=_ranks_known)
def matmul(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = A B:  dA = dY B^T, dB = A^T dY, summed over the batch axes that were broadcast.

    A vector A is a row [1, K], a vector B a column [K, 1], as in numpy.matmul.
    """
    a, b = n.input(0), n.input(1)
    row, column = a.rank == 1, b.rank == 1
    matrix_a = g.unsqueeze(a, [0]) if row else a
    matrix_b = g.unsqueeze(b, [1]) if column else b
    # The axes that a vector took away from Y, innermost last: [] -> [1, 1], [.., M] -> [.., M, 1], [.., N] -> [.., 1, N].
    dy = g.unsqueeze(n.dy, [-2] * row + [-1] * column)

    def da() -> Expr:
        if matrix_b.rank == 2:
            # Gemm reads B transposed where it lies; a Transpose of a weight is a copy of the weight.
            return g.reshape_like(g.op("Gemm", rows(dy), matrix_b, transB=1), a)
        return g.reshape_like(g.unbroadcast(g.op("MatMul", dy, _transposed(g, matrix_b)), matrix_a), a)

    def db() -> Expr:
        if matrix_b.rank == 2:
            # One product instead of one for each matrix of the batch, and a sum.
            return g.reshape_like(g.op("Gemm", rows(matrix_a), rows(dy), transA=1), b)
        return g.reshape_like(g.unbroadcast(g.op("MatMul", _transposed(g, matrix_a), dy), matrix_b), b)

    def rows(x: Expr) -> Expr:
        """All matrices of a batch below one another."""
        return x if x.rank == 2 else g.reshape(x, -1, g.size(x, -1))

    return da, db


@vjp("Gemm", since=(13,))
def gemm(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = alpha * A' B' + beta * C with A' = A or A^T:  dA' = alpha * dY B'^T, dB' = alpha * A'^T dY, dC = beta * dY."""
    a, b = n.input(0), n.input(1)
    alpha, beta = n.number("alpha", 1.0), n.number("beta", 1.0)
    trans_a, trans_b = n.integer("transA", 0), n.integer("transB", 0)

    def product(left: Expr, right: Expr, trans_left: int, trans_right: int) -> Expr:
        return g.op("Gemm", left, right, alpha=alpha, transA=trans_left, transB=trans_right)

    def da() -> Expr:
        return product(b, n.dy, trans_b, 1) if trans_a else product(n.dy, b, 0, 1 - trans_b)

    def db() -> Expr:
        return product(n.dy, a, 1, trans_a) if trans_b else product(a, n.dy, 1 - trans_a, 0)

    return da, db, lambda: g.unbroadcast(n.dy * beta, n.input(2))
