"""Element-wise operators of several values, and those that give the same value again."""

import functools
import operator

import numpy as np
import torch
from conformance.case import Case, Draw

PAIRS = (
    ("same", (2, 3, 4), (2, 3, 4)),
    ("column", (2, 3, 4), (3, 1)),
    ("row", (1, 4), (2, 3, 4)),
    ("both", (2, 1, 4), (1, 3, 1)),
    ("scalar", (2, 3), ()),
)
OLD = (18,)
"""Of operators with one version in the table."""
X = {"X": (2, 3, 4)}
LOW, HIGH = {"L": np.array(-0.5)}, {"H": np.array(0.8)}
MASK = np.array([[[True], [False], [True]], [[False], [False], [True]]])


def _binary(op, function, how="normal"):
    return [Case(op, f"Y = {op}(A, B)", {"A": Draw(a, how), "B": Draw(b, how)}, function, name=name) for name, a, b in PAIRS]


def _where(a, b):
    return torch.where(torch.tensor(MASK), a, b)


def _variadic(op, function):
    shapes = {"A": (2, 3, 4), "B": (3, 1), "C": (1, 1, 4), "D": ()}
    return [
        Case(op, f"Y = {op}({', '.join(list(shapes)[:k])})", dict(list(shapes.items())[:k]), function, OLD, name=f"{k}")
        for k in range(1, 5)
    ]


def _reduce(function):
    return lambda *xs: functools.reduce(function, xs)


CASES = [
    *_binary("Add", operator.add),
    *_binary("Sub", operator.sub),
    *_binary("Mul", operator.mul),
    *_binary("Div", operator.truediv, "positive"),
    Case("Where", "Y = Where(C, A, B)", {"A": (2, 3, 4), "B": (2, 3, 4)}, _where, others={"C": MASK}),
    Case("Where", "Y = Where(C, A, B)", {"A": (3, 4), "B": ()}, _where, others={"C": MASK}, name="broadcast"),
    Case("Mul", "Y = Mul(A, A)", {"A": (2, 3)}, lambda a: a * a, name="square"),
    *_variadic("Max", _reduce(torch.maximum)),
    *_variadic("Min", _reduce(torch.minimum)),
    *_variadic("Sum", lambda *xs: sum(xs)),
    *_variadic("Mean", lambda *xs: sum(xs) / len(xs)),
    Case("Clip", "Y = Clip(X, L, H)", X, lambda x: x.clamp(-0.5, 0.8), OLD, constants=LOW | HIGH),
    Case("Clip", "Y = Clip(X, L)", X, lambda x: x.clamp(min=-0.5), OLD, constants=LOW, name="below"),
    Case("Clip", "Y = Clip(X, , H)", X, lambda x: x.clamp(max=0.8), OLD, constants=HIGH, name="above"),
    Case("Clip", "Y = Clip(X)", X, torch.clone, OLD, name="nowhere"),
    # The constants keep the bounds in order.
    Case(
        "Clip",
        "L = Sub(A, c) H = Add(B, c) Y = Clip(X, L, H)",
        X | {"A": Draw((), "unit"), "B": Draw((), "unit")},
        lambda x, a, b: torch.clamp(x, a - 1, b + 1),
        OLD,
        constants={"c": np.array(1.0)},
        name="bounds given",
    ),
    Case("Clip", "Y = Clip(X, A)", X | {"A": Draw((), "unit")}, torch.maximum, OLD, name="lower bound given"),
    Case("Clip", "Y = Clip(X, , B)", X | {"B": Draw((), "unit")}, torch.minimum, OLD, name="upper bound given"),
    Case("Identity", "Y = Identity(X)", X, torch.clone, (18, 19, 21, 23, 24, 25)),
    Case("Dropout", "Y = Dropout(X)", X, torch.clone, (18, 22)),
    Case("Cast", "Z = Cast<to = 11>(X) S = Mul(Z, Z) Y = Cast<to = TYPE>(S)", X, torch.square, (18, 19, 21, 23, 24, 25, 28)),
    Case(
        "CastLike",
        "Z = Cast<to = 11>(X) S = Mul(Z, Z) Y = CastLike(S, X)",
        X,
        torch.square,
        (18, 19, 21, 23, 24, 25),
    ),
]
