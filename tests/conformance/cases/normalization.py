"""Normalizations."""

import numpy as np
import torch.nn.functional as F
from conformance.case import Case, Draw

OLD, NEW = (18,), (18, 22)
"""Of operators with one version in the table, and with two."""


def _batch(x, scale, bias, mean, variance):
    scale, bias, mean, variance = (v.reshape(-1, *[1] * (x.ndim - 2)) for v in (scale, bias, mean, variance))
    return (x - mean) / (variance + 1e-3).sqrt() * scale + bias


def _batch_norm(name, shape):
    inputs = {"X": shape, "S": (3,), "B": (3,), "M": (3,), "V": Draw((3,), "positive")}
    return Case(
        "BatchNormalization", "Y = BatchNormalization<epsilon = 0.001>(X, S, B, M, V)", inputs, _batch, OLD, name=name
    )


def _instance_norm(name, shape, body="Y = InstanceNormalization(X, S, B)", epsilon=1e-5):
    return Case(
        "InstanceNormalization",
        body,
        {"X": shape, "S": (3,), "B": (3,)},
        lambda x, s, b: F.instance_norm(x, weight=s, bias=b, eps=epsilon),
        NEW,
        name=name,
    )


def _group_18(x, scale, bias):
    return F.group_norm(x, 2, scale.repeat_interleave(2), bias.repeat_interleave(2), 1e-5)


def _group_norm(name, shape, size, function, opsets):
    # Of opset 21, it computes in the type that it is told. The checker knows that of opset 18 as deprecated.
    stash_type = ", stash_type = TYPE" if opsets == (21,) else ""
    body = f"Y = GroupNormalization<num_groups = 2{stash_type}>(X, S, B)"
    inputs = {"X": shape, "S": (size,), "B": (size,)}
    return Case("GroupNormalization", body, inputs, function, opsets, checker=opsets == (21,), name=name)


def _layer(axis, *, bias=True):
    def run(x, scale, b=None):
        return F.layer_norm(x, x.shape[axis:], scale.expand(x.shape[axis:]), b.expand(x.shape[axis:]) if bias else None)

    return run


def _layer_statistics(outputs):
    """Y, Mean, InvStdDev over the last two axes."""

    def run(x, scale):
        mean, variance = x.mean((1, 2), True), x.var((1, 2), correction=0, keepdim=True)
        made = {"M": mean, "R": (variance + 1e-2).rsqrt(), "Y": F.layer_norm(x, x.shape[1:], scale, eps=1e-2)}
        return [made[name] for name in outputs]

    return Case(
        "LayerNormalization",
        "Y, M, R = LayerNormalization<axis = 1, epsilon = 0.01>(X, S)",
        {"X": (2, 3, 4), "S": (3, 4)},
        run,
        OLD,
        outputs=outputs,
        name=" ".join(outputs),
    )


def _rms(axis, epsilon):
    return lambda x, s: s * x * (x.square().mean(tuple(range(axis % x.ndim, x.ndim)), True) + epsilon).rsqrt()


def _mvn(axes):
    def run(x):
        return (x - x.mean(axes, True)) / x.std(axes, correction=0, keepdim=True)

    return run


def _lrn(size, alpha, beta, bias):
    def run(x):
        squares = F.pad(x.square(), (0,) * (2 * (x.ndim - 2)) + ((size - 1) // 2, size // 2))
        windows = squares.unfold(1, size, 1).sum(-1)
        return x * (bias + alpha / size * windows) ** -beta

    return run


def _lrn_case(size, shape=(3, 3, 2, 2), **more):
    body = f"Y = LRN<size = {size}, alpha = 0.5, beta = 0.6, bias = 1.5>(X)"
    return Case("LRN", body, {"X": shape}, _lrn(size, 0.5, 0.6, 1.5), OLD, name=f"{size}", **more)


CASES = [
    _batch_norm("image", (2, 3, 2, 2)),
    _batch_norm("features", (4, 3)),
    Case(
        "BatchNormalization",
        "Z = Relu(X) Y = BatchNormalization(Z, c, c, c, c)",
        {"X": (2, 3, 2)},
        lambda x: (x.relu() - 1) / (1 + 1e-5) ** 0.5 + 1,
        OLD,
        constants={"c": np.ones(3)},
        name="constant",
    ),
    _instance_norm("image", (2, 3, 2, 3)),
    _instance_norm("sequence", (2, 3, 5), "Y = InstanceNormalization<epsilon = 0.01>(X, S, B)", 1e-2),
    _group_norm("per group", (2, 4, 2, 2), 2, _group_18, (18,)),
    _group_norm("per channel", (2, 4, 3), 4, lambda x, s, b: F.group_norm(x, 2, s, b, 1e-5), (21,)),
    _group_norm("image", (2, 4, 2, 2), 4, lambda x, s, b: F.group_norm(x, 2, s, b, 1e-5), (21,)),
    Case(
        "LayerNormalization",
        "Y = LayerNormalization(X, S, B)",
        {"X": (2, 3, 4), "S": (4,), "B": (4,)},
        _layer(-1),
        OLD,
    ),
    Case(
        "LayerNormalization",
        "Y = LayerNormalization<axis = 1>(X, S)",
        {"X": (2, 3, 4), "S": (3, 4)},
        _layer(1, bias=False),
        OLD,
        name="two axes",
    ),
    Case(
        "LayerNormalization",
        "Y = LayerNormalization<axis = 0>(X, S, B)",
        {"X": (3, 4), "S": (3, 4), "B": (3, 4)},
        _layer(0),
        OLD,
        name="all axes",
    ),
    *(_layer_statistics(outputs) for outputs in (("Y", "M", "R"), ("M",), ("R",))),
    Case("RMSNormalization", "Y = RMSNormalization(X, S)", {"X": (2, 3, 4), "S": (4,)}, _rms(-1, 1e-5), (23,)),
    Case(
        "RMSNormalization",
        "Y = RMSNormalization<axis = 1, epsilon = 0.01>(X, S)",
        {"X": (2, 3, 4), "S": (3, 4)},
        _rms(1, 1e-2),
        (23,),
        name="two axes",
    ),
    Case(
        "MeanVarianceNormalization",
        "Y = MeanVarianceNormalization(X)",
        {"X": (2, 3, 2, 2)},
        _mvn((0, 2, 3)),
        OLD,
        evaluator=False,  # its function in onnx is of float32 only
        checker=False,  # which loses the default of the axes
    ),
    Case(
        "MeanVarianceNormalization",
        "Y = MeanVarianceNormalization<axes = [1, 2]>(X)",
        {"X": (2, 3, 4)},
        _mvn((1, 2)),
        OLD,
        evaluator=False,  # as above
        name="axes",
    ),
    Case("LpNormalization", "Y = LpNormalization(X)", {"X": (2, 3, 4)}, lambda x: F.normalize(x, dim=-1), NEW),
    Case(
        "LpNormalization",
        "Y = LpNormalization<p = 1, axis = 1>(X)",
        {"X": (2, 3, 4)},
        lambda x: F.normalize(x, 1, 1),
        NEW,
        evaluator=False,  # it sums the numbers, not their absolute values
        name="absolute",
    ),
    _lrn_case(3),
    _lrn_case(5, (2, 4, 3, 1), evaluator=False),  # the reference evaluator goes over as many channels as there are samples
]
