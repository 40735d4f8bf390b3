"""Balls around the start of an ascent, which its image does not leave.

Distances are of float64. A projected value is the nearest float32: it may lie outside by half a unit in its last place.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from gradserve.errors import InvalidAscent
from gradserve.parameterizations import Parameterization, Pixels
from gradserve.projections import L2Ball, LInfBall, Projection
from gradserve_server.ascent.bounds import Bounds
from gradserve_server.ascent.ranges import LARGEST

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

_SLACK = 1e-5
"""Of the radius: how far outside an image that was given may lie. Rounding takes it there."""


def check_projection(given: Any, parameterization: Parameterization) -> Projection | None:
    """Makes sure that a projection is one, and that there is an image to project.

    Raises:
        InvalidAscent: It is not.
    """
    if given is None:
        return None
    if type(given) not in get_args(Projection):
        known = ", ".join(kind.__name__ for kind in get_args(Projection))
        msg = f"projection: expected one of {known}, got {type(given).__name__}"
        raise InvalidAscent(msg)
    if not isinstance(given.radius, (int, float, np.number)) or not 0 < given.radius <= LARGEST:
        msg = f"projection: expected a radius above 0, got {given.radius!r}"
        raise InvalidAscent(msg)
    if parameterization != Pixels():
        msg = f"projection: expected the parameterization Pixels(), whose numbers are the image, got {parameterization}"
        raise InvalidAscent(msg)
    projection: Projection = given
    return projection


class Ball:
    """Where the images of an ascent may be.

    Args:
        projection: Its form.
        centre: The start, [count, C, H, W], within the bounds.
        bounds: Of each value.
    """

    def __init__(self, projection: Projection, centre: Float32, bounds: Bounds) -> None:
        self._radius, self._centre, self._bounds = projection.radius, centre, bounds
        self._inside, self._length, self._draw = _FORMS[type(projection)]
        self._random = projection.random_start

    def first(self, streams: Sequence[np.random.SeedSequence]) -> Float32:
        """The images to begin with: the centre, or drawn around it, each from its own stream."""
        if not self._random:
            return self._centre.copy()
        drawn = [self._draw(np.random.Generator(np.random.Philox(seed)), self._centre.shape[1:]) for seed in streams]
        return self._rounded(self._centre + np.stack(drawn) * self._radius)

    def project(self, images: Float32, which: npt.NDArray[np.bool_]) -> None:
        """Brings images back into the ball, then into the bounds, in place.

        Args:
            images: [count, C, H, W].
            which: Those that have moved; the others stay as they are, to the bit.
        """
        for n in np.flatnonzero(which):
            offset = images[n].astype(np.float64) - self._centre[n]
            images[n] = self._rounded(self._centre[n] + self._inside(offset, self._radius))

    def holds(self, images: Float32) -> bool:
        """Whether images lie in it, but for rounding."""
        offsets = images.astype(np.float64) - self._centre
        rounding = float(np.finfo(np.float32).eps * np.abs(self._centre).max())
        most = self._radius * (1 + _SLACK) + rounding * math.sqrt(offsets[0].size)
        return all(self._length(offset) <= most for offset in offsets)

    def _rounded(self, images: Float64) -> Float32:
        low, high = self._bounds
        rounded: Float32 = np.clip(images, np.maximum(low, -LARGEST), np.minimum(high, LARGEST)).astype(np.float32)
        return rounded


def _euclidean(offset: Float64) -> float:
    # Not a norm of BLAS, whose last bits may depend on the number of threads.
    return math.sqrt(float(np.square(offset).sum()))


def _shortened(offset: Float64, radius: float) -> Float64:
    length = _euclidean(offset)
    return offset if length <= radius else offset * (radius / length)


def _in_ball(generator: np.random.Generator, shape: tuple[int, ...]) -> Float64:
    """Every place of the unit ball alike: a direction of a Gaussian, and a length of u^(1/d)."""
    direction = generator.standard_normal(shape)
    length = generator.random() ** (1 / direction.size)
    drawn: Float64 = direction * (length / max(_euclidean(direction), np.finfo(float).tiny))
    return drawn


_FORMS: Mapping[
    type[Any],
    tuple[
        Callable[[Float64, float], Float64],
        Callable[[Float64], float],
        Callable[[np.random.Generator, tuple[int, ...]], Float64],
    ],
] = {
    LInfBall: (
        lambda offset, radius: np.clip(offset, -radius, radius),
        lambda offset: float(np.abs(offset).max()),
        lambda generator, shape: generator.uniform(-1, 1, shape),
    ),
    L2Ball: (_shortened, _euclidean, _in_ball),
}
"""How an offset from the centre is brought into a ball of a radius, how long it is, and one drawn from the unit ball."""
