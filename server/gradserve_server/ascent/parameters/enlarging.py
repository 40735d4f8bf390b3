"""Pictures enlarged linearly along every axis, and the adjoint.

Samples lie at the middle of their cells; beyond the edge the nearest goes on. torch.nn.functional.interpolate does so
without `align_corners`, along at most three axes.
"""

from math import prod

import numpy as np
import numpy.typing as npt

from gradserve_server.ascent.transforms.geometry import Plane, resized
from gradserve_server.kernels import Border, warp, warp_adjoint

Float32 = npt.NDArray[np.float32]
Sizes = tuple[int, ...]


def enlarged(part: Float32, larger: Sizes) -> Float32:
    """[N, C, *sizes] to [N, C, *larger]; the same array where these are equal."""
    count, channels, *sizes = part.shape
    if tuple(sizes) == larger:
        return part
    for old, new in _passes(tuple(sizes), larger):
        part = warp(part.reshape(count, -1, *old), _maps(old, new, count), new, border=Border.EDGE)
    return part.reshape(count, channels, *larger)


def enlarged_back(gradient: Float32, sizes: Sizes, larger: Sizes) -> Float32:
    """The adjoint: [N, C, *larger], of whatever shape, to [N, C, *sizes] likewise; the same array where these are equal."""
    if sizes == larger:
        return gradient
    count = len(gradient)
    for old, new in reversed(_passes(sizes, larger)):
        gradient = warp_adjoint(gradient.reshape(count, -1, *new), _maps(old, new, count), old, border=Border.EDGE)
    return gradient


def _passes(sizes: Sizes, larger: Sizes) -> list[tuple[Plane, Plane]]:
    """How planes are enlarged, one pass after the other.

    First along the last two axes, then along each one before them, as the rows of a plane whose columns are all after it.
    """
    (height, width), (taller, wider) = (1, *sizes)[-2:], (1, *larger)[-2:]
    passes = [((height, width), (taller, wider))]
    for axis in reversed(range(len(sizes) - 2)):
        after = prod(larger[axis + 1 :])
        passes.append(((sizes[axis], after), (larger[axis], after)))
    return passes


def _maps(size: Plane, larger: Plane, count: int) -> npt.NDArray[np.float64]:
    return np.repeat(np.array([resized(size, larger).rows]), count, axis=0)
