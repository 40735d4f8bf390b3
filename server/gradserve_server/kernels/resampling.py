"""Planes resampled along affine maps and blurred, with the exact adjoints: csrc/kernels/{warp,blur}.h have the formulas.

⟨warp(x), y⟩ = ⟨x, warp_adjoint(y)⟩ up to the constant that fills the outside, and likewise for the blur.
"""

from enum import StrEnum

import numpy as np
import numpy.typing as npt

from gradserve_server import _core

FloatArray = npt.NDArray[np.float32]
Matrices = npt.NDArray[np.float64]


class Border(StrEnum):
    """What lies beyond the edge of a plane."""

    FILL = "fill"
    """A constant."""
    WRAP = "wrap"
    """The other side."""
    EDGE = "edge"
    """The nearest value."""
    REFLECT = "reflect"
    """Mirrored at the outermost value, which is not repeated."""


def warp(
    source: FloatArray,
    matrices: Matrices,
    size: tuple[int, int],
    *,
    border: Border = Border.FILL,
    fill: npt.ArrayLike = 0.0,
    simd: str | None = None,
    threads: int | None = None,
) -> FloatArray:
    """Bilinear resampling: `out[n, c, y, x]` is `source[n, c]` at `matrices[n] @ (y, x, 1)`.

    Where a position lies on the grid, the value is copied exactly. Nothing is smoothed where the map shrinks.

    Args:
        source: `[N, C, H, W]`.
        matrices: float64 `[N, 2, 3]`: rows for the source's row and column, columns for y, x and 1.
        size: Height and width of the result.
        border: What is read beyond the edge.
        fill: With `Border.FILL`, a number or one per channel.
        simd: One of `simd_targets()`; None takes the best.
        threads: Of the call; None takes as many as the work is worth.

    Returns:
        `[N, C, *size]`.
    """
    channels = source.shape[1] if source.ndim == 4 else 1
    out = np.empty((*source.shape[:2], *size), np.float32)
    fills = np.full(channels, fill, np.float32)
    _core.warp(source, matrices, border, fills, out, simd, threads)
    return out


def warp_adjoint(
    gradient: FloatArray,
    matrices: Matrices,
    size: tuple[int, int],
    *,
    border: Border = Border.FILL,
    simd: str | None = None,
    threads: int | None = None,
) -> FloatArray:
    """The gradient with respect to `warp`'s source, `[N, C, *size]`, from the gradient with respect to its result."""
    out = np.empty((*gradient.shape[:2], *size), np.float32)
    _core.warp_adjoint(gradient, matrices, border, out, simd, threads)
    return out


def blur(source: FloatArray, weights: FloatArray, *, border: Border = Border.FILL, threads: int | None = None) -> FloatArray:
    """Each plane convolved with `weights[n]` along its columns and along its rows.

    Args:
        source: `[N, C, H, W]`.
        weights: float32 `[N, K]`, K odd.
        border: What is read beyond the edge; `Border.FILL` is 0.
        threads: Of the call; None takes as many as the work is worth.
    """
    out = np.empty_like(source)
    _core.blur(source, weights, str(border), out, threads)
    return out


def blur_adjoint(
    gradient: FloatArray, weights: FloatArray, *, border: Border = Border.FILL, threads: int | None = None
) -> FloatArray:
    """The gradient with respect to `blur`'s source, from the gradient with respect to its result."""
    out = np.empty_like(gradient)
    _core.blur_adjoint(gradient, weights, str(border), out, threads)
    return out
