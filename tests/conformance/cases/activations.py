"""Activations."""

import numpy as np
import torch
import torch.nn.functional as F
from conformance.case import Case

X = {"X": (2, 3, 4)}
PAIR = {"A": (2, 5), "B": (2, 5)}
NO_SWIGLU = "onnxruntime 1.32 has no kernel for SwiGLU"
OLD, NEW = (18,), (18, 22)
"""Of operators with one version in the table, and with two."""


def _prelu(x, slope):
    return torch.where(x > 0, x, x * slope)


def _shrink(x):
    return torch.where(x < -0.4, x + 0.2, torch.where(x > 0.4, x - 0.2, x * 0))


def _swish(alpha):
    return lambda x: x * torch.sigmoid(alpha * x)


CASES = [
    Case("Relu", "Y = Relu(X)", X, F.relu, OLD),
    Case("LeakyRelu", "Y = LeakyRelu(X)", X, F.leaky_relu, OLD),
    Case("LeakyRelu", "Y = LeakyRelu<alpha = -0.3>(X)", X, lambda x: F.leaky_relu(x, -0.3), OLD, name="negative"),
    Case("LeakyRelu", "Y = LeakyRelu<alpha = 1.5>(X)", X, lambda x: F.leaky_relu(x, 1.5), OLD, name="steeper below"),
    Case("PRelu", "Y = PRelu(X, S)", X | {"S": (3, 1)}, _prelu, OLD),
    Case("PRelu", "Y = PRelu(X, S)", X | {"S": (1,)}, _prelu, OLD, name="one slope"),
    Case("PRelu", "Y = PRelu(X, S)", X | {"S": (2, 3, 4)}, _prelu, OLD, name="a slope each"),
    Case("ThresholdedRelu", "Y = ThresholdedRelu(X)", X, lambda x: F.threshold(x, 1.0, 0.0), (18, 22)),
    Case(
        "ThresholdedRelu",
        "Y = ThresholdedRelu<alpha = -0.4>(X)",
        X,
        lambda x: F.threshold(x, -0.4, 0.0),
        OLD,
        name="negative",
    ),
    Case("ThresholdedRelu", "Y = ThresholdedRelu<alpha = 0.0>(X)", X, F.relu, OLD, name="zero"),
    Case("Shrink", "Y = Shrink<lambd = 0.4, bias = 0.2>(X)", X, _shrink, OLD),
    Case("Shrink", "Y = Shrink(X)", X, F.hardshrink, OLD, name="default"),
    Case("HardSigmoid", "Y = HardSigmoid<alpha = 0.3, beta = 0.4>(X)", X, lambda x: (0.3 * x + 0.4).clamp(0, 1), NEW),
    Case(
        "HardSwish",
        "Z = Mul(X, c) Y = HardSwish(Z)",
        X,
        lambda x: F.hardswish(x * 3),
        NEW,
        constants={"c": np.array(3.0)},
    ),
    Case("Elu", "Y = Elu(X)", X, F.elu, NEW),
    Case("Elu", "Y = Elu<alpha = 0.4>(X)", X, lambda x: F.elu(x, 0.4), OLD, name="alpha"),
    Case("Selu", "Y = Selu(X)", X, F.selu, NEW),
    Case("Selu", "Y = Selu<alpha = 0.5, gamma = 2.0>(X)", X, lambda x: 2 * F.elu(x, 0.5), OLD, name="alpha"),
    Case("Celu", "Y = Celu(X)", X, F.celu, (18, 28)),
    Case("Celu", "Y = Celu<alpha = 0.4>(X)", X, lambda x: F.celu(x, 0.4), OLD, name="alpha"),
    Case("Sigmoid", "Y = Sigmoid(X)", X, torch.sigmoid, OLD),
    Case("Tanh", "Y = Tanh(X)", X, torch.tanh, OLD),
    Case("Softplus", "Y = Softplus(X)", X, F.softplus, NEW),
    Case("Softsign", "Y = Softsign(X)", X, F.softsign, NEW),
    Case("Gelu", "Y = Gelu(X)", X, F.gelu, (20,)),
    Case("Gelu", 'Y = Gelu<approximate = "tanh">(X)', X, lambda x: F.gelu(x, approximate="tanh"), (20,), name="tanh"),
    Case("Swish", "Y = Swish(X)", X, F.silu, (24,)),
    Case("Swish", "Y = Swish<alpha = 1.7>(X)", X, _swish(1.7), (24,), name="alpha"),
    Case("SwiGLU", "Y = SwiGLU(A, B)", PAIR, lambda a, b: F.silu(a) * b, (28,), skip=NO_SWIGLU),
    Case(
        "SwiGLU", "Y = SwiGLU<alpha = 1.7>(A, B)", PAIR, lambda a, b: _swish(1.7)(a) * b, (28,), name="alpha", skip=NO_SWIGLU
    ),
    Case("Mish", "Y = Mish(X)", X, F.mish, NEW),
    Case("Softmax", "Y = Softmax(X)", X, lambda x: x.softmax(-1), OLD),
    Case("Softmax", "Y = Softmax<axis = 1>(X)", X, lambda x: x.softmax(1), OLD, name="axis"),
    Case("LogSoftmax", "Y = LogSoftmax(X)", X, lambda x: x.log_softmax(-1), OLD),
    Case("LogSoftmax", "Y = LogSoftmax<axis = 0>(X)", X, lambda x: x.log_softmax(0), OLD, name="axis"),
]
