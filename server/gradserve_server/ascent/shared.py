"""Numbers that the images of a batch have in common, and their steps.

Each of the `images` small pictures steps by the sum of the gradients of the images that it is part of, weighted as it is in
them, as if it were an image itself: with its own moments, normalized by itself. What an image is made of stays as it is in
each step in which the image has to: one that is done, or has no finite gradient, does not change by a bit.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve import GradientNormalization
from gradserve.errors import InvalidAscent, TooLarge
from gradserve.optimizers import Optimizer
from gradserve.parameterizations import Shared
from gradserve.projections import Projection
from gradserve_server.ascent.parameters.enlarging import enlarged, enlarged_back
from gradserve_server.ascent.pixels import PixelSpace
from gradserve_server.ascent.ranges import whole
from gradserve_server.ascent.transforms.draws import stream
from gradserve_server.kernels import Ascender

Float32 = npt.NDArray[np.float32]

SHARED = 5
"""The stream of random numbers of each small picture: the next after those of `alpha`."""


def check_shared(
    given: Any, projection: Projection | None, image: PixelSpace, count: int, max_mib: int
) -> tuple[Shared, ...]:
    """Makes sure that what is shared fits a batch.

    Args:
        given: The setting.
        projection: Of the ascent; there must be none where something is shared.
        image: Of the images.
        count: How many there are.
        max_mib: How much memory all that is shared may take.

    Raises:
        InvalidAscent: It does not fit.
        TooLarge: It takes more.
    """
    if isinstance(given, Shared) or not isinstance(given, Sequence) or not all(type(one) is Shared for one in given):
        msg = f"shared: expected a sequence of Shared, got {given!r}"
        raise InvalidAscent(msg)
    if given and projection is not None:
        msg = f"shared: expected none with a projection, got {tuple(given)}"
        raise InvalidAscent(msg)
    for shared in given:
        whole("shared: images", shared.images, 1, count)
        whole("shared: factor", shared.factor, 1, max(image.sizes))
    if sum(shared.images * prod(_small(shared, image)) for shared in given) * 4 > max_mib << 20:
        msg = f"shared: expected at most {max_mib} MiB for all (max_ascent_mib), got {tuple(given)} of {image.spelled}"
        raise TooLarge(msg)
    return tuple(given)


def _small(shared: Shared, image: PixelSpace) -> tuple[int, ...]:
    """The shape of each small picture: C, then its sizes."""
    return image.channels, *(-(-size // shared.factor) for size in image.sizes)


def mixing(images: int, count: int) -> list[list[tuple[int, np.float32]]]:
    """The small pictures that each image of a batch is made of, with their weights, none of which is 0.

    Image n lies at p = (n + 1/2) images / count - 1/2, brought into [0, images - 1], between two of them.
    """
    made_of = []
    for n in range(count):
        place = min(max((n + 0.5) * images / count - 0.5, 0.0), images - 1.0)
        before = int(place)
        pair = ((before, 1 - (place - before)), (before + 1, place - before))
        made_of.append([(row, np.float32(weight)) for row, weight in pair if weight])
    return made_of


class _Level:
    """One `Shared`: its numbers, [images, 1, 1, K], and what the optimizer remembers of them."""

    def __init__(self, shared: Shared, image: PixelSpace, count: int, **rules: Any) -> None:
        (_, *small), self._larger = _small(shared, image), image.sizes
        self._shape = (shared.images, image.channels, *small)
        self._mixing = mixing(shared.images, count)
        self._ascender = Ascender((1, 1, prod(self._shape[1:])), **rules)
        self.optimizer = self._ascender.new_state(shared.images)
        self.numbers = np.zeros((shared.images, 1, 1, prod(self._shape[1:])), np.float32)

    def add_to(self, pictures: Float32) -> None:
        """Adds what is shared to [count, C, H, W], in place."""
        large = enlarged(self.numbers.reshape(self._shape), self._larger).reshape(-1, *pictures.shape[1:])
        for n, made_of in enumerate(self._mixing):
            for row, weight in made_of:
                pictures[n] += weight * large[row]

    def pull_back(self, gradient: Float32) -> Float32:
        """The adjoint of that: from [count, C, H, W] to the numbers."""
        large = np.zeros((len(self.numbers), *gradient.shape[1:]), np.float32)
        for n, made_of in enumerate(self._mixing):
            for row, weight in made_of:
                large[row] += weight * gradient[n]
        small = enlarged_back(large, tuple(self._shape[2:]), self._larger)
        return np.ascontiguousarray(small).reshape(self.numbers.shape)

    def step(self, gradient: Float32, rate: float) -> None:
        """By the gradient with respect to the pictures; NaN in those of images that must stay as they are."""
        with np.errstate(over="ignore", invalid="ignore"):  # the kernel leaves what is not finite as it is
            slope = self.pull_back(gradient)
        self._ascender.step(self.numbers, slope, None, self.optimizer, rate)


class SharedNumbers:
    """All that the images of a batch have in common.

    Args:
        shared: What was asked for.
        image: Of the images.
        count: How many.
        seed: Of the ascent.
        deviation: Of the numbers at the start, which are random, or 0.
        **rules: How they step, as `Ascender` has it.
    """

    def __init__(
        self,
        shared: Sequence[Shared],
        image: PixelSpace,
        count: int,
        *,
        seed: int,
        deviation: float,
        rule: Optimizer,
        normalization: GradientNormalization,
        weight_decay: float,
    ) -> None:
        rules = {"rule": rule, "normalization": normalization, "weight_decay": weight_decay}
        self._shape = (count, *image.planar_shape)
        self._levels = [_Level(one, image, count, **rules) for one in shared]
        self.gradient: Float32 | None = None
        """With respect to the pictures, before a step."""
        for index, level in enumerate(self._levels):
            for row, numbers in enumerate(level.numbers):
                generator = np.random.Generator(np.random.Philox(stream(seed, row, SHARED)).jumped(index))
                numbers[...] = generator.standard_normal(numbers.shape, np.float32) * np.float32(deviation)

    def picture(self) -> Float32:
        """What is added to the pictures of the images, [count, C, H, W]."""
        total = np.zeros(self._shape, np.float32)
        for level in self._levels:
            level.add_to(total)
        return total

    def step(self, moved: npt.NDArray[np.bool_], steps: int, rate: float) -> None:
        """Steps by `gradient`.

        Args:
            moved: Which images may change, [count].
            steps: How many there are with this one.
            rate: The learning rate.
        """
        assert self.gradient is not None
        self.gradient[~moved] = np.nan
        for level in self._levels:
            level.optimizer.steps = steps - 1
            level.step(self.gradient, rate)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All that a step reads and writes, by name."""
        named: dict[str, npt.NDArray[Any]] = {}
        for index, level in enumerate(self._levels):
            named[f"shared {index}: numbers"] = level.numbers
            named |= {f"shared {index}: {name}": array for name, array in level.optimizer.arrays().items()}
        return named
