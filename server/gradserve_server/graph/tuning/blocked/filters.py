"""Weights of convolutions in the orders that onnxruntime's blocked kernels read.

Which kernel it is depends on the filter [M, C / group, kH, kW], with blocks of B channels:

| kind | filter | order | reads |
|---|---|---|---|
| BLOCKED | C / group a multiple of 4 (of B in groups) | [M / B, C / B, kH, kW, B of C, B of M] | blocked |
| DEPTHWISE | one channel each, M = group a multiple of B | [M / B, 1, kH, kW, B] | blocked |
| DIRECT | C < B, no groups | [M / B, C, kH, kW, B] | plain |

M and C are filled up to multiples of B with zeros. From `TransformConv` in onnxruntime's nchwc_transformer.cc.
"""

from enum import Enum, auto
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

Array = npt.NDArray[np.float32]

SMALLEST = 4
"""Channels that a reordering moves at once: it takes multiples of this only."""


class Kind(Enum):
    """Which of onnxruntime's kernels a convolution runs on."""

    BLOCKED = auto()
    DEPTHWISE = auto()
    DIRECT = auto()


def kind_of(shape: tuple[int, ...], group: int, block: int) -> Kind | None:
    """The kernel for a filter; None where there is none."""
    outputs, inputs = shape[0], shape[1]
    if group == 1:
        if inputs < block:
            return Kind.DIRECT
        return Kind.BLOCKED if inputs % SMALLEST == 0 else None
    if outputs % block:
        return None
    if inputs == 1 and outputs == group:
        return Kind.DEPTHWISE
    return Kind.BLOCKED if inputs % block == 0 and outputs // group % block == 0 else None


def reorder(weight: Array, kind: Kind, block: int) -> Array:
    """The filter in a kernel's order; it is still declared [M, C / group, kH, kW], filled up."""
    outputs, inputs, *kernel = weight.shape
    outputs = filled(outputs, block)
    inputs = filled(inputs, block) if kind is Kind.BLOCKED else inputs
    full = np.zeros((outputs, inputs, *kernel), np.float32)
    full[: weight.shape[0], : weight.shape[1]] = weight
    split = full.reshape(outputs // block, block, inputs, *kernel)
    if kind is Kind.BLOCKED:
        split = split.reshape(outputs // block, block, inputs // block, block, *kernel).transpose(0, 2, 4, 5, 3, 1)
    else:
        split = split.transpose(0, 2, 3, 4, 1)
    return np.ascontiguousarray(split).reshape(full.shape)


def reordered(tensor: ir.TensorProtocol, kind: Kind, block: int) -> Array:
    """`reorder`, once for each constant: the graphs made of one model share their constants, and so the result.

    It lives as long as a session reads it.
    """
    known = _KNOWN.setdefault(tensor, WeakValueDictionary())
    result = known.get((kind, block))
    if result is None:
        known[kind, block] = result = reorder(tensor.numpy(), kind, block)
    return result


_KNOWN: WeakKeyDictionary[ir.TensorProtocol, WeakValueDictionary[tuple[Kind, int], Array]] = WeakKeyDictionary()


def reorder_bias(bias: Array, block: int) -> Array:
    """The bias, filled up."""
    full = np.zeros(filled(bias.size, block), np.float32)
    full[: bias.size] = bias
    return full


def filled(channels: int, block: int) -> int:
    """The next multiple of the block."""
    return -(-channels // block) * block
