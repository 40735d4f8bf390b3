"""The random numbers of transforms: the same for an image whatever is drawn for others, and found for any step at once."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve import transforms as T
from gradserve.numbers import Choice, Normal, Spread, Uniform, scheduled

STEPS_DRAWN = 64
"""Numbers are drawn for so many steps at a time; another number would give others for the same seed."""

FIRST_PURPOSE = 16
"""Of the streams of random numbers that an image has; those below are other parts of an ascent's."""

Float32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

_UNIT = Uniform(0.0, 1.0)

SPREADS: dict[type[Any], Callable[[Any], Sequence[Spread]]] = {
    T.Pad: lambda _: (),
    T.Jitter: lambda _: (_UNIT, _UNIT),
    T.Scale: lambda scale: (scale.factor,),
    T.Rotate: lambda rotate: (rotate.degrees,),
    T.Affine: lambda affine: (affine.scale, affine.shear, affine.degrees, affine.down, affine.right),
    T.Crop: lambda _: (),
    T.RandomCrop: lambda crop: (crop.size, crop.centre, crop.centre),
    T.Resize: lambda _: (),
    T.Flip: lambda _: (_UNIT,),
    T.Blur: lambda blur: (blur.sigma,),
    T.Noisy: lambda _: (),
}
"""What each transform draws for one image in one step."""


def shifts(axes: int) -> Sequence[Spread]:
    """What the jitter of a signal or volume draws: of an image it is `SPREADS`."""
    return (_UNIT,) * axes


def stream(seed: int, image: int, purpose: int) -> np.random.SeedSequence:
    """Each image has streams of its own, so that it comes out the same alone and in company."""
    return np.random.SeedSequence(seed, spawn_key=(image, purpose))


class Draws:
    """The numbers of one transform for one image.

    Args:
        spreads: What to draw in each step.
        seeds: Of its stream.
    """

    def __init__(self, spreads: Sequence[Spread], seeds: np.random.SeedSequence) -> None:
        self._spreads, self._seeds = tuple(spreads), seeds

    def block(self, block: int, progress: Sequence[float]) -> Floats:
        """Those of the steps from `STEPS_DRAWN * block` on, a row for each.

        Args:
            block: Any, in any order.
            progress: The share of the steps before each.
        """
        drawn = np.empty((STEPS_DRAWN, len(self._spreads)))
        generator = np.random.Generator(np.random.Philox(self._seeds).jumped(block))
        for column, spread in zip(drawn.T, self._spreads, strict=True):
            column[:] = _of_steps(spread, generator, progress)
        return drawn

    def arrays(self, index: int, shape: tuple[int, ...]) -> tuple[Float32, Float32]:
        """A standard normal array, and one that is even over [-1, 1), for this step alone."""
        generator = np.random.Generator(np.random.Philox(self._seeds).jumped(index))
        return (
            generator.standard_normal(shape, np.float32),
            generator.random(shape, np.float32) * np.float32(2) - np.float32(1),
        )


def _of_steps(spread: Spread, generator: np.random.Generator, progress: Sequence[float]) -> Floats | float:
    if isinstance(spread, Normal):
        means = np.array([scheduled(spread.mean, share) for share in progress])
        return means + generator.standard_normal(STEPS_DRAWN) * spread.standard_deviation
    even = generator.random(STEPS_DRAWN)  # drawn for a plain number too: the others do not depend on what it is
    match spread:
        case Uniform():
            return spread.low + (spread.high - spread.low) * even
        case Choice():
            return np.take(np.array(spread.values, float), (even * len(spread.values)).astype(int))
        case _:
            return float(spread)
