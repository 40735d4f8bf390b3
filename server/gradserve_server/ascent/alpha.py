"""Transparent images: one more channel, and a background that shows through.

shown = alpha image + (1 - alpha) background        d image = alpha d,  d alpha = sum over channels of (image - background) d
"""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve.errors import InvalidAscent
from gradserve.parameterizations import IMAGENET_COLOURS, Alpha, Fourier, Parameterization, Phases, Squash
from gradserve.projections import Projection
from gradserve_server.ascent.bounds import Bounds
from gradserve_server.ascent.parameters.image import Painter
from gradserve_server.ascent.pixels import PixelSpace
from gradserve_server.ascent.ranges import LARGEST, number
from gradserve_server.ascent.transforms.draws import stream
from gradserve_server.ascent.transforms.geometry import Range

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

ALPHA, BACKGROUND = 3, 4
"""The streams of random numbers of each image: its alpha at the start, and its backgrounds."""


def check_alpha(given: Any, projection: Projection | None) -> Alpha | None:
    """Makes sure that a transparency is one, with numbers in range.

    Raises:
        InvalidAscent: It is not.
    """
    if given is None:
        return None
    if type(given) is not Alpha:
        msg = f"alpha: expected an Alpha, got {type(given).__name__}"
        raise InvalidAscent(msg)
    if projection is not None:
        msg = f"alpha: expected none with a projection, got {given}"
        raise InvalidAscent(msg)
    if given.background is not None:
        number("alpha: background", given.background, -LARGEST, LARGEST)
    number("alpha: standard_deviation", given.standard_deviation, 0.0, LARGEST)
    number("alpha: penalty", given.penalty, -LARGEST, LARGEST)
    return given


class Transparency:
    """The alpha of some images, and what lies behind them.

    Args:
        alpha: What was asked for.
        parameterization: Of the images; alpha has the same, without colours.
        space: Of the images.
        bounds: Of their pixels.
        seed: Of the ascent.

    Raises:
        InvalidAscent: There is no range for a random background.
    """

    def __init__(
        self, alpha: Alpha, parameterization: Parameterization, space: PixelSpace, bounds: Bounds, seed: int
    ) -> None:
        self._alpha, self._seed = alpha, seed
        own = replace(parameterization, squash=Squash.SIGMOID, colours=())
        if isinstance(own, Phases):
            own = replace(own, magnitude=np.asarray(own.magnitude).mean(axis=0, keepdims=True))
        self.painter = Painter(own, (1, *space.sizes), Range(0.0, 1.0))
        """Of alpha: [count, 1, H, W], 0 to 1."""
        colours = IMAGENET_COLOURS if space.channels == len(IMAGENET_COLOURS) else ()
        self._behind = Painter(Fourier(colours=colours), (space.channels, *space.sizes), Range(*bounds))
        self._background: Float32 = np.zeros((), np.float32)
        self._shown: tuple[Float32, Float32] | None = None

    def numbers(self, count: int, deviation: float) -> Float32:
        """Of alpha at the start: random ones, around half transparent; [count, K]."""
        return self._drawn(count, ALPHA, 0, self.painter.length) * np.float32(deviation)

    def over(self, image: Float32, alpha: Float32, index: int) -> Float32:
        """The images over the background of a step."""
        self._background = self._of(len(image), index)
        self._shown = image, alpha
        return alpha * image + (1 - alpha) * self._background

    def pull_back(self, gradient: Float32) -> tuple[Float32, Float32]:
        """The gradients with respect to images and alpha, with its penalty, from that with respect to what was shown."""
        assert self._shown is not None
        image, alpha = self._shown
        back = (gradient * (image - self._background)).sum(axis=1, keepdims=True)
        return gradient * alpha, back - np.float32(self._alpha.penalty / alpha[0].size)

    def penalty(self, alpha: Float32) -> Float64:
        """What alpha adds to the objective, [count]."""
        return np.array([-self._alpha.penalty * float(one.mean(dtype=np.float64)) for one in alpha])

    def _of(self, count: int, index: int) -> Float32:
        if self._alpha.background is not None:
            return np.float32(self._alpha.background) * np.ones((), np.float32)
        deviation = np.float32(self._alpha.standard_deviation)
        return self._behind.paint(self._drawn(count, BACKGROUND, index, self._behind.length) * deviation)

    def _drawn(self, count: int, purpose: int, index: int, length: int) -> Float32:
        streams = [np.random.Philox(stream(self._seed, image, purpose)).jumped(index) for image in range(count)]
        return np.stack([np.random.Generator(one).standard_normal(length, np.float32) for one in streams])
