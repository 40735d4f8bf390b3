"""The operators that programs are made of: what each reads, and its instructions (csrc/kernels/simd/pointwise.h)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from gradserve_server.graph.values import attribute, constant

Do = Callable[..., str]
"""Writes an instruction: do("add", a, b) is the operand that holds its result."""


def all_inputs(node: ir.Node) -> list[ir.Value] | None:
    """Every input that is given."""
    return [value for value in node.inputs if value is not None]


@dataclass(frozen=True)
class Formula:
    """An operator on numbers one by one.

    Attributes:
        write: Its instructions, for a node and its operands.
        reads: Which inputs are operands; None where the node is one that has no program.
    """

    write: Callable[[Do, ir.Node, Sequence[str]], str]
    reads: Callable[[ir.Node], list[ir.Value] | None] = all_inputs


def number(value: float) -> str:
    """A number as programs write it: the shortest text that float32 reads back to it."""
    return f"#{np.float32(value)!s}"


def _one(instruction: str) -> Formula:
    return Formula(lambda do, _, operands: do(instruction, *operands))


def _chain(instruction: str) -> Formula:
    def write(do: Do, _: ir.Node, operands: Sequence[str]) -> str:
        if len(operands) == 1:
            return do("copy", operands[0])
        total = operands[0]
        for operand in operands[1:]:
            total = do(instruction, total, operand)
        return total

    return Formula(write)


def _first(node: ir.Node) -> list[ir.Value] | None:
    return [node.inputs[0]] if node.inputs[0] is not None else None


def _scalar(value: ir.Value | None) -> float | None:
    array = constant(value)
    return float(np.asarray(array).item()) if array is not None and array.size == 1 else None


def _between_numbers(node: ir.Node) -> list[ir.Value] | None:
    if "min" in node.attributes or "max" in node.attributes:  # until opset 11
        return None
    bounds = [value for value in node.inputs[1:3] if value is not None]
    return _first(node) if all(_scalar(value) is not None for value in bounds) else None


def _clip(do: Do, node: ir.Node, operands: Sequence[str]) -> str:
    bounds = [_scalar(node.inputs[i]) if len(node.inputs) > i else None for i in (1, 2)]
    low, high = (bound if bound is not None else end for bound, end in zip(bounds, (-np.inf, np.inf), strict=True))
    return do("clip", operands[0], number(low), number(high))


def _hard_sigmoid(do: Do, node: ir.Node, operands: Sequence[str]) -> str:
    return do("hard_sigmoid", operands[0], number(attribute(node, "alpha", 0.2)), number(attribute(node, "beta", 0.5)))


def _hard_swish(do: Do, _: ir.Node, operands: Sequence[str]) -> str:
    return do("mul", operands[0], do("hard_sigmoid", operands[0], number(1 / 6), number(0.5)))


def _leaky_relu(do: Do, node: ir.Node, operands: Sequence[str]) -> str:
    return do("leaky_relu", operands[0], number(attribute(node, "alpha", 0.01)))


def _small_power(node: ir.Node) -> list[ir.Value] | None:
    return _first(node) if _scalar(node.inputs[1]) in POWERS else None


POWERS = {1.0: "x", 2.0: "xx", 3.0: "xxx"}


def _power(do: Do, node: ir.Node, operands: Sequence[str]) -> str:
    x = total = operands[0]
    for _ in POWERS[_scalar(node.inputs[1])][1:]:  # type: ignore[index]
        total = do("mul", total, x)
    return total if total is not x else do("copy", x)


TABLE: dict[str, Formula] = {
    "Abs": _one("abs"),
    "Add": _one("add"),
    "Clip": Formula(_clip, _between_numbers),
    "Div": _one("div"),
    "Erf": _one("erf"),
    "Exp": _one("exp"),
    "Expand": Formula(lambda do, _, operands: do("copy", operands[0]), _first),
    "HardSigmoid": Formula(_hard_sigmoid),
    "HardSwish": Formula(_hard_swish),
    "Identity": _one("copy"),
    "LeakyRelu": Formula(_leaky_relu),
    "Max": _chain("max"),
    "Min": _chain("min"),
    "Mul": _one("mul"),
    "Neg": _one("neg"),
    "Pow": Formula(_power, _small_power),
    "Reciprocal": _one("reciprocal"),
    "Relu": _one("relu"),
    "Sigmoid": _one("sigmoid"),
    "Sqrt": _one("sqrt"),
    "Sub": _one("sub"),
    "Sum": _chain("add"),
    "Tanh": _one("tanh"),
}
"""By operator of the default domain."""

REDUCTIONS = {"ReduceMean": "mean", "ReduceSum": "sum"}
"""Over the last axes, which stay with size 1."""


def reduced_axes(node: ir.Node, rank: int) -> list[int] | None:
    """Which axes a reduction is over, sorted; None where that is not known, or they do not stay."""
    axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if axes is None or axes.size == 0 or attribute(node, "keepdims", 1) != 1:
        return None
    return sorted(int(axis) % rank for axis in axes.ravel().tolist())
