"""Is a model's gradient right? Two checks that need nothing but the verbs, on a server or in process.

For a layer y = f(x), a random cotangent v and a direction t of the inputs:

    finite differences    <J^T v, t>  against  (<v, f(x + h t)> - <v, f(x - h t)>) / 2h
    adjoint               <J^T v, t>  against  <v, J t>,  which is made by other rules

Predictions are float32, so a difference has rounding in it that grows as h falls, and curvature and kinks that grow with h.
The smallest step that keeps the rounding small gives the estimate; its doubt is that rounding, and how far it is from the
estimate of the next larger step.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gradserve.descriptions import ModelDescription
from gradserve.errors import InvalidTensor, NotDifferentiable, UnsupportedGradient

__all__ = ["LayerCheck", "Verbs", "check_gradient", "random_inputs"]

Array = npt.NDArray[Any]

STEPS = tuple(10.0**-exponent for exponent in np.arange(0.5, 6.5, 0.5))
"""Lengths of the step, in units of the inputs' root mean square."""

ROUNDING = 4 * 2.0**-24
"""Of a float32 prediction, relative to it; a few units in the last place add up on the way through a network."""

NOISE = 1e-3
"""Rounding that the estimate may have in it, relative to it: the step is the smallest that keeps it below this."""


class Verbs(Protocol):
    """What the checks ask: a `Client`, or an `Engine`."""

    def activations(
        self, model: str, inputs: Mapping[str, npt.ArrayLike], layers: Sequence[str], *, version: str = ""
    ) -> dict[str, Array]:
        """The values of layers."""
        ...

    def vjp(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        cotangents: Mapping[str, npt.ArrayLike],
        *,
        wrt: Sequence[str] = (),
        version: str = "",
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """J^T v."""
        ...

    def jvp(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        tangents: Mapping[str, npt.ArrayLike],
        *,
        outputs: Sequence[str] = (),
        version: str = "",
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """J t."""
        ...


@dataclass(frozen=True)
class LayerCheck:
    """What the checks found for one layer. Errors are relative to the larger of both numbers, the worst direction's."""

    layer: str
    difference: float
    """Against finite differences; NaN where no float input can be moved."""
    doubt: float
    """How far the finite differences disagree among themselves: an error below it means nothing."""
    adjoint: float
    """Of <J^T v, t> against <v, J t>; NaN where there is no such product."""
    problem: str = ""
    """Why there is no gradient, instead of numbers."""


def check_gradient(
    verbs: Verbs,
    model: str,
    inputs: Mapping[str, npt.ArrayLike],
    layers: Sequence[str],
    *,
    wrt: Sequence[str] = (),
    directions: int = 3,
    seed: int = 0,
    version: str = "",
) -> Iterator[LayerCheck]:
    """Checks the gradient of layers.

    Args:
        verbs: Who answers: a client or an engine.
        model: Its name.
        inputs: An array for each model input.
        layers: Which; see `layers` of the verbs.
        wrt: With respect to which inputs or layers; every float input by default. Layers can be checked by adjoint only.
        directions: How many random directions each.
        seed: Of the directions and cotangents.
        version: Of the model; the latest by default.

    Yields:
        A finding for each layer, in their order.
    """
    arrays = {name: np.asarray(array) for name, array in inputs.items()}
    for number, layer in enumerate(layers):
        try:
            yield _check(verbs, model, arrays, layer, wrt, directions, np.random.default_rng([seed, number]), version)
        except (NotDifferentiable, UnsupportedGradient) as error:
            yield LayerCheck(layer, float("nan"), float("nan"), float("nan"), str(error))


def random_inputs(description: ModelDescription, sizes: Mapping[str, int], seed: int = 0) -> dict[str, Array]:
    """Inputs that fit a model: normally distributed, mean and scale as its image description says; integers 0 or 1.

    Args:
        description: Of the model.
        sizes: For open sizes, by their symbol; an open first axis is 1 by default.
        seed: Of the random numbers.

    Raises:
        InvalidTensor: A size is open and not given.
    """
    random = np.random.default_rng(seed)
    made: dict[str, Array] = {}
    for tensor in description.inputs:
        shape = []
        for axis, size in enumerate(tensor.shape):
            known = size if isinstance(size, int) else sizes.get(str(size), 1 if axis == 0 else 0)
            if not known:
                msg = f"input '{tensor.name}': expected a size for '{size}', got none"
                raise InvalidTensor(msg)
            shape.append(known)
        floating = tensor.dtype.startswith(("float", "bfloat"))
        numbers = random.normal(size=shape) if floating else random.integers(0, 2, shape)
        made[tensor.name] = numbers.astype(np.float32 if tensor.dtype == "bfloat16" else tensor.dtype)
    return made


def _check(
    verbs: Verbs,
    model: str,
    inputs: dict[str, Array],
    layer: str,
    wrt: Sequence[str],
    directions: int,
    random: np.random.Generator,
    version: str,
) -> LayerCheck:
    value = verbs.activations(model, inputs, [layer], version=version)[layer]
    wide = value.dtype == np.float64  # the gradients of half types are computed in float32
    cotangent = random.normal(size=value.shape).astype(np.float64 if wide else np.float32)
    _, gradients = verbs.vjp(model, inputs, {layer: cotangent}, wrt=wrt, version=version)
    worst = [0.0, 0.0, 0.0]
    for _ in range(directions):
        tangents = _direction(gradients, random)
        expected = _dot(gradients, tangents)
        difference, doubt = float("nan"), float("nan")
        if gradients.keys() <= inputs.keys():
            difference, doubt = _difference(verbs, model, inputs, layer, cotangent, tangents, version)
        try:
            _, moved = verbs.jvp(model, inputs, tangents, outputs=[layer], version=version)
            adjoint = _dot({layer: cotangent}, moved)
        except UnsupportedGradient:
            adjoint = float("nan")
        found = (_relative(expected, difference), doubt / max(abs(difference), 1e-30), _relative(expected, adjoint))
        worst = [np.maximum(a, b) for a, b in zip(worst, found, strict=True)]  # NaN stays NaN
    return LayerCheck(layer, float(worst[0]), float(worst[1]), float(worst[2]))


def _direction(gradients: Mapping[str, Array], random: np.random.Generator) -> dict[str, Array]:
    """Half along the gradient, so that what is measured is not nearly zero, and half anywhere; of root mean square 1."""
    total = np.sqrt(_dot(gradients, gradients)) or 1.0
    size = np.sqrt(sum(array.size for array in gradients.values()))
    return {
        name: np.asarray((array * (size / total) + random.normal(size=array.shape)) / np.sqrt(2.0), array.dtype)
        for name, array in gradients.items()
    }


def _difference(
    verbs: Verbs,
    model: str,
    inputs: dict[str, Array],
    layer: str,
    cotangent: Array,
    tangents: Mapping[str, Array],
    version: str,
) -> tuple[float, float]:
    scale = float(np.sqrt(np.mean([np.mean(np.square(inputs[name], dtype=np.float64)) for name in tangents]))) or 1.0

    def value(step: float) -> dict[str, Array]:
        # The numbers that the model is really given, so that rounding them is no error of the step.
        moved = {name: np.asarray(inputs[name] + step * tangents[name], inputs[name].dtype) for name in tangents}
        return verbs.activations(model, inputs | moved, [layer], version=version)

    best, last = (float("nan"), float("inf")), float("nan")
    for step in STEPS:
        ahead, behind = (value(sign * step * scale)[layer].astype(np.float64) for sign in (1, -1))
        estimate = float(((ahead - behind) * cotangent).sum()) / (2 * step * scale)
        noise = ROUNDING * float(np.linalg.norm(ahead * cotangent)) / (step * scale)
        if noise > NOISE * abs(estimate) and not np.isnan(last):
            break
        best, last = (estimate, noise + abs(estimate - last)), estimate
    return best


def _dot(a: Mapping[str, Array], b: Mapping[str, Array]) -> float:
    return float(sum((a[name].astype(np.float64) * b[name].astype(np.float64)).sum() for name in a))


def _relative(a: float, b: float) -> float:
    return abs(a - b) / max(abs(a), abs(b), 1e-30) if a != b else 0.0
