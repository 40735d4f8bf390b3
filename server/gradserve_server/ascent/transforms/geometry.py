"""What a transform does once its numbers are drawn: one resampling, blur or addition, with its adjoint.

A map sends a pixel (y, x) of the result to the position (v, u) that it looks at: (v, u) = matrix (y, x, 1).

All of it is for many images in many steps at once: what differs between them is an array with an entry for each, all else a
number.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, pi
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gradserve import transforms as T
from gradserve.errors import InvalidAscent
from gradserve.transforms import Alignment, JitterKind
from gradserve_server.kernels import Border

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Number = Any
"""A number, or an array of one for each image: type checkers cannot tell what is computed of both."""
Row = tuple[Number, Number, Number]
Rows = tuple[Row, Row]
"""A matrix [2, 3]."""
Linear = tuple[tuple[Number, Number], tuple[Number, Number]]
"""A matrix [2, 2]."""
Side = Any
"""The same of whole numbers."""
Size = tuple[Side, Side]
Plane = tuple[int, int]
"""A size that is the same for all."""
Bound = float | npt.NDArray[np.float32]
"""Of all values, or [C, H, W] with sizes of 1 where it is the same along an axis."""

FARTHEST = 1e9
"""Pixels from the first one to where a map may look: as the kernel has it."""

LARGEST = 2**31
"""Of a side that is computed: more than any image may have."""


class Map(NamedTuple):
    """A resampling."""

    rows: Rows
    source: Size
    size: Size
    border: Any
    """A `Border`, or an array of them."""
    fill: Number = 0.0

    @property
    def is_near(self) -> Any:
        """Whether its positions are some, and not so far away that they could not be counted."""
        down, right = self.size
        first, second = (abs(a) * down + abs(b) * right + abs(c) <= FARTHEST for a, b, c in self.rows)
        return first & second

    @property
    def stays_inside(self) -> Any:
        """Whether no position lies beyond the source's outermost pixels, whose centres are half a pixel from the edge."""
        # An affine map is furthest out at a corner.
        down, right = self.size[0] - 1, self.size[1] - 1
        inside: Any = True
        for (y, x, one), side in zip(self.rows, self.source, strict=True):
            lowest = one + np.minimum(y * down, 0.0) + np.minimum(x * right, 0.0)
            highest = one + np.maximum(y * down, 0.0) + np.maximum(x * right, 0.0)
            inside = inside & (lowest >= -0.5) & (highest <= side - 0.5)
        return inside

    def then(self, after: "Map") -> "tuple[Map, Any]":
        """Both at once; and where that may be, because it reads no other pixels beyond an edge."""
        (a, b, c), (d, e, f) = after.rows
        (p, q, r), (s, t, u) = self.rows
        rows = (p * a + q * d, p * b + q * e, p * c + q * f + r), (s * a + t * d, s * b + t * e, s * c + t * f + u)
        both = Map(rows, self.source, after.size, self.border, self.fill)
        are_filled = (self.border == Border.FILL) & (after.border == Border.FILL)
        return both, (are_filled | after.stays_inside) & both.is_near

    def where(self, whose: Mask, other: "Map") -> "Map":
        """This one for some, another for the rest."""
        if whose.all():
            return self
        if not whose.any():
            return other
        pairs = zip((*self.rows, self.source, self.size), (*other.rows, other.source, other.size), strict=True)
        first, second, source, size = (tuple(chosen(whose, a, b) for a, b in zip(*pair, strict=True)) for pair in pairs)
        border, fill = chosen(whose, self.border, other.border), chosen(whose, self.fill, other.fill)
        return Map((first, second), source, size, border, fill)


def chosen(whose: Mask, one: Any, other: Any) -> Any:
    """One for some, the other for the rest; the number itself where both are the same."""
    are_numbers = not (isinstance(one, np.ndarray) or isinstance(other, np.ndarray))
    return one if one is other or (are_numbers and one == other) else np.where(whose, one, other)


@dataclass(frozen=True)
class Smoothing:
    """A convolution with the same weights along both axes."""

    weights: npt.NDArray[np.float32]
    """[images, 2 radius + 1]."""
    border: Border

    def of(self, members: Any) -> "Smoothing":
        """That of some of the images, by a slice or by their numbers."""
        return Smoothing(self.weights[members], self.border)


Arrays = Callable[[tuple[int, ...]], tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]


@dataclass(frozen=True)
class Roll:
    """A shift by whole pixels along every axis, with wrap-around, of what is no image."""

    sizes: tuple[int, ...]
    shifts: Whole
    """[images, axes]."""

    def of(self, members: Any) -> "Roll":
        """See `Smoothing`."""
        return Roll(self.sizes, self.shifts[members])


@dataclass(frozen=True, eq=False)
class Addition:
    """Noise, drawn when it is added: its numbers are too many to be drawn ahead."""

    standard_deviation: Bound
    half_width: Bound
    draws: npt.NDArray[np.object_]
    """Of each image: from a shape to a standard normal array, and one that is even over [-1, 1)."""

    def of(self, members: Any) -> "Addition":
        """See `Smoothing`."""
        return Addition(self.standard_deviation, self.half_width, self.draws[members])


Operation = Map | Smoothing | Roll | Addition


@dataclass(frozen=True, eq=False)
class Range:
    """Of the pixels."""

    low: Bound
    high: Bound

    @cached_property
    def middle(self) -> Bound:
        """Where there is no range, 0."""
        middle: Bound = self._finite(lambda low, high: (low + high) / 2, 0.0)
        return middle

    @cached_property
    def width(self) -> Bound:
        """Where there is no range, 1."""
        width: Bound = self._finite(lambda low, high: high - low, 1.0)
        return width

    def _finite(self, formula: Callable[[Any, Any], Any], otherwise: float) -> Any:
        if not (isinstance(self.low, np.ndarray) or isinstance(self.high, np.ndarray)):
            return formula(self.low, self.high) if isfinite(self.low) and isfinite(self.high) else otherwise
        bounded = np.isfinite(self.low) & np.isfinite(self.high)
        low, high = (np.where(bounded, bound, 0) for bound in (self.low, self.high))
        return np.where(bounded, formula(low, high), otherwise).astype(np.float32)


def _moved(size: Size, new: Size, down: Number, right: Number, border: Border, fill: float) -> Map:
    """A window of size `new` whose first pixel is (down, right)."""
    return Map(((1.0, 0.0, down), (0.0, 1.0, right)), size, new, border, fill)


def _pad(pad: T.Pad, _: Sequence[Floats], size: Size, pixels: Range) -> Operation:
    new = size[0] + 2 * pad.size, size[1] + 2 * pad.size
    return _moved(size, new, -pad.size, -pad.size, Border(pad.border), _colour(pad.fill, pixels))


def _jitter(jitter: T.Jitter, drawn: Sequence[Floats], size: Size, pixels: Range) -> Operation:
    down, right = (np.floor(number * (_reach(jitter) + 1)) for number in drawn)
    if jitter.kind is JitterKind.CROP:
        new = size[0] - jitter.size, size[1] - jitter.size
        return _moved(size, new, down, right, Border.FILL, 0.0)
    border = Border.WRAP if jitter.kind is JitterKind.ROLL else Border.FILL
    return _moved(size, size, jitter.size - down, jitter.size - right, border, _colour(jitter.fill, pixels))


def _reach(jitter: T.Jitter) -> int:
    return jitter.size if jitter.kind is JitterKind.CROP else 2 * jitter.size


def _scale(scale: T.Scale, drawn: Sequence[Floats], size: Size, _: Range) -> Operation:
    rows, columns = (np.clip(side * drawn[0], 1, LARGEST).astype(int) for side in size)
    return resized(size, (rows, columns), scale.alignment)


def _rotate(rotate: T.Rotate, drawn: Sequence[Floats], size: Size, pixels: Range) -> Operation:
    return _around_centre(size, _rotation(drawn[0]), (0.0, 0.0), Border.FILL, _colour(rotate.fill, pixels))


def _affine(affine: T.Affine, drawn: Sequence[Floats], size: Size, pixels: Range) -> Operation:
    scale, shear, degrees, down, right = drawn
    # From the result back to the source: not moved, not rotated, not sheared, not enlarged.
    lean, ((a, b), (c, d)) = np.tan(_radians(shear)), _rotation(degrees)
    # Where the scale is 0, what comes of it is not finite, and refused.
    linear = (a / scale, b / scale), ((lean * a + c) / scale, (lean * b + d) / scale)
    return _around_centre(size, linear, (down, right), Border(affine.border), _colour(affine.fill, pixels))


def _rotation(degrees: Floats) -> Linear:
    """From a result that is turned counterclockwise (rows count downwards) back to its source."""
    angle = _radians(degrees)
    return (np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))


def _radians(degrees: Floats) -> Floats:
    """Of any finite number: a multiple of it may be none."""
    return np.fmod(degrees, 360.0) * pi / 180


def _around_centre(size: Size, linear: Linear, moved: tuple[Number, Number], border: Border, fill: float) -> Map:
    centre = (size[0] - 1) / 2, (size[1] - 1) / 2
    down, right = centre[0] + moved[0], centre[1] + moved[1]
    (a, b), (c, d) = linear
    rows = (a, b, centre[0] - (a * down + b * right)), (c, d, centre[1] - (c * down + d * right))
    return Map(rows, size, size, border, fill)


def _crop(crop: T.Crop, _: Sequence[Floats], size: Size, pixels: Range) -> Operation:
    # As in tf.image.resize_image_with_crop_or_pad: half of what is too much, or too little, rounded down.
    new = crop.height, crop.width
    down, right = (np.sign(more) * (abs(more) // 2) for more in (size[0] - new[0], size[1] - new[1]))
    return _moved(size, new, down, right, Border.FILL, _colour(crop.fill, pixels))


def _random_crop(crop: T.RandomCrop, drawn: Sequence[Floats], size: Size, pixels: Range) -> Operation:
    side, *centre = drawn
    # Half-pixel alignment of a window from (centre - side / 2) size on.
    down, right = ((where - side / 2) * length + side / 2 - 0.5 for where, length in zip(centre, size, strict=True))
    return Map(((side, 0.0, down), (0.0, side, right)), size, size, Border.FILL, _colour(crop.fill, pixels))


def _resize(resize: T.Resize, _: Sequence[Floats], size: Size, __: Range) -> Operation:
    return resized(size, (resize.height, resize.width), resize.alignment)


def resized(size: Size, new: Size, alignment: Alignment = Alignment.HALF_PIXEL) -> Map:
    """To another size; beyond the edge the nearest pixel."""
    align = _ALIGNED[alignment]
    (a, down), (b, right) = align(size[0], new[0]), align(size[1], new[1])
    return Map(((a, 0.0, down), (0.0, b, right)), size, new, Border.EDGE)


_ALIGNED: dict[Alignment, Callable[[Side, Side], tuple[Number, Number]]] = {
    Alignment.HALF_PIXEL: lambda old, new: (old / new, old / new / 2 - 0.5),
    Alignment.CORNERS: lambda old, new: ((old - 1) / np.maximum(new - 1, 1), 0.0),
    Alignment.ASYMMETRIC: lambda old, new: (old / new, 0.0),
}


def _flip(flip: T.Flip, drawn: Sequence[Floats], size: Size, _: Range) -> Operation:
    flipped = drawn[0] < flip.probability
    columns = 0.0, np.where(flipped, -1.0, 1.0), np.where(flipped, size[1] - 1, 0.0)
    return Map(((1.0, 0.0, 0.0), columns), size, size, Border.FILL)


def _blur(blur: T.Blur, drawn: Sequence[Floats], _: Size, __: Range) -> Operation:
    distance = np.arange(-blur.radius, blur.radius + 1)
    sigma = np.maximum(drawn[0], 1e-6)[:, None]
    weights = np.exp(-np.square(distance / sigma) / 2)
    return Smoothing((weights / weights.sum(axis=1, keepdims=True)).astype(np.float32), Border(blur.border))


def noisy(noise: T.Noisy, pixels: Range, draws: npt.NDArray[np.object_]) -> Addition:
    """The noise of each image by its own numbers."""
    return Addition(noise.standard_deviation * pixels.width, noise.half_width * pixels.width, draws)


def roll(jitter: T.Jitter, drawn: Sequence[Floats], sizes: tuple[int, ...]) -> Roll:
    """A jitter of what is no image: by up to its size each way, along every axis."""
    return Roll(sizes, np.stack([np.floor(number * (2 * jitter.size + 1)) - jitter.size for number in drawn], 1).astype(int))


def _colour(fill: float | None, pixels: Range) -> float:
    colour = pixels.middle if fill is None else fill
    if isinstance(colour, np.ndarray):
        msg = "transforms: expected each that fills to have a fill, because bounds are arrays, got none"
        raise InvalidAscent(msg)
    return colour


OPERATIONS: dict[type[Any], Callable[[Any, Sequence[Floats], Size, Range], Operation]] = {
    T.Pad: _pad,
    T.Jitter: _jitter,
    T.Scale: _scale,
    T.Rotate: _rotate,
    T.Affine: _affine,
    T.Crop: _crop,
    T.RandomCrop: _random_crop,
    T.Resize: _resize,
    T.Flip: _flip,
    T.Blur: _blur,
}
"""All but `noisy`: from a transform, the numbers drawn for it (`draws.SPREADS`), the size of the image before it, and the
range of its pixels."""
