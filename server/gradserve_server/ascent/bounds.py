"""Where the values of an image must stay: one pair of numbers, or a pair for each channel or each value."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve import ImageDescription
from gradserve.errors import InvalidAscent
from gradserve_server.ascent.pixels import PixelSpace
from gradserve_server.ascent.ranges import LARGEST
from gradserve_server.ascent.transforms.geometry import Bound

Bounds = tuple[Bound, Bound]


def checked_bounds(given: Any, image: ImageDescription | None, space: PixelSpace) -> Bounds:
    """The lower and the upper bound; where none are given the described range, else none.

    Two numbers must differ. Of arrays the lower may equal the upper: such a value never changes.

    Args:
        given: None, or two numbers or arrays, which broadcast to one image as the model takes it.
        image: Its description.
        space: Of the image.

    Raises:
        InvalidAscent: They are something else.
    """
    if given is None:
        return (image.low, image.high) if image is not None else (-math.inf, math.inf)
    try:
        low, high = (np.asarray(bound, np.float64) for bound in given)
    except (TypeError, ValueError) as error:
        msg = f"bounds: expected two numbers or arrays, got {given!r}"
        raise InvalidAscent(msg) from error
    for bound in (low, high):
        if not ((np.abs(bound) <= LARGEST) | np.isinf(bound)).all():
            msg = f"bounds: expected numbers that float32 holds, or infinity, got {_told(low)} and {_told(high)}"
            raise InvalidAscent(msg)
    lower, upper = _planar(low, space), _planar(high, space)
    if not np.all(np.less(lower, upper) if low.ndim == high.ndim == 0 else np.less_equal(lower, upper)):
        msg = f"bounds: expected the smaller first, got {_told(low)} and {_told(high)}"
        raise InvalidAscent(msg)
    return lower, upper


def _planar(bound: npt.NDArray[np.float64], space: PixelSpace) -> Bound:
    """A number, or [C, H, W]; [C, 1, 1] where it differs between channels only."""
    if bound.ndim == 0:
        return float(bound)
    shape = space.model_shape
    if not _fits(bound.shape, shape):
        msg = f"bounds: expected numbers, or arrays that broadcast to {list(shape)}, got {_told(bound)}"
        raise InvalidAscent(msg)
    whole = bound.reshape((1,) * (len(shape) - bound.ndim) + bound.shape).astype(np.float32)
    if len(space.sizes) == len(shape):
        whole = whole[np.newaxis]
    elif space.layout == "NHWC":
        whole = np.moveaxis(whole, -1, 0)
    channels, *sizes = whole.shape
    if set(sizes) == {1}:
        return whole.reshape(channels, 1, 1)
    return np.broadcast_to(whole, (channels, *space.sizes)).reshape(channels, *space.planar_shape[1:])


def _fits(given: Sequence[int], shape: Sequence[int]) -> bool:
    try:
        return np.broadcast_shapes(tuple(given), tuple(shape)) == tuple(shape)
    except ValueError:
        return False


def _told(bound: npt.NDArray[np.float64]) -> str:
    return str(float(bound)) if bound.ndim == 0 else f"an array {list(bound.shape)}"
