"""Float64 oracles that share no code with us or onnxruntime: onnx's reference evaluator, and central differences on it."""

import math
from collections.abc import Callable

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_loop import Loop as _Loop
from scipy.special import erf

STEP = 1e-5
"""Of a central difference in float64: truncation and rounding are both near 1e-10."""


class Erf(OpRun):
    """onnx's own computes in float32 whatever it is given."""

    def _run(self, x):
        return (erf(x),)


class Gelu(OpRun):
    """The same."""

    op_domain = ""

    def _run(self, x, approximate=None):
        if approximate == "tanh":
            return (0.5 * x * (1 + np.tanh(math.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),)
        return (0.5 * x * (1 + erf(x / math.sqrt(2))),)


class Loop(_Loop):
    """onnx's own puts what the steps collect one after the other along axis 0, where the standard stacks it."""

    def _run(self, M, cond, *states, context=None, body=None, attributes=None, bindings=None):  # noqa: ARG002, N803
        step, collected, going = 0, [[] for _ in range(self.K)], cond
        while going and (M is None or step < M):
            given = [np.array(step, np.int64), np.array(going), *states]
            inputs = (context or {}) | dict(zip(self.body.input_names, given, strict=True))
            going, *outputs = self._run_body(inputs, attributes=attributes, bindings=bindings)
            states = outputs[: self.N]
            for stack, value in zip(collected, outputs[self.N :], strict=True):
                stack.append(value)
            step += 1
        return (*states, *(np.stack(stack) for stack in collected))


def _windows(x: np.ndarray, kernel, pads, strides) -> np.ndarray:
    """[N, C, Ho, Wo, kh, kw], padded with zeros."""
    top, left, bottom, right = pads or (0, 0, 0, 0)
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, tuple(kernel), axis=(2, 3))
    down, across = strides or (1, 1)
    return windows[:, :, ::down, ::across]


class Conv(OpRun):
    """Two-dimensional, without groups or dilation: onnx's own takes minutes for what takes seconds here."""

    op_domain = ""

    def _run(self, x, w, b=None, auto_pad=None, dilations=None, group=None, kernel_shape=None, pads=None, strides=None):
        assert (auto_pad in (None, "NOTSET"), group in (None, 1), set(dilations or [1])) == (True, True, {1})
        y = np.einsum("nchwij,ocij->nohw", _windows(x, kernel_shape or w.shape[2:], pads, strides), w, optimize=True)
        return (y if b is None else y + b[:, None, None],)


class AveragePool(OpRun):
    """Without padding."""

    op_domain = ""

    def _run(self, x, kernel_shape=None, pads=None, strides=None, **others):
        assert not any(pads or ()), others
        return (_windows(x, kernel_shape, pads, strides).mean((4, 5)),)


NETWORK_OPS = [Conv, AveragePool]
"""For whole networks; the operator tests use onnx's own."""


def evaluate(model: onnx.ModelProto) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """The first output of a model as a function of its inputs."""
    evaluator = ReferenceEvaluator(model, new_ops=[Erf, Gelu])
    return lambda inputs: evaluator.run(None, inputs)[0]


def central_differences(
    function: Callable[[dict[str, np.ndarray]], np.ndarray], inputs: dict[str, np.ndarray], wrt: str, cotangent: np.ndarray
) -> np.ndarray:
    """d sum(function * cotangent) / d inputs[wrt], element by element."""
    gradient = np.zeros(inputs[wrt].size)
    for index in range(gradient.size):
        shifted = []
        for sign in (1, -1):
            moved = inputs[wrt].copy()
            moved.ravel()[index] += sign * STEP
            shifted.append(function(inputs | {wrt: moved}))
        gradient[index] = ((shifted[0] - shifted[1]) * cotangent).sum() / (2 * STEP)
    return gradient.reshape(inputs[wrt].shape)


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    """In the L2 norm."""
    expected = np.asarray(expected, np.float64)
    return float(np.linalg.norm(np.asarray(got, np.float64) - expected) / np.linalg.norm(expected))
