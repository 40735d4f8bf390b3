"""Terms of the image itself: their values and exact gradients, image by image, in the units of the pixels.

Gradients are float32, sums float64; each image is a computation of its own, so that it comes out the same in any company.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve import GradientResult, TensorDescription
from gradserve.errors import InvalidObjective
from gradserve.numbers import Schedule, scheduled
from gradserve.objectives import L1, L2, BlurInputEachStep, BoundaryComplexity, Penalty, TotalVariation
from gradserve_server.ascent.pixels import PixelSpace

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Scaled = tuple[Schedule, Penalty]
Result = tuple[float, Float32]
"""Of one image [C, H, W]: the value, and the gradient of its shape."""


def values_and_gradients(penalties: Sequence[Scaled], images: Float32, progress: float = 0.0) -> tuple[Float64, Float32]:
    """The sum of scaled penalties for each image, float64 [N], and the gradients, float32 [N, C, H, W].

    Args:
        penalties: Scales and terms, checked.
        images: [N, C, H, W].
        progress: The share of the ascent's steps that are done.
    """
    values, gradients = np.zeros(len(images)), np.zeros_like(images)
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large is infinite, and ends the ascent
        for scale, term in penalties:
            number = scheduled(scale, progress)
            for n, image in enumerate(images):
                value, gradient = _PENALTIES[type(term)](term, image)
                values[n] += number * value
                gradients[n] += np.float32(number) * gradient
    return values, gradients


def checked(penalties: Sequence[Scaled], space: PixelSpace) -> tuple[Scaled, ...]:
    """The penalties, whose numbers are in their ranges and which fit what is penalized.

    Raises:
        InvalidObjective: One does not.
    """
    for _, term in penalties:
        name = type(term).__name__
        if isinstance(term, _OF_PLANES) and not space.is_image:
            msg = f"objective, {name}: expected an image [N,C,H,W], got samples of shape {list(space.model_shape)}"
            raise InvalidObjective(msg)
        for field, value in vars(term).items():
            expected, fits = _RANGES.get(field, ("", lambda _: True))
            if not fits(value):
                msg = f"objective, {name}: expected {field} to be {expected}, got {value}"
                raise InvalidObjective(msg)
    return tuple(penalties)


def with_penalties(
    result: GradientResult,
    penalties: Sequence[Scaled],
    inputs: Sequence[TensorDescription],
    feeds: Mapping[str, npt.NDArray[Any]],
) -> GradientResult:
    """A gradient with the penalties of its one input in it: of its pixels, where the model describes those.

    Raises:
        InvalidObjective: The gradient is with respect to something else.
    """
    if not penalties:
        return result
    name, *more = result.gradients
    if more or name not in feeds:
        got = ", ".join(map(repr, result.gradients))
        msg = f"objective, {type(penalties[0][1]).__name__}: expected wrt to be the one input it is of, got {got}"
        raise InvalidObjective(msg)
    (tensor,) = (tensor for tensor in inputs if tensor.name == name)
    space = PixelSpace(tensor.image, feeds[name].shape[1:])
    scale = space.scale.reshape(-1, 1, 1)
    with np.errstate(over="ignore", invalid="ignore"):
        images = space.to_planar(feeds[name].astype(np.float32)) / scale + space.mean.reshape(-1, 1, 1)
        values, gradients = values_and_gradients(checked(penalties, space), images)
        back, gradient = space.from_planar(gradients / scale), result.gradients[name]
        value = added(result.values, values).astype(result.values.dtype)
        return GradientResult(value, {name: added(gradient, back).astype(gradient.dtype)})


def added(numbers: npt.NDArray[Any], more: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The sum, NaN where infinities of both signs meet."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(numbers + more)


# ---- the penalties ---------------------------------------------------------------------------------------------------


def _l1(term: L1, image: Float32) -> Result:
    difference = image - np.float32(term.constant)
    return _sum(np.abs(difference)), np.sign(difference)


def _l2(term: L2, image: Float32) -> Result:
    difference = image - np.float32(term.constant)
    norm = math.sqrt(term.epsilon + _sum(difference * difference))
    return norm, difference / np.float32(norm)


def _total_variation(term: TotalVariation, image: Float32) -> Result:  # noqa: ARG001
    down, right = np.diff(image, axis=1), np.diff(image, axis=2)
    gradient = np.zeros_like(image)
    for axis, sign in ((1, np.sign(down)), (2, np.sign(right))):
        along = np.moveaxis(gradient, axis, 0)
        along[1:] += np.moveaxis(sign, axis, 0)
        along[:-1] -= np.moveaxis(sign, axis, 0)
    return _sum(np.abs(down)) + _sum(np.abs(right)), gradient


def _boundary_complexity(term: BoundaryComplexity, image: Float32) -> Result:
    width = term.width
    mask = np.ones(image.shape[1:], np.float32)
    mask[width:-width, width:-width] = 0
    blurred, grey = _blur(image, 5) - image, image - np.float32(term.constant)
    value = _sum(mask * (blurred * blurred)) + 0.8 * _sum(mask * (grey * grey))
    pulled: Float32 = mask * blurred
    # The blur is K / K 1 with a symmetric K: its adjoint divides first.
    adjoint = _spread(pulled / _inside(image.shape, 5), 5)
    return value, 2 * (adjoint - pulled) + np.float32(1.6) * mask * grey


def _blur_input_each_step(term: BlurInputEachStep, image: Float32) -> Result:  # noqa: ARG001
    difference = image - _blur(image, 3)
    return _sum(difference * difference) / 2, difference


_PENALTIES: Mapping[type[Penalty], Callable[[Any, Float32], Result]] = {
    L1: _l1,
    L2: _l2,
    TotalVariation: _total_variation,
    BoundaryComplexity: _boundary_complexity,
    BlurInputEachStep: _blur_input_each_step,
}

_OF_PLANES = (TotalVariation, BoundaryComplexity, BlurInputEachStep)
"""Those that know neighbours."""

_LARGEST = float(np.finfo(np.float32).max)

_RANGES: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "constant": ("a number that float32 holds", lambda value: abs(value) <= _LARGEST),
    # 0 / 0 otherwise, where the image is the constant.
    "epsilon": ("a positive number that float32 holds", lambda value: 1e-38 <= value <= _LARGEST),
    "width": ("1 or more", lambda value: 1 <= value < math.inf),
}


def _blur(image: Float32, width: int) -> Float32:
    """Lucid's `_tf_blur`: weights 1, and 1/2 at the edge of the window; what lies outside the image does not count."""
    blurred: Float32 = _spread(image, width) / _inside(image.shape, width)
    return blurred


def _inside(shape: tuple[int, ...], width: int) -> Float32:
    """The sum of the weights that lie inside an image, [1, H, W]."""
    return _spread(np.ones((1, *shape[1:]), np.float32), width)


def _spread(image: Float32, width: int) -> Float32:
    """The sum over a window with those weights: half the sum over all of it and half that over its inside."""
    return np.float32(0.5) * (_window(image, width // 2) + _window(image, width // 2 - 1))


def _window(image: Float32, radius: int) -> Float32:
    """The sum over windows of 2 radius + 1 rows and columns."""
    _, height, width = image.shape
    padded = np.pad(image, ((0, 0), (radius, radius), (radius, radius)))
    rows = sum((padded[:, i : i + height] for i in range(1, 2 * radius + 1)), start=padded[:, :height].copy())
    return sum((rows[:, :, i : i + width] for i in range(1, 2 * radius + 1)), start=rows[:, :, :width].copy())


def _sum(values: Float32) -> float:
    return float(values.sum(dtype=np.float64))
