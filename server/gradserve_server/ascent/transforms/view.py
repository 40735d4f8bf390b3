"""Images as the model sees them in one step: transformed, and resized to its input; and the exact adjoint of that.

Neighbouring maps are one map wherever that reads the same pixels, so that an affine sequence costs one pass over memory and
is interpolated once. Images that go through the same sizes are worked on together.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gradserve.transforms import Transform
from gradserve_server.ascent.transforms.course import MAX_PIXELS, Course, Courses, Planned, planar
from gradserve_server.ascent.transforms.geometry import (
    Addition,
    Map,
    Operation,
    Plane,
    Range,
    Roll,
    Smoothing,
    resized,
)
from gradserve_server.kernels import Border, blur, blur_adjoint, warp, warp_adjoint

Float32 = npt.NDArray[np.float32]


class Views:
    """What a sequence of transforms makes of the images of one ascent.

    Args:
        transforms: In order.
        seed: Of the ascent.
        count: Its images.
        sizes: Of an image: two. Of what is no image, which is only rolled and gets noise: any number.
        target: Of the model's input, the same number.
        pixels: Their range.
        progress: Of a step: the share of the steps before it.
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
        progress: Callable[[int], float] = lambda _: 0.0,
        max_pixels: int = MAX_PIXELS,
        fuse: bool = True,
    ) -> None:
        self._count = count
        self._courses = Courses(
            transforms,
            seed=seed,
            count=count,
            sizes=sizes,
            target=planar(target),
            pixels=pixels,
            progress=progress,
            max_pixels=max_pixels,
            fuse=fuse,
        )
        only = Course(count, planar(sizes), fuse=fuse)
        if sizes != target:
            only.map(resized(planar(sizes), planar(target)))
        only.end()
        self._plain = View(_Steps(only.operations, count, count).parts(0), count)
        self._number, self._course, self._steps = -1, only, _Steps([], count, 0)
        self.at(0)  # to find out now what is too small or too large

    def plain(self) -> "View":
        """Without transforms: only resized."""
        return self._plain

    def at(self, index: int) -> "View":
        """That of a step, in any order of steps.

        Raises:
            InvalidAscent: As at the start, of numbers that are drawn for this step.
            TooLarge: The same.
        """
        number, step = divmod(index, self._courses.steps)
        if number != self._number:
            self._course, self._number = self._courses.of(number), number
            self._steps = _Steps(self._course.operations, self._count, self._courses.steps * self._count)
        if self._course.errors:
            for entry in range(step * self._count, (step + 1) * self._count):
                if entry in self._course.errors:
                    raise self._course.errors[entry]
        return View(self._steps.parts(step), self._count)


class View:
    """What one step does to the images.

    Args:
        parts: Images that go through the same sizes.
        count: All images.
    """

    def __init__(self, parts: "Sequence[Part]", count: int) -> None:
        self._parts, self._count = parts, count

    def forward(self, images: Float32) -> Float32:
        """The images as the model's input has them: [N, C, H, W] to [N, C, *target]."""
        return self._each(images, FORWARD, 1)

    def adjoint(self, gradient: Float32) -> Float32:
        """The gradient with respect to the images, from that with respect to the model's input."""
        return self._each(gradient, ADJOINT, -1)

    def _each(self, images: Float32, table: "Table", order: int) -> Float32:
        done = []
        for members, stages in self._parts:
            part = images if len(self._parts) == 1 else images[members]
            for stage in stages[::order]:
                part = table[type(stage)](part, stage)
            done.append(part)
        if len(done) == 1:
            return done[0]
        result = np.empty((self._count, *done[0].shape[1:]), np.float32)
        for (members, _), part in zip(self._parts, done, strict=True):
            result[members] = part
        return result


class Warp(NamedTuple):
    """A map of some images, as the kernel takes it."""

    matrices: npt.NDArray[np.float64]
    source: Plane
    size: Plane
    border: Border
    fill: float


Stage = Warp | Smoothing | Roll | Addition
Table = dict[type[Any], Callable[[Float32, Any], Float32]]


class Part(NamedTuple):
    """Images that go through the same sizes, and what is done to them, in order."""

    members: list[int]
    stages: list[Stage]


class _Steps:
    """What is done to all images in some steps, a step at a time.

    Args:
        planned: In order.
        count: Images.
        entries: Images in all steps.
    """

    def __init__(self, planned: Sequence[Planned], count: int, entries: int) -> None:
        self._planned, self._count = planned, count
        self._matrices = [_matrices(one.operation, entries) for one in planned]
        self._keys = _keys(planned)

    def parts(self, step: int) -> list[Part]:
        """Images that go the same way, through the same sizes."""
        begin, end = step * self._count, (step + 1) * self._count
        if self._keys is None or self._keys[begin:end].count(self._keys[begin]) == self._count:
            return [Part(list(range(self._count)), self._stages(slice(begin, end), begin))]
        groups: dict[Hashable, list[int]] = {}
        for entry in range(begin, end):
            groups.setdefault(self._keys[entry], []).append(entry)
        return [Part([entry - begin for entry in group], self._stages(group, group[0])) for group in groups.values()]

    def _stages(self, entries: slice | list[int], one: int) -> list[Stage]:
        """What is done to some that go the same way."""
        stages: list[Stage] = []
        for (operation, whose), matrices in zip(self._planned, self._matrices, strict=True):
            if not whose[one]:
                continue
            if isinstance(operation, Map):
                top, left, down, right, border, fill = (_at(x, one) for x in _said(operation))
                stages.append(Warp(matrices[entries], (top, left), (down, right), border, fill))
            else:
                stages.append(operation.of(entries))
        return stages


def _matrices(one: Operation, count: int) -> npt.NDArray[np.float64]:
    """Of a map; of anything else, none."""
    matrices = np.empty((count, 2, 3))
    for row, numbers in enumerate(one.rows if isinstance(one, Map) else ()):
        for column, number in enumerate(numbers):
            matrices[:, row, column] = number
    return matrices


def _keys(planned: Sequence[Planned]) -> list[Hashable] | None:
    """Of each entry, what tells those apart that go different ways; None where all go one."""
    columns = [whose for _, whose in planned if not whose.all()]
    for operation, _ in planned:
        if isinstance(operation, Map):
            columns += [one for one in _said(operation) if isinstance(one, np.ndarray)]
    return list(zip(*(column.tolist() for column in columns), strict=True)) if columns else None


def _said(one: Map) -> tuple[Any, ...]:
    """What a call of the kernel has once for all its images."""
    return (*one.source, *one.size, one.border, one.fill)


def _at(x: Any, one: int) -> Any:
    return x[one].item() if isinstance(x, np.ndarray) else x


# ---- the operations, on all images of a part at once -----------------------------------------------------------------


def _warp(images: Float32, stage: Warp) -> Float32:
    return warp(images, stage.matrices, stage.size, border=stage.border, fill=stage.fill)


def _warp_adjoint(gradient: Float32, stage: Warp) -> Float32:
    return warp_adjoint(gradient, stage.matrices, stage.source, border=stage.border)


def _smooth(images: Float32, stage: Smoothing) -> Float32:
    return blur(images, stage.weights, border=stage.border)


def _smooth_adjoint(gradient: Float32, stage: Smoothing) -> Float32:
    return blur_adjoint(gradient, stage.weights, border=stage.border)


def _roll(images: Float32, stage: Roll) -> Float32:
    return _rolled(images, stage.shifts, stage.sizes)


def _roll_adjoint(gradient: Float32, stage: Roll) -> Float32:
    return _rolled(gradient, -stage.shifts, stage.sizes)


def _rolled(images: Float32, moved: npt.NDArray[np.int64], sizes: tuple[int, ...]) -> Float32:
    whole = images.reshape(*images.shape[:2], *sizes)
    axes = tuple(range(1, len(sizes) + 1))
    return np.stack([np.roll(image, shift, axes) for image, shift in zip(whole, moved, strict=True)]).reshape(images.shape)


def _add(images: Float32, stage: Addition) -> Float32:
    noisy_ones = images.copy()
    for image, draw in zip(noisy_ones, stage.draws, strict=True):
        normal, even = draw(image.shape)
        np.add(image, normal * np.float32(stage.standard_deviation) + even * np.float32(stage.half_width), out=image)
    return noisy_ones


def _add_adjoint(gradient: Float32, stage: Addition) -> Float32:  # noqa: ARG001
    return gradient  # what is added does not depend on the image


FORWARD: Table = {Warp: _warp, Smoothing: _smooth, Roll: _roll, Addition: _add}
ADJOINT: Table = {Warp: _warp_adjoint, Smoothing: _smooth_adjoint, Roll: _roll_adjoint, Addition: _add_adjoint}
