"""What the channels hold that fill up a block: one number, the same in each, of which a bound is known.

A convolution reads them with weights of 0. That does no harm while they are finite; 0 times infinity is not a number.
"""

import math
from collections.abc import Callable, Iterable

import onnx_ir as ir

from gradserve_server.graph.values import constant

MOST = 1e30
"""Of what fills a block; a value whose bound is larger stays plain."""


def _one(_: Iterable[float]) -> float:
    return 1.0


BOUNDS: dict[str, Callable[[list[float]], float]] = {
    "Abs": max,
    "Add": sum,
    "Celu": max,
    "Clip": max,
    "Elu": max,
    "Erf": _one,
    "Exp": lambda bounds: math.exp(min(max(bounds), 100.0)),
    "HardSigmoid": _one,
    "HardSwish": max,
    "Identity": max,
    "LeakyRelu": max,
    "Max": max,
    "Min": max,
    "Mish": max,
    "Mul": math.prod,
    "Neg": max,
    "Relu": max,
    "Selu": lambda bounds: 2 * max(bounds),
    "Sigmoid": _one,
    "Softplus": lambda bounds: max(bounds) + 1,
    "Sqrt": lambda bounds: math.inf if any(bounds) else 0.0,  # it may be negative
    "Sub": sum,
    "Sum": sum,
    "Swish": max,
    "Tanh": _one,
}
"""Operators on numbers one by one: the largest magnitude of the result, from those of the operands."""

SCALED = frozenset({"Celu", "Elu", "LeakyRelu"})
"""Those that may multiply by their attribute `alpha`."""


def bound(node: ir.Node, operands: list[float]) -> float:
    """The largest magnitude of what fills the blocks of the result."""
    arrays = [constant(value) for value in node.inputs]
    scalars = [abs(float(array.item())) for array in arrays if array is not None and array.size == 1]
    largest = BOUNDS[node.op_type](operands + scalars)
    return largest * max(1.0, abs(node.attributes.get_float("alpha", 1.0))) if node.op_type in SCALED else largest
