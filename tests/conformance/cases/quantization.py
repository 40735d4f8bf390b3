"""Quantizers, passed straight through, and scales."""

from dataclasses import replace

import numpy as np
import torch
from conformance.case import Case, Draw

SINCE = (19, 21, 23, 24, 25)
BLOCKED = (21, 23, 24, 25)
NO_KERNEL = "onnxruntime 1.32 has no kernel of opset 28"
X8 = np.array([[5, -100, 30, 7], [-1, 90, -128, 127]], np.int8)
Z3 = np.array([3, -2, 0, 9], np.int8)


def _rounded(t):
    return t + (torch.round(t) - t).detach()


# Squared, because the second derivative of a pair alone is zero.
def _pair(low, high, zero=0, spread=lambda s: s):
    def function(x, s):
        s = spread(s)
        z = torch.tensor(np.asarray(zero, np.float64))
        return ((_rounded(x / s + z).clamp(low, high) - z) * s) ** 2

    return function


def _dequantized(zero=0, spread=lambda s: s):
    return lambda s: (torch.tensor(X8.astype(np.float64)) - torch.tensor(np.asarray(zero, np.float64))) * spread(s)


def _quantizer(name, text, function, inputs, opsets=(18,), **others):
    return Case(
        "QuantizeLinear", text, inputs, function, opsets, name=name, straight_through=True, evaluator=False, **others
    )  # fmt: skip


def _dynamic(x):
    low, high = x.min().clamp(max=0).detach(), x.max().clamp(min=0).detach()
    s = (high - low) / 255
    z = torch.round(-low / s)
    return (_rounded(x / s) + z - z) * s


X, S = Draw((2, 4)), Draw((), "positive")
PER_AXIS = Draw((4,), "positive")
BLOCKS = Draw((2, 2), "positive")


def _blocks(s):
    return s.repeat_interleave(3, 1)[:, :4]


ZERO = np.array(3, np.int8)
PAIR = "Q = QuantizeLinear(X, S, Z)  D = DequantizeLinear(Q, S, Z)  Y = Mul(D, D)"
SCALED = Case("DequantizeLinear", "Y = DequantizeLinear(X, S)", {"S": S}, _dequantized(), SINCE, others={"X": X8})
QUANTIZED = _quantizer("pair", PAIR, _pair(-128, 127, 3), {"X": X, "S": S}, (18, *SINCE), others={"Z": ZERO})

CASES = [
    SCALED,
    replace(SCALED, opsets=(18,), evaluator=False, name="old"),  # it has no such version
    replace(SCALED, opsets=(28,), skip=NO_KERNEL, name="new"),
    QUANTIZED,
    replace(QUANTIZED, opsets=(28,), skip=NO_KERNEL, name="new"),
    Case(
        "DequantizeLinear",
        "Y = DequantizeLinear<axis = 1>(X, S, Z)",
        {"S": PER_AXIS},
        _dequantized(Z3),
        SINCE,
        others={"X": X8, "Z": Z3},
        name="axis",
    ),
    Case(
        "DequantizeLinear",
        "Y = DequantizeLinear<axis = 1, block_size = 3>(X, S)",
        {"S": BLOCKS},
        _dequantized(0, _blocks),
        BLOCKED,
        others={"X": X8},
        name="blocks",
        evaluator=False,  # its blocks must fill the axis
    ),
    _quantizer(
        "unsigned", "Q = QuantizeLinear(X, S)  D = DequantizeLinear(Q, S)  Y = Mul(D, D)", _pair(0, 255), {"X": X, "S": S}
    ),
    _quantizer(
        "axis, moved",
        "Q = QuantizeLinear<axis = -1>(X, S, Z)  M = Transpose(Q)  "
        "D = DequantizeLinear<axis = 0>(M, S, Z)  E = Transpose(D)  Y = Mul(E, E)",
        _pair(-128, 127, Z3),
        {"X": X, "S": PER_AXIS},
        constants={"Z": Z3},
        too_old="onnxruntime 1.19 dies of it",
    ),
    _quantizer(
        "blocks",
        "Q = QuantizeLinear<axis = 1, block_size = 3>(X, S)  "
        "D = DequantizeLinear<axis = 1, block_size = 3>(Q, S)  Y = Mul(D, D)",
        _pair(0, 255, 0, _blocks),
        {"X": X, "S": BLOCKS},
        BLOCKED,
    ),
    Case(
        "DynamicQuantizeLinear",
        "Q, S, Z = DynamicQuantizeLinear(X)  Y = DequantizeLinear(Q, S, Z)",
        {"X": X},
        _dynamic,
        straight_through=True,
        evaluator=False,
    ),
]
