"""What an ascent changes: pixels, or numbers that pixels are made of.

    pixels = squash(colours(spatial(numbers) + shared))

`spatial` is the class; `shared` is what images of a batch have in common, if anything; `colours` mixes channels; `squash`
keeps pixels within the bounds. All but plain pixels start from random numbers (`start=Noise(...)`), or from those that make
the image that is given.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "IMAGENET_COLOURS",
    "Alpha",
    "Fourier",
    "Laplacian",
    "Parameterization",
    "Phases",
    "Pixels",
    "Shared",
    "Squash",
    "colours_of",
    "magnitude_of",
]


class Squash(StrEnum):
    """How any number becomes a pixel from `low` to `high`."""

    CLIP = "clip"
    """Cut off. Where a whole gradient points outwards, it stops there."""
    SIGMOID = "sigmoid"
    """low + (high - low) / (1 + exp(-x))."""
    TANH = "tanh"
    """The middle + half the width times tanh(x)."""


Matrix = tuple[tuple[float, ...], ...]

_SVD_SQRT = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])


def _normalized(mixing: npt.NDArray[np.float64]) -> Matrix:
    """Divided by the length of the longest column, as Lucid does."""
    return tuple(map(tuple, (mixing / np.linalg.norm(mixing, axis=0).max()).tolist()))


IMAGENET_COLOURS: Matrix = _normalized(_SVD_SQRT)
"""Lucid's: RGB = matrix @ three numbers that are uncorrelated in photographs (optvis/param/color.py)."""


@dataclass(frozen=True)
class Pixels:
    """The image itself."""

    squash: Squash = Squash.CLIP
    colours: Matrix = ()
    """[C][C]; empty: channels are not mixed."""


@dataclass(frozen=True)
class Fourier:
    """Its spectrum, so that a step changes all sizes of structure alike (Olah et al. 2017; Lucid's `fft_image`).

    irfft2(numbers * sqrt(width * height) / max(f, 1 / max(width, height))^decay) / 4, f in cycles per pixel.
    """

    decay: float = 1.0
    """1: every octave has the same energy; above it, larger structure goes before."""
    squash: Squash = Squash.SIGMOID
    colours: Matrix = IMAGENET_COLOURS
    """Three channels; another number of channels takes none or its own (`colours_of`)."""


@dataclass(frozen=True)
class Laplacian:
    """A sum of images, each half the size of the one before, enlarged (Lucid's `laplacian_pyramid`)."""

    levels: int = 4
    squash: Squash = Squash.SIGMOID
    colours: Matrix = IMAGENET_COLOURS


@dataclass(frozen=True, eq=False)
class Phases:
    """Only the phases of its spectrum; the magnitudes are those of real images (Fel et al. 2023, MACO).

    The phases are standardized, and so is the image before its colours.
    """

    magnitude: npt.NDArray[Any]
    """[C, height, width // 2 + 1]: see `magnitude_of`."""
    squash: Squash = Squash.SIGMOID
    colours: Matrix = IMAGENET_COLOURS


Parameterization = Pixels | Fourier | Laplacian | Phases


@dataclass(frozen=True)
class Shared:
    """Numbers that the images of a batch have in common: a smaller batch of smaller pictures, which is enlarged and added.

    [images, C, ceil(size / factor), ...] is enlarged linearly along every axis, that of the batch included, to what the
    images have before their colours. This is Lucid's `lowres_tensor`; samples lie at the middle of their cells, as in Lucent
    and `torch.nn.functional.interpolate` (with TensorFlow 1 they lay at the edge). Several are added up.
    """

    images: int = 1
    """1: all have the same. Fewer than in the batch: those near each other have nearly the same."""
    factor: int = 2
    """How much smaller each side is: 1 is as large as the image."""


@dataclass(frozen=True)
class Alpha:
    """One more channel, how opaque each pixel is (Lucid's RGBA): the model sees alpha image + (1 - alpha) background.

    It has the parameterization of the image, and begins half transparent.
    """

    background: float | None = None
    """A pixel value; by default another random image in each step, with the spectrum and the colours of photographs, so that
    nothing transparent can serve the objective (Lucid's `collapse_alpha_random`)."""
    standard_deviation: float = 0.5
    """Of the numbers in the random image's spectrum."""
    penalty: float = 0.0
    """This times the mean of alpha is taken from the objective, so that the image is opaque only where that pays."""


def colours_of(images: Sequence[npt.ArrayLike]) -> Matrix:
    """The colours of some images, for `colours=`: the square root of the covariance of their channels.

    Args:
        images: Each [C, H, W], of any size, in any unit.
    """
    pixels = np.concatenate([np.asarray(image, np.float64).reshape(np.shape(image)[0], -1) for image in images], axis=1)
    vectors, variances, _ = np.linalg.svd(np.atleast_2d(np.cov(pixels)))
    return _normalized(vectors * np.sqrt(variances))


def magnitude_of(images: Sequence[npt.ArrayLike], colours: Matrix = IMAGENET_COLOURS) -> npt.NDArray[np.float32]:
    """The mean magnitude of the spectra of some images of one size, for `Phases`: [C, height, width // 2 + 1].

    Args:
        images: Each [C, H, W].
        colours: As in `Phases`: magnitudes are of the numbers before the colours are mixed.
    """
    stack = np.asarray(images, np.float64)
    mixed = stack if not colours else np.einsum("ij,njhw->nihw", np.linalg.inv(colours), stack)
    spectra = np.fft.rfft2(mixed - mixed.mean((2, 3), keepdims=True))
    mean: npt.NDArray[np.float32] = np.abs(spectra).mean(0).astype(np.float32)
    return mean
