"""Float64 oracles that share no code with us: torch autograd, and central differences on onnx's reference evaluator."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from conformance.case import DOUBLE, Case, Drawn
from onnx.reference import ReferenceEvaluator
from support.reference import Erf, Gelu, Loop
from support.reference_indexing import INDEXING_OPS
from support.reference_windows import WINDOW_OPS

STEP = 1e-5
"""Of a central difference in float64: truncation and rounding are both near 1e-10."""
DIRECTIONS = 4
"""Random directions that a gradient is compared along."""


def evaluator(model: onnx.ModelProto) -> ReferenceEvaluator:
    """Onnx's own, with float64 versions of what it computes in float32."""
    return ReferenceEvaluator(model, new_ops=[Erf, Gelu, Loop, *WINDOW_OPS, *INDEXING_OPS])


def cotangents_of(outputs: list[np.ndarray], seed: int = 1) -> list[np.ndarray]:
    """Random, one for each output."""
    random = np.random.default_rng(seed)
    return [random.normal(size=output.shape) for output in outputs]


def weighted_sum(case: Case, opset: int) -> Callable[[Drawn, list[np.ndarray]], float]:
    """sum over outputs <output, cotangent>, in float64 by the reference evaluator."""
    run = evaluator(case.model(opset, dtype=DOUBLE))

    def function(inputs: Drawn, cotangents: list[np.ndarray]) -> float:
        outputs = run.run(list(case.outputs), inputs | dict(case.others))
        return float(sum((output * cotangent).sum() for output, cotangent in zip(outputs, cotangents, strict=True)))

    return function


def difference(function: Callable[[Drawn], float], inputs: Drawn, direction: Drawn) -> float:
    """d function / d t of inputs + t * direction, at t = 0."""
    moved = [{name: values + sign * STEP * direction[name] for name, values in inputs.items()} for sign in (1, -1)]
    return (function(moved[0]) - function(moved[1])) / (2 * STEP)


def along(gradients: Drawn, direction: Drawn) -> float:
    """<gradient, direction>."""
    return float(sum((np.asarray(gradients[name], np.float64) * direction[name]).sum() for name in direction))


def directions(inputs: Drawn) -> list[Drawn]:
    """Random, of norm 1."""
    random = np.random.default_rng(2)
    found = []
    for _ in range(DIRECTIONS):
        direction = {name: random.normal(size=values.shape) for name, values in inputs.items()}
        norm = np.sqrt(sum((values**2).sum() for values in direction.values()))
        found.append({name: values / norm for name, values in direction.items()})
    return found


# ---- torch -----------------------------------------------------------------------------------------------------------


def autograd(case: Case, inputs: Drawn) -> tuple[list[np.ndarray], Callable[[list[np.ndarray]], Drawn]]:
    """Outputs of the torch function in float64, and its vector-Jacobian product."""
    import torch

    leaves = {name: torch.tensor(values, requires_grad=True) for name, values in inputs.items()}
    outputs = _outputs(case, leaves)

    def pull(cotangents: list[np.ndarray]) -> Drawn:
        gradients = torch.autograd.grad(
            outputs, list(leaves.values()), [torch.tensor(c) for c in cotangents], allow_unused=True
        )
        return {
            name: np.zeros(inputs[name].shape) if gradient is None else gradient.numpy(force=True)
            for name, gradient in zip(leaves, gradients, strict=True)
        }

    return [output.detach().numpy() for output in outputs], pull


def second_derivative(case: Case, inputs: Drawn, cotangents: list[np.ndarray], direction: Drawn) -> Drawn:
    """H t of sum <output, cotangent>, by torch in float64."""
    import torch

    leaves = {name: torch.tensor(values, requires_grad=True) for name, values in inputs.items()}
    value = sum((output * torch.tensor(c)).sum() for output, c in zip(_outputs(case, leaves), cotangents, strict=True))
    zeros = {name: np.zeros(values.shape) for name, values in inputs.items()}
    first = torch.autograd.grad(value, list(leaves.values()), create_graph=True, allow_unused=True)
    product = sum(
        (gradient * torch.tensor(direction[name])).sum()
        for name, gradient in zip(leaves, first, strict=True)
        if gradient is not None
    )
    if not getattr(product, "requires_grad", False):
        return zeros
    second = torch.autograd.grad(product, list(leaves.values()), allow_unused=True)
    return zeros | {name: g.numpy(force=True) for name, g in zip(leaves, second, strict=True) if g is not None}


def _outputs(case: Case, leaves: dict[str, Any]) -> list[Any]:
    outputs = case.torch(*leaves.values())
    return list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
