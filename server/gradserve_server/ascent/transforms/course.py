"""What becomes of all images in some steps: numpy takes about as long for one as for hundreds.

Every image in every step has its entry in each array. Where they differ in what is done to them, because some maps become
one and others do not, or some have the model's size already, an operation says whose it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

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
    chosen,
    noisy,
    resized,
    roll,
)

_IMAGE_AXES = 2

MAX_PIXELS = 2**30
"""Of an image on its way, whatever its memory: what int32 counts, and room for a frame."""


AT_ONCE = 512
"""Images in steps that are planned together: enough to pay, few enough that an ascent soon hears that it shall end."""


class Planned(NamedTuple):
    """An operation."""

    operation: Operation
    whose: Mask
    """Those that it is done to, [steps * count]: image i in step s is number s * count + i."""


class Course:
    """What becomes of the images in some steps.

    Args:
        entries: How many: steps times images.
        size: Of an image.
        fuse: Whether neighbouring maps become one where that reads the same pixels.

    Attributes:
        size: Where they are by now.
        operations: What is done to them, in order, once `end` was called.
        errors: By entry: what is wrong with what was drawn for it. What becomes of it from there on means nothing.
    """

    def __init__(self, entries: int, size: Size, *, fuse: bool) -> None:
        self.size, self.operations, self.errors = size, list[Planned](), dict[int, GradserveError]()
        self._fuse, self._all = fuse, np.ones(entries, bool)
        self._last: Map | None = None
        """Yet to be done."""
        self._whose = self._all
        """To those."""

    @property
    def is_lost(self) -> bool:
        """Whether something is wrong with all of them."""
        return len(self.errors) == len(self._all)

    def map(self, one: Map, whose: Mask | None = None) -> None:
        """Adds a map: of all, or, as the last one, of some."""
        if whose is None:
            whose, self.size = self._all, one.size
        else:
            down, right = (chosen(whose, new, old) for new, old in zip(one.size, self.size, strict=True))
            self.size = down, right
        if self._last is None:
            self._last, self._whose = one, whose
            return
        both, fits = self._last.then(one)
        fits = whose & fits & self._fuse
        self._done(self._last, whose & ~fits)
        self._last = both.where(fits, one).where(whose, self._last)

    def add(self, one: Operation) -> None:
        """Adds what is no map."""
        self.end()
        self._done(one, self._all)

    def end(self) -> None:
        """Nothing follows the last map."""
        if self._last is not None:
            self._done(self._last, self._whose)
        self._last = None

    def wrong(self, whose: Mask, error: Callable[[int], GradserveError]) -> None:
        """Notes what is wrong with some: the first that is."""
        for entry in np.flatnonzero(whose).tolist():
            if entry not in self.errors:
                self.errors[entry] = error(entry)

    def _done(self, one: Operation, whose: Mask) -> None:
        if whose.any():
            self.operations.append(Planned(one, whose))


class Courses:
    """Plans the courses of the images of one ascent: see `view.Views`.

    Attributes:
        steps: Of a course: as many as numbers are drawn for, halved until there are few images in them.
    """

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
        self.steps = STEPS_DRAWN
        while self.steps > 1 and self.steps * count > AT_ONCE:
            self.steps //= 2
        self._block, self._drawn = -1, list[Floats]()

    @np.errstate(all="ignore")  # what overflows is found by what comes of it
    def of(self, number: int) -> Course:
        """That of the steps from `number * steps` on."""
        first = number * self.steps
        block, skipped = divmod(first, STEPS_DRAWN)
        if block != self._block:
            self._block, self._drawn = block, self._draw(block)
        course = Course(self.steps * self._count, self._size, fuse=self._fuse)
        for transform, draws, all_drawn in zip(self._transforms, self._draws, self._drawn, strict=True):
            drawn = all_drawn[skipped : skipped + self.steps].reshape(self.steps * self._count, -1)
            self._plan(course, transform, drawn, draws, first)
            if course.is_lost:
                return course
        if (others := self._differ(course.size, self._target)).any():
            course.map(resized(course.size, self._target), others)
        course.end()
        return course

    def _differ(self, size: Size, other: Plane) -> Mask:
        """Whose size is another one."""
        return np.broadcast_to((size[0] != other[0]) | (size[1] != other[1]), self.steps * self._count)

    def _plan(self, course: Course, transform: Transform, drawn: Floats, draws: Sequence[Draws], first: int) -> None:
        if isinstance(transform, Noisy):
            self._check_noise(course, transform)
            course.add(noisy(transform, self._pixels, self._noise(draws, first)))
        elif self._is_rolled and isinstance(transform, Jitter):
            course.add(roll(transform, list(drawn.T), self._sizes))
        else:
            one = OPERATIONS[type(transform)](transform, list(drawn.T), course.size, self._pixels)
            self._check(course, transform, drawn, one)
            if isinstance(one, Map):
                course.map(one)
            else:
                course.add(one)

    def _check(self, course: Course, transform: Transform, drawn: Floats, one: Operation) -> None:
        wrong: Any = ~np.isfinite(drawn).all(axis=1)
        if isinstance(one, Map):
            down, right = one.size
            wrong |= (np.minimum(down, right) < 1) | (down * right > self._max_pixels) | np.logical_not(one.is_near)
        if wrong.any():
            course.wrong(wrong, _Told(transform, drawn, one, self._max_pixels).error)

    def _check_noise(self, course: Course, transform: Noisy) -> None:
        """A width of its own for each value is of values that are where they were."""
        width, size = self._pixels.width, course.size
        if isinstance(width, np.ndarray) and width.shape[1:] != (1, 1):
            msg = f"transforms: {transform}: expected an image of its first size, because bounds are arrays, got {{}}"
            course.wrong(self._differ(size, self._size), lambda entry: InvalidAscent(msg.format(_size(size, entry))))

    def _draw(self, block: int) -> list[Floats]:
        """All numbers of a block: for each transform, [STEPS_DRAWN, count, numbers]."""
        progress = [self._progress(STEPS_DRAWN * block + step) for step in range(STEPS_DRAWN)]
        return [np.stack([one.block(block, progress) for one in draws], axis=1) for draws in self._draws]

    def _noise(self, draws: Sequence[Draws], first: int) -> npt.NDArray[np.object_]:
        made = np.empty(self.steps * self._count, object)
        for entry in range(len(made)):
            step, image = divmod(entry, self._count)
            made[entry] = partial(draws[image].arrays, first + step)
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
    """What is wrong with what was drawn."""

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


def _size(size: Size, one: int) -> list[int]:
    return [int(side[one] if isinstance(side, np.ndarray) else side) for side in size]
