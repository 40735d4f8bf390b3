"""Float64 oracles that share no code with us or onnxruntime: onnx's reference evaluator, and central differences on it."""

from collections.abc import Callable

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
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
        assert approximate == "none"
        return (0.5 * x * (1 + erf(x / np.sqrt(2))),)


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
