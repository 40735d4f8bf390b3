"""The loops that are compared, and on what."""

from collections.abc import Mapping
from dataclasses import dataclass

import gradserve
from gradserve import transforms as T
from gradserve.numbers import Uniform
from gradserve.parameterizations import IMAGENET_COLOURS, Fourier

LOW, HIGH = -2.5, 2.5
"""Of the model's input, which is normalized."""
PIXEL_RATE, FOURIER_RATE = 0.02, 0.05
UNIT = 5


@dataclass(frozen=True)
class View:
    """The random transforms of a loop: pad, shift, scale, rotate, shift, crop. Sizes in pixels."""

    pad: int
    shifts: tuple[int, int]
    scale: tuple[float, float] = (0.9, 1.1)
    degrees: float = 10.0


@dataclass(frozen=True)
class Case:
    """One network of `speed.suite`, with one image."""

    shape: tuple[int, int, int]
    jitter: int
    """Of the pixel loop."""
    view: View
    """Of the Fourier loop."""

    @property
    def colours(self) -> tuple[tuple[float, ...], ...]:
        """Of the Fourier loop: those of photographs, where there are three."""
        return IMAGENET_COLOURS if self.shape[0] == len(IMAGENET_COLOURS) else ()

    def settings(self, loop: str) -> gradserve.AscentSettings:
        """A loop's settings for gradserve."""
        _, height, width = self.shape
        first, second = self.view.shifts
        loops: Mapping[str, gradserve.AscentSettings] = {
            PIXELS: {
                "optimizer": gradserve.Sgd(PIXEL_RATE),
                "gradient_normalization": "std",
                "jitter": self.jitter,
            },
            FOURIER: {
                "parameterization": Fourier(colours=self.colours),
                "transforms": (
                    T.Pad(self.view.pad),
                    T.Jitter(first),
                    T.Scale(Uniform(*self.view.scale)),
                    T.Rotate(Uniform(-self.view.degrees, self.view.degrees)),
                    T.Jitter(second),
                    T.Crop(height, width),
                ),
                "optimizer": gradserve.Adam(FOURIER_RATE),
            },
        }
        return {"bounds": (LOW, HIGH), **loops[loop]}


PIXELS = "pixels, jitter"
"""Jitter, gradient of one logit, division by its standard deviation, step, clip."""
FOURIER = "Fourier, transforms"
"""Spectrum, colours, sigmoid, six random transforms, gradient of one logit, Adam."""

CASES = {
    "ResNet-50": Case((3, 224, 224), 8, View(12, (8, 4))),
    "digits CNN": Case((1, 28, 28), 2, View(3, (2, 1))),
}
