"""Reductions, running sums and products."""

import numpy as np
import torch
from conformance.case import Case, Draw

SHAPE = (2, 3, 4)
SINCE = {"ReduceLogSum": (18, 28), "ReduceLogSumExp": (18, 28), "ReduceMax": (18, 20), "ReduceMin": (18, 20)}
"""An opset for each version; (18,) for the others."""
HOW = {"ReduceLogSum": "positive", "ReduceMax": "distinct", "ReduceMin": "distinct", "ReduceProd": "positive"}


def _prod(x, axes, keepdims):
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(axis, keepdims)
    return x


FUNCTIONS = {
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keep),
    "ReduceL2": lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keep).log(),
    "ReduceLogSumExp": lambda x, axes, keep: x.logsumexp(axes, keep),
    "ReduceMax": lambda x, axes, keep: x.amax(axes, keep),
    "ReduceMin": lambda x, axes, keep: x.amin(axes, keep),
    "ReduceMean": lambda x, axes, keep: x.mean(axes, keep),
    "ReduceProd": _prod,
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keep),
    "ReduceSumSquare": lambda x, axes, keep: x.square().sum(axes, keep),
}
ALONE = {
    "ReduceL1": torch.abs,
    "ReduceL2": torch.abs,
    "ReduceLogSum": torch.log,
    "ReduceSumSquare": torch.square,
}
"""What is left of those that do more than reduce, over no axes."""


def _case(op, name, axes, keepdims, body, opsets=(18,), **more):
    x = {"X": Draw(SHAPE, HOW.get(op, "normal"))}
    return Case(op, body, x, lambda x: FUNCTIONS[op](x, axes, bool(keepdims)), opsets, name=name, **more)


def _given(op, name, function, body, axes, opsets=(18,)):
    """Axes that are given in the run: the rank of what is left is not known, until it is a vector."""
    return Case(
        op,
        f"{body.replace('Y', 'Z')}(X, axes) Y = Reshape(Z, vector)",
        {"X": Draw(SHAPE, HOW.get(op, "normal"))},
        lambda x: function(x).reshape(-1),
        opsets,
        others={"axes": axes},
        constants={"vector": np.array([-1])},
        name=name,
    )


def _reductions(op):
    none, axes, every = np.zeros(0, np.int64), np.array([0, -1]), tuple(range(len(SHAPE)))
    for keep in (0, 1):
        body = f"Y = {op}<keepdims = {keep}>"
        yield _case(
            op, f"constant {keep}", (0, -1), keep, f"{body}(X, axes)", SINCE.get(op, (18,)), constants={"axes": axes}
        )
        yield _given(op, f"given {keep}", lambda x, keep=keep: FUNCTIONS[op](x, (0, -1), bool(keep)), body, axes)
        yield _case(op, f"left out {keep}", every, keep, f"{body}(X)")
        yield _case(op, f"empty {keep}", every, keep, f"{body}(X, axes)", constants={"axes": none})
    # onnxruntime 1.19 leaves out Log, Abs and the square where it reduces nothing; a later one has it right.
    # It has no such model of opset 22.
    opsets = (22,) if op in ALONE else (18,)
    x = {"X": Draw(SHAPE, HOW.get(op, "normal"))}
    body, alone = f"Y = {op}<keepdims = 0, noop_with_empty_axes = 1>", ALONE.get(op, torch.clone)
    yield Case(op, f"{body}(X, axes)", x, alone, opsets, constants={"axes": none}, name="no axes, constant")
    yield _given(op, "no axes, given", alone, body, none, opsets)


def _running(op, function, opset):
    for reverse, exclusive, axis in ((0, 0, 1), (0, 1, -1), (1, 0, 0), (1, 1, 1)):
        yield Case(
            op,
            f"Y = {op}<reverse = {reverse}, exclusive = {exclusive}>(X, axis)",
            {"X": Draw(SHAPE, "positive")},
            _scan(function, reverse, exclusive, axis),
            (opset,),
            constants={"axis": np.array(axis)},
            name=f"{reverse}{exclusive}",
        )


def _scan(function, reverse, exclusive, axis):
    def run(x):
        x = x.flip(axis) if reverse else x
        y = function(x, axis)
        if exclusive:
            first = torch.full_like(y.narrow(axis, 0, 1), 1.0 if function is torch.cumprod else 0.0)
            y = torch.cat([first, y.narrow(axis, 0, y.shape[axis] - 1)], axis)
        return y.flip(axis) if reverse else y

    return run


CASES = [
    *(case for op in FUNCTIONS for case in _reductions(op)),
    *_running("CumSum", torch.cumsum, 18),
    Case(
        "CumSum",
        "Y = CumSum(X, axis)",
        {"X": SHAPE},
        lambda x: x.cumsum(1),
        (18,),
        others={"axis": np.array(1)},
        name="given",
    ),
    *_running("CumProd", torch.cumprod, 26),
]
