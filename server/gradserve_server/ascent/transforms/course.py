"""What becomes of all images in a block of steps: numpy takes about as long for one as for hundreds.

Images of steps that go the same way share a path. A path is split where they part: where some maps become one and others do
not, and where some have the model's size and others must be resized.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve.errors import GradserveError, InvalidAscent, TooLarge
from gradserve.numbers import Spread
from gradserve.transforms import Jitter, Noisy, Transform
from gradserve_server.ascent.transforms.draws import FIRST_PURPOSE, SPREADS, STEPS_DRAWN, Draws, shifts, stream
from gradserve_server.ascent.transforms.geometry import (
    OPERATIONS,
    Floats,
    Map,
    Mask,
    Operation,
    Plane,
    Range,
    Size,
    noisy,
    resized,
    roll,
)

Indices = npt.NDArray[np.int64]

_IMAGE_AXES = 2

MAX_PIXELS = 2**30
"""Of an image on its way, whatever its memory: what int32 counts, and room for a frame."""


@dataclass(frozen=True)
class Path:
    """Images of steps that go the same way."""

    members: Indices
    """Number `step * count + image` within the block, ascending."""
    size: Size
    """Where they are now."""
    operations: tuple[Operation, ...] = ()
    """On the way so far."""

    def of(self, some: Mask) -> "Path":
        """A part of it."""
        size = tuple(side[some] if isinstance(side, np.ndarray) else side for side in self.size)
        return Path(self.members[some], (size[0], size[1]), tuple(one.of(some) for one in self.operations))

    def split(self, some: Any) -> "tuple[Path | None, Path | None]":
        """Those that a mask says, or all or none; and the others. None where there are none."""
        if not isinstance(some, np.ndarray) or not some.ndim:
            return (self, None) if some else (None, self)
        if some.all():
            return self, None
        return (self.of(some), self.of(~some)) if some.any() else (None, self)

    def then(self, operation: Operation, *, fuse: bool) -> "Iterator[Path]":
        """It with one operation more; neighbouring maps become one where that reads the same pixels."""
        size = operation.size if isinstance(operation, Map) else self.size
        last = self.operations[-1] if self.operations else None
        if not (fuse and isinstance(last, Map) and isinstance(operation, Map)):
            yield replace(self, size=size, operations=(*self.operations, operation))
            return
        both, fits = last.then(operation)
        fused = replace(self, size=size, operations=(*self.operations[:-1], both))
        apart = replace(self, size=size, operations=(*self.operations, operation))
        one, _ = fused.split(fits)
        _, other = apart.split(fits)
        yield from (path for path in (one, other) if path is not None)


@dataclass
class Course:
    """What becomes of the images in a block of steps."""

    paths: list[Path]
    errors: dict[int, GradserveError] = field(default_factory=dict)
    """By member: what is wrong with what was drawn for it."""


class Courses:
    """Plans the courses of the images of one ascent: see `view.Views`."""

    def __init__(
        self,
        transforms: Sequence[Transform],
        *,
        seed: int,
        count: int,
        sizes: tuple[int, ...],
        target: Plane,
        pixels: Range,
        progress: Callable[[int], float],
        max_pixels: int,
        fuse: bool,
    ) -> None:
        self._transforms, self._count, self._sizes, self._target = transforms, count, sizes, target
        self._pixels, self._progress, self._fuse = pixels, progress, fuse
        self._size = planar(sizes)
        self._max_pixels = min(max_pixels, MAX_PIXELS)
        self._is_rolled = len(sizes) != _IMAGE_AXES
        self._draws = [
            [Draws(self._spreads(transform), stream(seed, image, FIRST_PURPOSE + position)) for image in range(count)]
            for position, transform in enumerate(transforms)
        ]

    @np.errstate(all="ignore")  # what overflows is found by what comes of it
    def of(self, block: int) -> Course:
        """That of the steps from `STEPS_DRAWN * block` on."""
        course = Course([Path(np.arange(STEPS_DRAWN * self._count), self._size)])
        progress = [self._progress(STEPS_DRAWN * block + step) for step in range(STEPS_DRAWN)]
        for transform, draws in zip(self._transforms, self._draws, strict=True):
            drawn = np.stack([one.block(block, progress) for one in draws], axis=1).reshape(STEPS_DRAWN * self._count, -1)
            paths, course.paths = course.paths, []
            for path in paths:
                course.paths += self._after(path, transform, drawn[path.members], draws, block, course.errors)
        course.paths = [path for whole in course.paths for path in self._resized(whole)]
        return course

    def _after(
        self,
        path: Path,
        transform: Transform,
        drawn: Floats,
        draws: Sequence[Draws],
        block: int,
        errors: dict[int, GradserveError],
    ) -> Iterator[Path]:
        if isinstance(transform, Noisy):
            fine, wrong = path.split(self._may_get_noise(path.size))
            if wrong is not None:
                msg = f"transforms: {transform}: expected an image of its first size, because bounds are arrays, got {{}}"
                errors |= _errors(wrong, lambda one: InvalidAscent(msg.format(_size(wrong.size, one))))
            if fine is not None:
                noise = noisy(transform, self._pixels, self._noise(fine.members, draws, block))
                yield from fine.then(noise, fuse=self._fuse)
            return
        if self._is_rolled and isinstance(transform, Jitter):
            yield from path.then(roll(transform, list(drawn.T), self._sizes), fuse=self._fuse)
            return
        operation = OPERATIONS[type(transform)](transform, list(drawn.T), path.size, self._pixels)
        # What was drawn that is no number makes no map: it is found before its size is looked at.
        right: Mask = np.isfinite(drawn).all(axis=1) & self._is_right(operation)
        if not right.all():
            told = _Told(transform, drawn[~right], operation.of(~right), self._max_pixels)
            errors |= _errors(path.of(~right), told.error)
            path, operation = path.of(right), operation.of(right)
        if len(path.members):
            yield from path.then(operation, fuse=self._fuse)

    def _is_right(self, operation: Operation) -> Any:
        if not isinstance(operation, Map):
            return True
        down, right = operation.size
        return (np.minimum(down, right) >= 1) & (down * right <= self._max_pixels) & operation.is_near

    def _resized(self, path: Path) -> Iterator[Path]:
        """Those of the model's size as they are, the others brought to it."""
        done, left = path.split((path.size[0] == self._target[0]) & (path.size[1] == self._target[1]))
        if done is not None:
            yield done
        if left is not None:
            yield from left.then(resized(left.size, self._target), fuse=self._fuse)

    def _may_get_noise(self, size: Size) -> Any:
        """A width of its own for each value is of values that are where they were."""
        width = self._pixels.width
        if not isinstance(width, np.ndarray) or width.shape[1:] == (1, 1):
            return True
        return (size[0] == self._size[0]) & (size[1] == self._size[1])

    def _noise(self, members: Indices, draws: Sequence[Draws], block: int) -> npt.NDArray[np.object_]:
        made = np.empty(len(members), object)
        for at, member in enumerate(members.tolist()):
            step, image = divmod(member, self._count)
            made[at] = partial(draws[image].arrays, STEPS_DRAWN * block + step)
        return made

    def _spreads(self, transform: Transform) -> Sequence[Spread]:
        is_roll = self._is_rolled and isinstance(transform, Jitter)
        return shifts(len(self._sizes)) if is_roll else SPREADS[type(transform)](transform)


def planar(sizes: tuple[int, ...]) -> Plane:
    """Of the plane that a channel is."""
    return int(np.prod(sizes[:-1])), sizes[-1]


# ---- errors ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Told:
    """What is wrong with what was drawn for some images."""

    transform: Transform
    drawn: Floats
    operation: Operation
    max_pixels: int

    def error(self, one: int) -> GradserveError:
        """Of one of them."""
        drawn, operation = self.drawn[one].tolist(), self.operation
        size = _size(operation.size, one) if isinstance(operation, Map) else [1, 1]
        if np.isfinite(drawn).all() and min(size) < 1:
            return InvalidAscent(f"transforms: {self.transform}: expected an image of a pixel or more after it, got {size}")
        if np.isfinite(drawn).all() and size[0] * size[1] > self.max_pixels:
            limit = f"at most {self.max_pixels} pixels of an image after it (max_ascent_mib)"
            return TooLarge(f"transforms: {self.transform}: expected {limit}, got {size}")
        return InvalidAscent(
            f"transforms: {self.transform}: expected numbers that lead to positions near the image, got {drawn}"
        )


def _errors(path: Path, error: Callable[[int], GradserveError]) -> dict[int, GradserveError]:
    return {member: error(one) for one, member in enumerate(path.members.tolist())}


def _size(size: Size, one: int) -> list[int]:
    return [int(side[one] if isinstance(side, np.ndarray) else side) for side in size]
