"""What an ascent changes, and how the model sees it: a canvas writes the model's input and steps by the gradient of it.

There are three (`ascent.canvases` chooses): `PixelCanvas` for images of the model's size, `ResidentCanvas` for such images
where they stay on a device, and `PaintedCanvas` for everything else: numbers that pixels are made of, transforms, another
size.
"""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gradserve.parameterizations import Pixels
from gradserve_server.ascent.bounds import Bounds
from gradserve_server.ascent.projection import Ball
from gradserve_server.ascent.regularizers import Regularization
from gradserve_server.ascent.spec import BALL, AscentSpec
from gradserve_server.ascent.transforms.draws import stream
from gradserve_server.kernels import Ascender, AscentState, Layout
from gradserve_server.runtime.exchange import Exchange

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


_PLANE_AXES = 2
"""Of what the kernels can roll: images, and signals, which are images of one row."""


class Canvas(Protocol):
    """What an ascent changes."""

    optimizer: AscentState
    penalty: Float64 | None
    """What the image itself adds to the value of what was shown, [count]; its gradient is in every step."""

    @property
    def exchange(self) -> Exchange:
        """Where it meets the model."""

    def show(self, index: int, *, plain: bool) -> None:
        """Writes the model's input for a step; plain: without transforms."""

    def show_picture(self, picture: Float32) -> None:
        """Writes the model's input for another image, without transforms. No step may follow it."""

    def step(self, held: Mask | None) -> Float64:
        """Changes all images but those held, by the gradient of what was shown, and returns the length of each one's."""

    def norms(self) -> Float64:
        """Those lengths, without a step."""

    def seen(self) -> Float32:
        """What was shown: the model's input, on this side."""

    def moved(self, norms: Float64) -> Mask:
        """Which images the model's gradient moved, given those lengths: it is not zero everywhere."""

    def unseen(self) -> None:
        """Notes that what was shown has not been run, and never will be: its gradient is not a number."""

    def picture(self) -> Float32:
        """The image as it is now, in pixel space, [count, C, H, W]; a transparent one has its alpha as one more channel."""

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All that a step reads and writes, by name; to be read only."""

    def take(self, name: str, array: npt.NDArray[Any]) -> None:
        """Puts a copy of an array in the place of one of `arrays`."""

    def fits(self, name: str, array: npt.NDArray[Any]) -> str:
        """What is wrong with an array that should take the place of one of `arrays`; "" for nothing."""


def is_plain(spec: AscentSpec) -> bool:
    """Whether the image has the model's size, and is rolled at most."""
    in_planes = not spec.jitter or len(spec.pixels.sizes) <= _PLANE_AXES
    as_large = spec.image.planar_shape == spec.pixels.planar_shape
    is_alone = not (spec.transforms or spec.penalties or spec.regularizers or spec.shared) and spec.alpha is None
    return spec.parameterization == Pixels() and is_alone and as_large and in_planes


def around(spec: AscentSpec) -> Ascender:
    """Around the model: pixels to its input, and steps of pixels."""
    low, high = cut_at(spec)
    return Ascender(
        spec.pixels.planar_shape,
        rule=spec.optimizer,
        mean=spec.pixels.mean,
        scale=spec.pixels.scale,
        layout=Layout(spec.pixels.layout),
        normalization=spec.gradient_normalization,
        weight_decay=spec.weight_decay,
        low=low,
        high=high,
    )


def cut_at(spec: AscentSpec) -> tuple[float, float]:
    """Where a step cuts all pixels off alike: nowhere if something comes before the bounds, or these are arrays."""
    low, high = spec.bounds
    if spec.projection is not None or spec.regularizers or isinstance(low, np.ndarray) or isinstance(high, np.ndarray):
        return -np.inf, np.inf
    return low, high


class StartingImage:
    """The image itself as what changes: where it begins, where it must stay."""

    def __init__(self, spec: AscentSpec) -> None:
        self._bounds = spec.bounds
        self._is_cut = not spec.regularizers and not any(isinstance(bound, np.ndarray) for bound in spec.bounds)
        self._regularization = Regularization(spec.regularizers, spec.image)
        self._ball = None if spec.projection is None else Ball(spec.projection, spec.start, spec.bounds)
        seeds = [stream(spec.seed, image, BALL) for image in range(spec.count)]
        self.pixels = spec.start.copy() if self._ball is None else self._ball.first(seeds)

    def regularize(self, norms: Float64, gradient: Float32, index: int) -> None:
        """What `regularizers` ask for after a step by gradients of these lengths; one that is not finite was no step."""
        self._regularization.apply(self.pixels, gradient, np.isfinite(norms), index)

    def confine(self, norms: Float64) -> None:
        """Brings it back after a step by gradients of these lengths."""
        if self._ball is not None:
            self._ball.project(self.pixels, np.isfinite(norms))
        elif not self._is_cut:
            np.clip(self.pixels, *self._bounds, out=self.pixels)

    def fits(self, array: npt.NDArray[Any]) -> str:
        """What is wrong with pixels that should take its place."""
        if wrong := within(array, self._bounds):
            return wrong
        return "" if self._ball is None or self._ball.holds(array) else "expected values near the start, got others"


class Rolls:
    """By how much the images of an ascent are rolled in each step."""

    def __init__(self, spec: AscentSpec) -> None:
        self._spec, self._jitter, self._next = spec, spec.offsets(), 0

    def at(self, index: int) -> npt.NDArray[np.int32] | None:
        """Of a step, [count, 2] (rows, columns); None where images are not rolled. Quickest in the order of steps."""
        if index != self._next:
            self._jitter = self._spec.offsets(index)
        self._next = index + 1
        return next(self._jitter)


def optimizer_arrays(state: AscentState) -> dict[str, npt.NDArray[Any]]:
    """What an optimizer remembers, as checkpoints call it."""
    return {f"optimizer: {name}": array for name, array in state.arrays().items()}


def lengths(gradient: Float64) -> Float64:
    """Euclidean, of each image's."""
    norms: Float64 = np.sqrt(np.square(gradient).sum(axis=(1, 2, 3)))
    return norms


def within(array: npt.NDArray[Any], bounds: Bounds) -> str:
    """What is wrong with values that should lie within bounds."""
    low, high = bounds
    inside = np.array_equal(np.clip(array, low, high), array)
    return "" if inside else f"expected values from {np.min(low):g} to {np.max(high):g}, got others"
