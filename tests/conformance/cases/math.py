"""Mathematical functions of one value; powers and remainders."""

import numpy as np
import torch
from conformance.case import Case, Draw

X, POSITIVE, UNIT = ({"X": Draw((2, 3, 4), how)} for how in ("normal", "positive", "unit"))
ONE = {"one": np.array(1.0)}
OLD, NEW = (18,), (18, 22)
"""Of operators with one version in the table, and with two."""


def _constant_power(exponent, how="positive", dtype=np.float64):
    return Case(
        "Pow",
        "Y = Pow(X, c)",
        {"X": Draw((2, 3), how)},
        lambda x: x ** float(exponent),
        OLD,
        constants={"c": np.array(exponent, dtype)},
        name=f"{exponent} {np.dtype(dtype).name}",
    )


def _power(name, a, b, how="positive"):
    return Case("Pow", "Y = Pow(A, B)", {"A": Draw(a, how), "B": b}, torch.pow, OLD, name=name)


INTEGERS = np.array([[0, 1, 2], [3, -1, -2]])

CASES = [
    Case("Abs", "Y = Abs(X)", X, torch.abs, OLD),
    Case("Neg", "Y = Neg(X)", X, torch.neg, OLD),
    Case("Exp", "Y = Exp(X)", X, torch.exp, OLD),
    Case("Log", "Y = Log(X)", POSITIVE, torch.log, OLD),
    Case("Sqrt", "Y = Sqrt(X)", POSITIVE, torch.sqrt, OLD),
    Case("Reciprocal", "Y = Reciprocal(X)", POSITIVE, torch.reciprocal, OLD),
    Case("Erf", "Y = Erf(X)", X, torch.erf, OLD),
    Case("Sin", "Y = Sin(X)", X, torch.sin, NEW),
    Case("Cos", "Y = Cos(X)", X, torch.cos, NEW),
    Case("Tan", "Y = Tan(X)", UNIT, torch.tan, NEW),
    Case("Sinh", "Y = Sinh(X)", X, torch.sinh, NEW),
    Case("Cosh", "Y = Cosh(X)", X, torch.cosh, NEW),
    Case("Asin", "Y = Asin(X)", UNIT, torch.asin, NEW),
    Case("Acos", "Y = Acos(X)", UNIT, torch.acos, NEW),
    Case("Atan", "Y = Atan(X)", X, torch.atan, NEW),
    Case("Asinh", "Y = Asinh(X)", X, torch.asinh, NEW),
    Case("Acosh", "Z = Add(X, one) Y = Acosh(Z)", POSITIVE, lambda x: torch.acosh(x + 1), NEW, constants=ONE),
    Case("Atanh", "Y = Atanh(X)", UNIT, torch.atanh, NEW),
    *(_constant_power(exponent, "normal") for exponent in (0.0, 1.0, 2.0, 3.0)),
    *(_constant_power(exponent) for exponent in (0.5, -1.0, -2.0, 2.7)),
    *(_constant_power(exponent, "normal", np.int64) for exponent in (0, 2, 3)),
    _power("two inputs", (2, 3), (2, 3)),
    _power("broadcast", (2, 3), (4, 1, 1)),
    _power("scalar base", (), (2, 3)),
    Case(
        "Pow",
        "Y = Pow(X, B)",
        {"X": Draw((2, 3), "positive")},
        lambda x: x ** torch.tensor(INTEGERS),
        OLD,
        others={"B": INTEGERS},
        name="integer exponents",
    ),
    Case("Mod", "Y = Mod<fmod = 1>(A, B)", {"A": (2, 3, 4), "B": Draw((3, 1), "positive")}, torch.fmod, (18, 28)),
    Case("Mod", "Y = Mod(A, B)", {"A": (2, 3, 4), "B": Draw((3, 1), "positive")}, torch.remainder, (28,), name="floored"),
]
