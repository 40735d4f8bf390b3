"""The Fourier transform of images along all their axes, and back: csrc/kernels/fourier.h has the formulas.

Of images as small as a model's, numpy's transforms spend most of their time in Python; in a step of an ascent there are two.
A length with a large prime factor is left to numpy, whose time does not grow with the factor.
"""

from math import prod

import numpy as np
import numpy.typing as npt

from gradserve_server import _core

FloatArray = npt.NDArray[np.float32]

LARGEST_FACTOR = 97
"""Of a length: from about here on numpy is faster."""


class Fourier:
    """Transforms of images of some sizes. Any length will do; those of small factors are fastest.

    With `half` the sizes with W // 2 + 1 in the place of the last one, W, a spectrum is `[N, 2, C, *half]`: its real and its
    imaginary part.

    Args:
        sizes: Of an image, one or more.
        simd: One of `simd_targets()`; None takes the best.
        threads: Of a call; None takes as many as the work is worth.
    """

    def __init__(self, sizes: tuple[int, ...], *, simd: str | None = None, threads: int | None = None) -> None:
        self._core = _core.Fourier(sizes=sizes, simd=simd, threads=threads)
        self._sizes, self._half = sizes, (*sizes[:-1], sizes[-1] // 2 + 1)
        self._pixels, self._numbers = prod(sizes), prod(self._half)
        self._is_numpys = any(_largest_factor(size) > LARGEST_FACTOR for size in sizes)
        self._axes = tuple(range(-len(sizes), 0))

    def inverse(self, spectrum: FloatArray, scale: FloatArray) -> FloatArray:
        """`irfftn(scale * spectrum)` times the number of pixels.

        Args:
            spectrum: `[N, 2, C, *half]`. What no real image can have is left out, as in numpy's.
            scale: `[*half]`.

        Returns:
            `[N, C, *sizes]`.
        """
        if self._is_numpys:
            whole = np.fft.irfftn((spectrum[:, 0] + 1j * spectrum[:, 1]) * scale, self._sizes, self._axes, norm="forward")
            return whole.astype(np.float32, copy=False)
        count, _, channels = spectrum.shape[:3]
        image = np.empty((count, channels, self._pixels), np.float32)
        parts = np.ascontiguousarray(spectrum).reshape(count, 2, channels, self._numbers)
        self._core.inverse(parts, scale.reshape(-1), image)
        return image.reshape(count, channels, *self._sizes)

    def forward(self, image: FloatArray, scale: FloatArray) -> FloatArray:
        """`scale * rfftn(image)`.

        Args:
            image: `[N, C, *sizes]`.
            scale: `[*half]`.

        Returns:
            `[N, 2, C, *half]`.
        """
        if self._is_numpys:
            whole = np.fft.rfftn(image, axes=self._axes) * scale
            return np.stack([whole.real, whole.imag], axis=1).astype(np.float32, copy=False)
        count, channels = image.shape[:2]
        spectrum = np.empty((count, 2, channels, self._numbers), np.float32)
        pixels = np.ascontiguousarray(image).reshape(count, channels, self._pixels)
        self._core.forward(pixels, scale.reshape(-1), spectrum)
        return spectrum.reshape(count, 2, channels, *self._half)


def _largest_factor(length: int) -> int:
    """The largest prime factor; 1 of 1."""
    largest, factor = 1, 2
    while factor * factor <= length:
        while length % factor == 0:
            largest, length = factor, length // factor
        factor += 1
    return max(largest, length)
