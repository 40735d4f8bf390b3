"""Images as the model sees them in one step: transformed, and resized to its input; and the exact adjoint of that.

Neighbouring maps are one map wherever that reads the same pixels, so that an affine sequence costs one pass over memory and
is interpolated once. Images that go through the same sizes are worked on together.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache, partial
from math import isfinite, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve.errors import InvalidAscent, TooLarge
from gradserve.numbers import Spread
from gradserve.transforms import Jitter, Noisy, Transform
from gradserve_server.ascent.transforms.draws import FIRST_PURPOSE, SPREADS, Draws, shifts, stream
from gradserve_server.ascent.transforms.geometry import (
    OPERATIONS,
    Addition,
    Map,
    Operation,
    Range,
    Roll,
    Size,
    Smoothing,
    noisy,
    resized,
    roll,
)
from gradserve_server.kernels import blur, blur_adjoint, warp, warp_adjoint

Float32 = npt.NDArray[np.float32]
Stages = list[tuple[Operation, ...]]
"""In order; of each, the operation for every image of a group."""
Table = dict[type[Any], Callable[[Float32, Any], Float32]]

_IMAGE_AXES = 2

FIXED = 1024
"""Operations without random numbers that are kept."""

MAX_PIXELS = 2**30
"""Of an image on its way, whatever its memory: what int32 counts, and room for a frame."""


class Views:
    """What a sequence of transforms makes of the images of one ascent.

    Args:
        transforms: In order.
        seed: Of the ascent.
        count: Its images.
        sizes: Of an image: two. Of what is no image, which is only rolled and gets noise: any number.
        target: Of the model's input, the same number.
        pixels: Their range.
        max_pixels: Of an image on its way.
        fuse: Whether neighbouring maps become one. Without, each interpolates anew, as in the libraries that came before.

    Raises:
        InvalidAscent: An image would become smaller than a pixel, or be looked at from too far away.
        TooLarge: An image would become larger than it may be.
    """

    def __init__(
        self,
        transforms: Sequence[Transform],
        *,
        seed: int,
        count: int,
        sizes: tuple[int, ...],
        target: tuple[int, ...],
        pixels: Range,
        max_pixels: int = MAX_PIXELS,
        fuse: bool = True,
    ) -> None:
        self._transforms, self._pixels, self._fuse = transforms, pixels, fuse
        self._sizes, (self._size, self._target) = sizes, (planar(sizes), planar(target))
        self._is_rolled, self._max_pixels = len(sizes) != _IMAGE_AXES, min(max_pixels, MAX_PIXELS)
        # Of a transform that draws no numbers: a step may have each size of a scaled image again.
        self._fixed = lru_cache(FIXED)(self._operation)
        self._draws = [
            [
                Draws(self._spreads(transform), stream(seed, image, FIRST_PURPOSE + position))
                for position, transform in enumerate(transforms)
            ]
            for image in range(count)
        ]
        self._plain: list[list[Operation]] = [
            [resized(self._size, self._target)] if sizes != target else [] for _ in range(count)
        ]
        self.at(0, 0.0)  # to find out now what is too small or too large

    def plain(self) -> "View":
        """Without transforms: only resized."""
        return View(self._plain)

    def at(self, index: int, progress: float) -> "View":
        """That of a step.

        Args:
            index: Of the step.
            progress: The share of the steps before it.

        Raises:
            InvalidAscent: As at the start, of numbers that are drawn for this step.
            TooLarge: The same.
        """
        with np.errstate(all="ignore"):  # what overflows is found by what comes of it
            return View([self._operations(draws, index, progress) for draws in self._draws])

    def _operations(self, draws: Sequence[Draws], index: int, progress: float) -> list[Operation]:
        size, operations = self._size, list[Operation]()
        for position, (transform, numbers) in enumerate(zip(self._transforms, draws, strict=True)):
            if isinstance(transform, Noisy):
                self._check_noise(transform, size)
                operations.append(noisy(transform, self._pixels, partial(numbers.arrays, index)))
                continue
            drawn = numbers.at(index, progress)
            if self._is_rolled and isinstance(transform, Jitter):
                operations.append(roll(transform, drawn, self._sizes))
                continue
            operation = self._operation(position, size, drawn) if drawn else self._fixed(position, size)
            if isinstance(operation, Map):
                size = operation.size
            self._append(operations, operation)
        if size != self._target:
            self._append(operations, resized(size, self._target))
        return operations

    def _operation(self, position: int, size: Size, drawn: Sequence[float] = ()) -> Operation:
        """What a transform does, once its numbers are drawn, to an image of some size."""
        transform = self._transforms[position]
        if not all(map(isfinite, drawn)):
            raise _far(transform, drawn)
        operation = OPERATIONS[type(transform)](transform, drawn, size, self._pixels)
        if isinstance(operation, Map):
            self._check(transform, drawn, operation)
        return operation

    def _spreads(self, transform: Transform) -> Sequence[Spread]:
        is_roll = self._is_rolled and isinstance(transform, Jitter)
        return shifts(len(self._sizes)) if is_roll else SPREADS[type(transform)](transform)

    def _check_noise(self, transform: Transform, size: Size) -> None:
        """A width of its own for each value is of values that are where they were."""
        width = self._pixels.width
        if isinstance(width, np.ndarray) and width.shape[1:] != (1, 1) and size != self._size:
            msg = f"transforms: {transform}: expected an image of its first size, because bounds are arrays, got {size}"
            raise InvalidAscent(msg)

    def _check(self, transform: Transform, drawn: Sequence[float], one: Map) -> None:
        if min(one.size) < 1:
            msg = f"transforms: {transform}: expected an image of a pixel or more after it, got {list(one.size)}"
            raise InvalidAscent(msg)
        if prod(one.size) > self._max_pixels:
            limit = f"at most {self._max_pixels} pixels of an image after it (max_ascent_mib)"
            msg = f"transforms: {transform}: expected {limit}, got {list(one.size)}"
            raise TooLarge(msg)
        if not one.is_near:
            raise _far(transform, drawn)

    def _append(self, operations: list[Operation], operation: Operation) -> None:
        last = operations[-1] if operations else None
        if self._fuse and isinstance(last, Map) and isinstance(operation, Map) and (both := last.then(operation)):
            operations[-1] = both
        else:
            operations.append(operation)


class View:
    """What one step does to the images.

    Args:
        rows: The operations on each image, in order.
    """

    def __init__(self, rows: Sequence[Sequence[Operation]]) -> None:
        self._parts = [([n for n, _ in part], _stages([row for _, row in part])) for part in _alike(rows)]
        self._count = len(rows)

    def forward(self, images: Float32) -> Float32:
        """The images as the model's input has them: [N, C, H, W] to [N, C, *target]."""
        return self._each(images, lambda stages: stages, FORWARD)

    def adjoint(self, gradient: Float32) -> Float32:
        """The gradient with respect to the images, from that with respect to the model's input."""
        return self._each(gradient, lambda stages: stages[::-1], ADJOINT)

    def _each(self, images: Float32, order: Callable[[Stages], Stages], table: Table) -> Float32:
        done = []
        for members, stages in self._parts:
            part = images if len(self._parts) == 1 else images[members]
            for stage in order(stages):
                part = table[type(stage[0])](part, stage)
            done.append(part)
        if len(done) == 1:
            return done[0]
        result = np.empty((self._count, *done[0].shape[1:]), np.float32)
        for (members, _), part in zip(self._parts, done, strict=True):
            result[members] = part
        return result


def _far(transform: Transform, drawn: Sequence[float]) -> InvalidAscent:
    return InvalidAscent(f"transforms: {transform}: expected numbers that lead to positions near the image, got {drawn}")


def _alike(rows: Sequence[Sequence[Operation]]) -> list[list[tuple[int, Sequence[Operation]]]]:
    """The images in groups for each of which one call does an operation for all."""
    if len(rows) == 1:
        return [[(0, rows[0])]]
    groups: dict[Hashable, list[tuple[int, Sequence[Operation]]]] = {}
    for n, row in enumerate(rows):
        groups.setdefault(tuple(map(_kind, row)), []).append((n, row))
    return list(groups.values())


def _stages(rows: Sequence[Sequence[Operation]]) -> Stages:
    return list(zip(*rows, strict=True))


def _kind(operation: Operation) -> Hashable:
    match operation:
        case Map():
            return operation.source, operation.size, operation.border, operation.fill
        case Smoothing():
            return operation.border
        case Roll():
            return operation.sizes
        case Addition():
            return Addition


# ---- the operations, on all images of a group at once ----------------------------------------------------------------


def _warp(images: Float32, maps: Sequence[Map]) -> Float32:
    one = maps[0]
    return warp(images, _matrices(maps), one.size, border=one.border, fill=one.fill)


def _warp_adjoint(gradient: Float32, maps: Sequence[Map]) -> Float32:
    return warp_adjoint(gradient, _matrices(maps), maps[0].source, border=maps[0].border)


def _matrices(maps: Sequence[Map]) -> npt.NDArray[np.float64]:
    return np.array([one.rows for one in maps], np.float64)


def _smooth(images: Float32, stage: Sequence[Smoothing]) -> Float32:
    return blur(images, np.stack([one.weights for one in stage]), border=stage[0].border)


def _smooth_adjoint(gradient: Float32, stage: Sequence[Smoothing]) -> Float32:
    return blur_adjoint(gradient, np.stack([one.weights for one in stage]), border=stage[0].border)


def _roll(images: Float32, stage: Sequence[Roll]) -> Float32:
    return _rolled(images, [one.shifts for one in stage], stage[0].sizes)


def _roll_adjoint(gradient: Float32, stage: Sequence[Roll]) -> Float32:
    return _rolled(gradient, [tuple(-shift for shift in one.shifts) for one in stage], stage[0].sizes)


def _rolled(images: Float32, moved: Sequence[tuple[int, ...]], sizes: tuple[int, ...]) -> Float32:
    whole = images.reshape(*images.shape[:2], *sizes)
    axes = tuple(range(1, len(sizes) + 1))
    return np.stack([np.roll(image, shift, axes) for image, shift in zip(whole, moved, strict=True)]).reshape(images.shape)


def _add(images: Float32, stage: Sequence[Addition]) -> Float32:
    noisy_ones = images.copy()
    for image, one in zip(noisy_ones, stage, strict=True):
        normal, even = one.draw(image.shape)
        np.add(image, normal * np.float32(one.standard_deviation) + even * np.float32(one.half_width), out=image)
    return noisy_ones


def _add_adjoint(gradient: Float32, stage: Sequence[Addition]) -> Float32:  # noqa: ARG001
    return gradient  # what is added does not depend on the image


def planar(sizes: tuple[int, ...]) -> Size:
    """Of the plane that a channel is."""
    return prod(sizes[:-1]), sizes[-1]


FORWARD: Table = {Map: _warp, Smoothing: _smooth, Roll: _roll, Addition: _add}
ADJOINT: Table = {Map: _warp_adjoint, Smoothing: _smooth_adjoint, Roll: _roll_adjoint, Addition: _add_adjoint}
