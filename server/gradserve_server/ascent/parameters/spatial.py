"""How numbers become a picture in space, and the adjoint: one class for each parameterization.

`theta` is [N, K], the numbers of each image in a row; a picture is [N, C, *sizes], before colours and bounds: images have
two sizes, H and W, signals one, volumes three.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from math import prod
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gradserve import parameterizations as P
from gradserve.errors import InvalidAscent
from gradserve_server.ascent.parameters.enlarging import enlarged, enlarged_back
from gradserve_server.kernels import Fourier

Float32 = npt.NDArray[np.float32]
Shape = tuple[int, ...]
"""C, then the sizes."""


class Spatial(Protocol):
    """Numbers in a row, and the picture that they make."""

    @property
    def length(self) -> int:
        """K."""

    def picture(self, theta: Float32) -> Float32:
        """[N, K] to [N, C, *sizes]."""

    def pull_back(self, theta: Float32, gradient: Float32) -> Float32:
        """The gradient with respect to the numbers, from that with respect to the picture."""

    def numbers(self, picture: Float32) -> Float32:
        """Numbers that make a picture: exactly where there are such, else close to it."""


class PixelGrid:
    """Each number is a pixel."""

    def __init__(self, _: P.Pixels, shape: Shape) -> None:
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
    """Real and imaginary parts: [N, 2, C, *half], half being the sizes with W // 2 + 1 instead of W.

    With S the scaled spectrum and G = rfft of the gradient, over all axes but those of images and channels,
    d/dRe S = c Re G / pixels and d/dIm S = c Im G / pixels: c is 2 for the columns that stand for their mirror image as
    well, else 1. (The imaginary part of what is its own mirror image makes no difference, and G has none there.)
    """

    def __init__(self, fourier: P.Fourier, shape: Shape) -> None:
        _, *sizes = shape
        self._sizes, self._axes, self._half = tuple(sizes), _axes(sizes), _half(shape)
        self.length = 2 * int(np.prod(self._half))
        frequency = reduce(
            np.hypot, np.meshgrid(*map(np.fft.fftfreq, sizes[:-1]), np.fft.rfftfreq(sizes[-1]), indexing="ij")
        )
        frequency = np.maximum(frequency, 1 / max(sizes))
        scale = np.sqrt(np.prod(sizes)) / frequency**fourier.decay / 4
        self._scale = scale.astype(np.float32)
        self._fourier = Fourier(self._sizes)
        self._there = (scale / np.prod(sizes)).astype(np.float32)
        self._back = (scale * _multiplicity(sizes[-1]) / np.prod(sizes)).astype(np.float32)

    def picture(self, theta: Float32) -> Float32:
        """The inverse transform of the scaled spectrum."""
        return self._fourier.inverse(theta.reshape(-1, 2, *self._half), self._there)

    def pull_back(self, theta: Float32, gradient: Float32) -> Float32:  # noqa: ARG002
        """The transform of the gradient, scaled."""
        return self._fourier.forward(gradient, self._back).reshape(len(gradient), -1)

    def numbers(self, picture: Float32) -> Float32:
        """Its spectrum, divided by the scale."""
        spectrum = np.fft.rfftn(picture, axes=self._axes) / self._scale
        return np.stack([spectrum.real, spectrum.imag], axis=1).astype(np.float32).reshape(len(picture), -1)


def _half(shape: Shape) -> Shape:
    """Of the half of a spectrum that says all of it."""
    return *shape[:-1], shape[-1] // 2 + 1


def _axes(sizes: Sequence[int]) -> tuple[int, ...]:
    return tuple(range(-len(sizes), 0))


class Pyramid:
    """Level l is [N, C, ceil(size / 2^l), ...], enlarged linearly along every axis and added."""

    def __init__(self, laplacian: P.Laplacian, shape: Shape) -> None:
        self._channels, *sizes = shape
        self._sizes = tuple(sizes)
        if not 1 <= laplacian.levels <= max(sizes).bit_length():
            spelled = "x".join(map(str, sizes))
            msg = f"levels: expected 1 to {max(sizes).bit_length()} for {spelled}, got {laplacian.levels}"
            raise InvalidAscent(msg)
        self._levels = [tuple(max(-(-size >> level), 1) for size in sizes) for level in range(laplacian.levels)]
        self._ends = np.cumsum([self._channels * prod(level) for level in self._levels]).tolist()
        self.length = self._ends[-1]

    def picture(self, theta: Float32) -> Float32:
        """The sum."""
        total = np.zeros((len(theta), self._channels, *self._sizes), np.float32)
        for sizes, level in zip(self._levels, np.split(theta, self._ends[:-1], axis=1), strict=True):
            part = np.ascontiguousarray(level).reshape(len(theta), self._channels, *sizes)
            total += enlarged(part, self._sizes)
        return total

    def pull_back(self, theta: Float32, gradient: Float32) -> Float32:  # noqa: ARG002
        """Each level gets the adjoint of its enlargement."""
        parts = [enlarged_back(gradient, sizes, self._sizes) for sizes in self._levels]
        return np.concatenate([part.reshape(len(gradient), -1) for part in parts], axis=1)

    def numbers(self, picture: Float32) -> Float32:
        """The finest level alone."""
        theta = np.zeros((len(picture), self.length), np.float32)
        theta[:, : self._ends[0]] = picture.reshape(len(picture), -1)
        return theta


_TINY = np.float32(1e-5)
"""Keeps a standardization from dividing by zero (as in Xplique's `maco.py`)."""


class PhaseSpectrum:
    """Phases: [N, C, *half]; p = standardized phase, picture = standardized irfft(magnitude (cos p + i sin p))."""

    def __init__(self, phases: P.Phases, shape: Shape) -> None:
        _, *sizes = shape
        self._sizes, self._axes, self._half = tuple(sizes), _axes(sizes), _half(shape)
        self.length = int(np.prod(self._half))
        magnitude = np.asarray(phases.magnitude, np.float32)
        if magnitude.shape != self._half or not np.isfinite(magnitude).all():
            msg = f"magnitude: expected finite numbers of shape {list(self._half)}, got {list(magnitude.shape)}"
            raise InvalidAscent(msg)
        self._magnitude, self._fourier = magnitude, Fourier(self._sizes)
        self._there = np.full(self._half[1:], 1 / np.prod(sizes), np.float32)
        self._back = (self._there * _multiplicity(sizes[-1])).astype(np.float32)

    def picture(self, theta: Float32) -> Float32:
        """The picture of the phases."""
        return _standardized(self._raw(_standardized(theta.reshape(-1, *self._half))))

    def pull_back(self, theta: Float32, gradient: Float32) -> Float32:
        """Back through both standardizations and the transform."""
        phases = theta.reshape(-1, *self._half)
        standard = _standardized(phases)
        spectrum = self._fourier.forward(_standardized_back(self._raw(standard), gradient), self._back)
        slope = self._magnitude * (np.cos(standard) * spectrum[:, 1] - np.sin(standard) * spectrum[:, 0]).astype(np.float32)
        return _standardized_back(phases, slope).reshape(len(theta), -1)

    def numbers(self, picture: Float32) -> Float32:
        """Its phases."""
        return np.angle(np.fft.rfftn(picture, axes=self._axes)).astype(np.float32).reshape(len(picture), -1)

    def _raw(self, standard: Float32) -> Float32:
        parts = [self._magnitude * part(standard) for part in (np.cos, np.sin)]
        return self._fourier.inverse(np.stack(parts, axis=1), self._there)


def _standardized(values: Float32) -> Float32:
    """(x - mean) / (deviation + tiny), image by image."""
    axes = tuple(range(1, values.ndim))
    standard: Float32 = (values - values.mean(axes, keepdims=True)) / (values.std(axes, keepdims=True) + _TINY)
    return standard


def _standardized_back(values: Float32, gradient: Float32) -> Float32:
    """With z = (x - mean) / s, s = deviation + tiny: dx = (dz - mean dz - z mean(dz z) s / deviation) / s."""
    axes = tuple(range(1, values.ndim))
    deviation = values.std(axes, keepdims=True)
    spread = deviation + _TINY
    centred = (values - values.mean(axes, keepdims=True)) / spread
    along = (gradient * centred).mean(axes, keepdims=True) * (spread / np.maximum(deviation, np.float32(1e-30)))
    result: Float32 = (gradient - gradient.mean(axes, keepdims=True) - centred * along) / spread
    return result


SPATIAL: Mapping[type[Any], Callable[[Any, Shape], Spatial]] = {
    P.Pixels: PixelGrid,
    P.Fourier: Spectrum,
    P.Laplacian: Pyramid,
    P.Phases: PhaseSpectrum,
}
"""By parameterization."""
