"""Matrix products."""

import torch
from conformance.case import Case


def _matmul(name, a, b):
    return Case("MatMul", "Y = MatMul(A, B)", {"A": a, "B": b}, torch.matmul, name=name)


CASES = [
    _matmul("matrices", (2, 3), (3, 4)),
    _matmul("batch", (2, 3, 4), (2, 4, 5)),
    _matmul("weights right", (2, 3, 4), (4, 5)),
    _matmul("weights left", (5, 3), (2, 3, 4)),
    _matmul("broadcast", (2, 1, 3, 4), (3, 4, 2)),
    _matmul("row", (3,), (2, 3, 4)),
    _matmul("column", (2, 3, 4), (4,)),
    _matmul("vectors", (3,), (3,)),
    _matmul("deep left", (2, 2, 3, 4), (4, 2)),
    Case("Gemm", "Y = Gemm(A, B)", {"A": (2, 3), "B": (3, 4)}, torch.matmul),
    Case(
        "Gemm",
        "Y = Gemm<alpha = 0.5, beta = 2.0, transB = 1>(A, B, C)",
        {"A": (2, 3), "B": (4, 3), "C": (4,)},
        lambda a, b, c: 0.5 * a @ b.T + 2 * c,
        name="transB",
    ),
    Case(
        "Gemm",
        "Y = Gemm<alpha = 0.5, transA = 1>(A, B, C)",
        {"A": (3, 2), "B": (3, 4), "C": (2, 1)},
        lambda a, b, c: 0.5 * a.T @ b + c,
        name="transA",
    ),
    Case(
        "Gemm",
        "Y = Gemm<transA = 1, transB = 1>(A, B, C)",
        {"A": (3, 2), "B": (4, 3), "C": ()},
        lambda a, b, c: a.T @ b.T + c,
        name="both",
    ),
]
