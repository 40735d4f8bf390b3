"""The canvas of an image that has the model's size: all around the model is two fused kernels."""

from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve_server.ascent.canvas import (
    Float32,
    Float64,
    Mask,
    Rolls,
    StartingImage,
    around,
    lengths,
    optimizer_arrays,
)
from gradserve_server.ascent.spec import AscentSpec
from gradserve_server.runtime.exchange import Exchange


class PixelCanvas:
    """An image as large as the model's input, rolled at most; without penalties."""

    penalty: Float64 | None = None

    def __init__(self, spec: AscentSpec, batch: Float32, gradient: Float32) -> None:
        self._spec, self._ascender = spec, around(spec)
        self._shown, self._raw = batch, gradient
        self._batch = spec.pixels.buffer(batch)
        self._gradient = spec.pixels.buffer(gradient)
        self._image = StartingImage(spec)
        self.optimizer = self._ascender.new_state(spec.count)
        self._offsets: npt.NDArray[np.int32] | None = None
        self._rolls = Rolls(spec)
        self.exchange = Exchange(batch, gradient)

    def show(self, index: int, *, plain: bool) -> None:
        """See `Canvas`."""
        self._offsets = None if plain else self._rolls.at(index)
        self._ascender.prepare(self._image.pixels, self._offsets, self._batch)

    def show_picture(self, picture: Float32) -> None:
        """See `Canvas`."""
        self._ascender.prepare(picture, None, self._batch)

    def step(self, held: Mask | None) -> Float64:
        """See `Canvas`."""
        rate = self._spec.learning_rate(self.optimizer.steps)
        if held is not None:
            lengths_held = self._lengths(self._raw[held])
            self._raw[held] = np.nan  # the kernel leaves such images as they are
        norms = self._ascender.step(self._image.pixels, self._gradient, self._offsets, self.optimizer, rate)
        self._image.confine(norms)
        if held is not None:
            norms[held] = lengths_held
        return norms

    def norms(self) -> Float64:
        """See `Canvas`."""
        return self._lengths(self._raw)

    def seen(self) -> Float32:
        """See `Canvas`."""
        return self._shown

    def moved(self, norms: Float64) -> Mask:
        """See `Canvas`."""
        return norms > 0

    def unseen(self) -> None:
        """See `Canvas`."""
        self._raw.fill(np.nan)

    def picture(self) -> Float32:
        """See `Canvas`."""
        return self._image.pixels

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """See `Canvas`."""
        return {"image": self._image.pixels, **optimizer_arrays(self.optimizer)}

    def take(self, name: str, array: npt.NDArray[Any]) -> None:
        """See `Canvas`."""
        self.arrays()[name][...] = array

    def fits(self, name: str, array: npt.NDArray[Any]) -> str:
        """See `Canvas`."""
        return self._image.fits(array) if name == "image" else ""

    def _lengths(self, gradient: Float32) -> Float64:
        pixels = self._spec.pixels
        return lengths(pixels.to_planar(gradient).astype(np.float64) * np.float64(pixels.scale).reshape(-1, 1, 1))
