"""How numbers become a picture in space, and the adjoint: one class for each parameterization.

`theta` is [N, K], the numbers of each image in a row; a picture is [N, C, H, W], before colours and bounds.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gradserve.errors import InvalidAscent
from gradserve.parameterizations import Fourier, Laplacian, Phases, Pixels
from gradserve_server.ascent.transforms.geometry import Size, resized
from gradserve_server.kernels import Border, warp, warp_adjoint

Float32 = npt.NDArray[np.float32]
Shape = tuple[int, int, int]
"""C, H, W."""


class Spatial(Protocol):
    """Numbers in a row, and the picture that they make."""

    @property
    def length(self) -> int:
        """K."""

    def picture(self, theta: Float32) -> Float32:
        """[N, K] to [N, C, H, W]."""

    def pull_back(self, theta: Float32, gradient: Float32) -> Float32:
        """The gradient with respect to the numbers, from that with respect to the picture."""

    def numbers(self, picture: Float32) -> Float32:
        """Numbers that make a picture: exactly where there are such, else close to it."""


class PixelGrid:
    """Each number is a pixel."""

    def __init__(self, _: Pixels, shape: Shape) -> None:
        self._shape = shape
        self.length = int(np.prod(shape))

    def picture(self, theta: Float32) -> Float32:
        """The same."""
        return theta.reshape(-1, *self._shape)

    def pull_back(self, theta: Float32, gradient: Float32) -> Float32:  # noqa: ARG002
        """The same."""
        return gradient.reshape(len(gradient), -1)

    def numbers(self, picture: Float32) -> Float32:
        """The same."""
        return picture.reshape(len(picture), -1)


def _multiplicity(width: int) -> npt.NDArray[np.float64]:
    """How many columns of the whole spectrum each column of its half stands for."""
    columns = np.arange(width // 2 + 1)
    return np.where((columns == 0) | (2 * columns == width), 1.0, 2.0)


class Spectrum:
    """Real and imaginary parts: [N, 2, C, H, W // 2 + 1].

    With S the scaled spectrum and G = rfft2 of the gradient, d/dRe S = c Re G / (H W) and d/dIm S = c Im G / (H W): c is 2
    for the columns that stand for their mirror image as well, else 1. (The imaginary part of what is its own mirror image
    makes no difference, and G has none there.)
    """

    def __init__(self, fourier: Fourier, shape: Shape) -> None:
        channels, height, width = shape
        self._shape, self._half = shape, (channels, height, width // 2 + 1)
        self.length = 2 * int(np.prod(self._half))
        frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
        scale = np.sqrt(width * height) / np.maximum(frequency, 1 / max(width, height)) ** fourier.decay / 4
        self._scale = scale.astype(np.float32)
        self._back = (scale * _multiplicity(width) / (height * width)).astype(np.float32)

    def picture(self, theta: Float32) -> Float32:
        """The inverse transform of the scaled spectrum."""
        parts = theta.reshape(-1, 2, *self._half)
        spectrum = np.empty((len(parts), *self._half), np.complex64)
        np.multiply(parts[:, 0], self._scale, out=spectrum.real)
        np.multiply(parts[:, 1], self._scale, out=spectrum.imag)
        return np.fft.irfft2(spectrum, self._shape[1:]).astype(np.float32, copy=False)

    def pull_back(self, theta: Float32, gradient: Float32) -> Float32:  # noqa: ARG002
        """The transform of the gradient, scaled."""
        spectrum = np.fft.rfft2(gradient)
        parts = np.empty((len(gradient), 2, *self._half), np.float32)
        np.multiply(spectrum.real, self._back, out=parts[:, 0], casting="same_kind")
        np.multiply(spectrum.imag, self._back, out=parts[:, 1], casting="same_kind")
        return parts.reshape(len(gradient), -1)

    def numbers(self, picture: Float32) -> Float32:
        """Its spectrum, divided by the scale."""
        spectrum = np.fft.rfft2(picture) / self._scale
        return np.stack([spectrum.real, spectrum.imag], axis=1).astype(np.float32).reshape(len(picture), -1)


class Pyramid:
    """Level l is [N, C, ceil(H / 2^l), ceil(W / 2^l)], enlarged to [H, W] and added."""

    def __init__(self, laplacian: Laplacian, shape: Shape) -> None:
        channels, height, width = shape
        if not 1 <= laplacian.levels <= max(height, width).bit_length():
            msg = f"levels: expected 1 to {max(height, width).bit_length()} for {height}x{width}, got {laplacian.levels}"
            raise InvalidAscent(msg)
        self._channels, self._size = channels, (height, width)
        self._levels: list[Size] = [(-(-height >> level), -(-width >> level)) for level in range(laplacian.levels)]
        self._levels = [(max(h, 1), max(w, 1)) for h, w in self._levels]
        self._ends = np.cumsum([channels * h * w for h, w in self._levels]).tolist()
        self.length = self._ends[-1]

    def picture(self, theta: Float32) -> Float32:
        """The sum."""
        total = np.zeros((len(theta), self._channels, *self._size), np.float32)
        for size, level in zip(self._levels, np.split(theta, self._ends[:-1], axis=1), strict=True):
            part = np.ascontiguousarray(level).reshape(-1, self._channels, *size)
            total += part if size == self._size else warp(part, self._map(size, len(part)), self._size, border=Border.EDGE)
        return total

    def pull_back(self, theta: Float32, gradient: Float32) -> Float32:  # noqa: ARG002
        """Each level gets the adjoint of its enlargement."""
        count = len(gradient)
        parts = [
            gradient if size == self._size else warp_adjoint(gradient, self._map(size, count), size, border=Border.EDGE)
            for size in self._levels
        ]
        return np.concatenate([part.reshape(count, -1) for part in parts], axis=1)

    def numbers(self, picture: Float32) -> Float32:
        """The finest level alone."""
        theta = np.zeros((len(picture), self.length), np.float32)
        theta[:, : self._ends[0]] = picture.reshape(len(picture), -1)
        return theta

    def _map(self, size: Size, count: int) -> npt.NDArray[np.float64]:
        return np.repeat(resized(size, self._size).matrix[np.newaxis], count, axis=0)


_TINY = np.float32(1e-5)
"""Keeps a standardization from dividing by zero (as in Xplique's `maco.py`)."""


class PhaseSpectrum:
    """Phases: [N, C, H, W // 2 + 1]; p = standardized phase, picture = standardized irfft2(magnitude (cos p + i sin p))."""

    def __init__(self, phases: Phases, shape: Shape) -> None:
        channels, height, width = shape
        self._shape, self._half = shape, (channels, height, width // 2 + 1)
        self.length = int(np.prod(self._half))
        magnitude = np.asarray(phases.magnitude, np.float32)
        if magnitude.shape != self._half or not np.isfinite(magnitude).all():
            msg = f"magnitude: expected finite numbers of shape {list(self._half)}, got {list(magnitude.shape)}"
            raise InvalidAscent(msg)
        self._magnitude = magnitude
        self._back = (_multiplicity(width) / (height * width)).astype(np.float32)

    def picture(self, theta: Float32) -> Float32:
        """The picture of the phases."""
        return _standardized(self._raw(_standardized(theta.reshape(-1, *self._half))))

    def pull_back(self, theta: Float32, gradient: Float32) -> Float32:
        """Back through both standardizations and the transform."""
        phases = theta.reshape(-1, *self._half)
        standard = _standardized(phases)
        spectrum = np.fft.rfft2(_standardized_back(self._raw(standard), gradient))
        weight = self._magnitude * self._back
        slope = weight * (np.cos(standard) * spectrum.imag - np.sin(standard) * spectrum.real)
        return _standardized_back(phases, slope.astype(np.float32)).reshape(len(theta), -1)

    def numbers(self, picture: Float32) -> Float32:
        """Its phases."""
        return np.angle(np.fft.rfft2(picture)).astype(np.float32).reshape(len(picture), -1)

    def _raw(self, standard: Float32) -> Float32:
        spectrum = (self._magnitude * np.exp(1j * standard)).astype(np.complex64)
        return np.fft.irfft2(spectrum, self._shape[1:]).astype(np.float32, copy=False)


_AXES = (1, 2, 3)


def _standardized(values: Float32) -> Float32:
    """(x - mean) / (deviation + tiny), image by image."""
    standard: Float32 = (values - values.mean(_AXES, keepdims=True)) / (values.std(_AXES, keepdims=True) + _TINY)
    return standard


def _standardized_back(values: Float32, gradient: Float32) -> Float32:
    """With z = (x - mean) / s, s = deviation + tiny: dx = (dz - mean dz - z mean(dz z) s / deviation) / s."""
    deviation = values.std(_AXES, keepdims=True)
    spread = deviation + _TINY
    centred = (values - values.mean(_AXES, keepdims=True)) / spread
    along = (gradient * centred).mean(_AXES, keepdims=True) * (spread / np.maximum(deviation, np.float32(1e-30)))
    result: Float32 = (gradient - gradient.mean(_AXES, keepdims=True) - centred * along) / spread
    return result


SPATIAL: Mapping[type[Any], Callable[[Any, Shape], Spatial]] = {
    Pixels: PixelGrid,
    Fourier: Spectrum,
    Laplacian: Pyramid,
    Phases: PhaseSpectrum,
}
"""By parameterization."""
