"""Arithmetic of two values, and selection."""

import operator

import numpy as np
from conformance.case import Case, Draw

PAIRS = (
    ("same", (2, 3, 4), (2, 3, 4)),
    ("column", (2, 3, 4), (3, 1)),
    ("row", (1, 4), (2, 3, 4)),
    ("both", (2, 1, 4), (1, 3, 1)),
    ("scalar", (2, 3), ()),
)
MASK = np.array([[[True], [False], [True]], [[False], [False], [True]]])


def _binary(op, function, how="normal"):
    return [
        Case(op, f"Y = {op}(A, B)", {"A": Draw(a, how), "B": Draw(b, how)}, function, name=name) for name, a, b in PAIRS
    ]


def _where(a, b):
    import torch

    return torch.where(torch.tensor(MASK), a, b)


CASES = [
    *_binary("Add", operator.add),
    *_binary("Sub", operator.sub),
    *_binary("Mul", operator.mul),
    *_binary("Div", operator.truediv, "positive"),
    Case("Where", "Y = Where(C, A, B)", {"A": (2, 3, 4), "B": (2, 3, 4)}, _where, others={"C": MASK}),
    Case("Where", "Y = Where(C, A, B)", {"A": (3, 4), "B": ()}, _where, others={"C": MASK}, name="broadcast"),
    Case("Mul", "Y = Mul(A, A)", {"A": (2, 3)}, lambda a: a * a, name="square"),
]
