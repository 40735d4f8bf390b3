"""DeepDream on a photograph (Mordvintsev et al. 2015; google/deepdream, dream.ipynb, and its defaults)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from gradserve import images
from gradserve.ascents import AscentSettings, GradientNormalization, Step, StopReason
from gradserve.descriptions import ImageDescription, TensorDescription
from gradserve.errors import InvalidAscent
from gradserve.objectives import Objective
from gradserve.optimizers import Sgd
from gradserve.runs import Ascends

__all__ = ["Dream", "deepdream"]

Float32 = npt.NDArray[np.float32]

_LEVELS = 255
"""Google's step is in levels of a range from 0 to 255."""


@dataclass(frozen=True)
class Dream:
    """How to dream."""

    octaves: int = 4
    """Sizes that are dreamt at, the smallest first."""
    scale: float = 1.4
    """How much larger each is than the one before."""
    steps: int = 10
    """At each size."""
    step: float = 1.5
    """What a pixel moves on average, in 255ths of the range: a step is this times the gradient by its mean magnitude."""
    jitter: int = 32
    """Largest random shift each way, with wrap-around; undone after each step."""
    seed: int = 0

    def sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Of the octaves, the smallest first.

        Raises:
            InvalidAscent: No octaves, a scale of 1 or less, or sizes that shrink to nothing.
        """
        if self.octaves < 1 or not self.scale > 1:
            msg = f"dream: expected octaves of 1 or more and a scale above 1, got {self.octaves} and {self.scale:g}"
            raise InvalidAscent(msg)
        sizes = [(height, width)]
        while len(sizes) < self.octaves:
            sizes.append((round(sizes[-1][0] / self.scale), round(sizes[-1][1] / self.scale)))
        if min(sizes[-1]) < 2:
            msg = f"dream: expected octaves of 2 x 2 pixels or more, got {sizes[-1][0]} x {sizes[-1][1]} for the smallest"
            raise InvalidAscent(msg)
        return sizes[::-1]


def deepdream(
    verbs: Ascends,
    model: str,
    objective: Objective,
    image: npt.ArrayLike,
    tensor: TensorDescription,
    *,
    dream: Dream | None = None,
    settings: AscentSettings | None = None,
    every: int = 0,
) -> Iterator[Step]:
    """Makes more of what a network sees in a photograph, at several sizes of it.

    At each size, the smallest first: the photograph at that size plus the detail that was found so far, enlarged; then
    `steps` steps; then detail = result - photograph. So detail is added, and the photograph never blurred. Sizes change
    bilinearly with the corner pixels on each other (`scipy.ndimage.zoom` of order 1).

    A model whose input may have any size sees each octave as it is. One of a fixed size sees each resized to it: then
    octaves differ in how large a pixel of detail is, not in how much of the picture the network sees.

    Args:
        verbs: A client or an engine.
        model: Its name.
        objective: What becomes large; Google's is `O.layer("inception_4c/output")`.
        image: The photograph, one image like the model input without batch axis, in the described pixel range.
        tensor: The model input that it becomes.
        dream: How.
        settings: Others of `ascend`, such as `inputs` and `version`.
        every: An image every so many steps, at the size of the photograph; 0: only the last.

    Yields:
        Reports of all octaves, counted through. The last has the image, [1, ...] like the photograph.

    Raises:
        InvalidAscent: No such dream, or the photograph is too small for it.
        InvalidTensor: The input takes no images.
        GradserveError: As `ascend`.
    """
    dream, description = dream or Dream(), tensor.image or ImageDescription()
    photograph = np.asarray(image, np.float32)
    rows, columns = _axes(tensor)
    sizes = dream.sizes(photograph.shape[rows], photograph.shape[columns])
    bases = [photograph]
    for height, width in sizes[-2::-1]:
        bases.append(resized(resized(bases[-1], rows, height), columns, width))
    detail = np.zeros_like(bases[-1])
    for octave, ((height, width), base) in enumerate(zip(sizes, bases[::-1], strict=True)):
        detail = resized(resized(detail, rows, height), columns, width)
        chosen: Any = {
            "bounds": (description.low, description.high) if tensor.image is not None else (-np.inf, np.inf),
            **(settings or {}),
            **size_settings(tensor, base.shape),
            "input": tensor.name,
            "start": base + detail,
            "steps": dream.steps,
            "jitter": min(dream.jitter, height - 1, width - 1),
            "optimizer": Sgd(dream.step * (description.high - description.low) / _LEVELS),
            "gradient_normalization": GradientNormalization.MEAN_ABS,
            "seed": (dream.seed + octave) % 2**64,
            "image_every": every,
        }
        for report in verbs.ascend(model, objective, **cast("AscentSettings", chosen)):
            last = report.stop_reason is not None
            if last and report.image is not None:
                detail = report.image[0] - base
            if report.index == dream.steps and octave < len(sizes) - 1 and report.stop_reason is StopReason.FINISHED:
                continue  # the next octave begins with it
            shown = report.image
            if shown is not None and shown.shape[1:] != photograph.shape:
                size = (photograph.shape[rows], photograph.shape[columns])
                shown = resized(resized(shown, rows + 1, size[0]), columns + 1, size[1])
            yield replace(report, index=octave * dream.steps + report.index, image=shown)
            if last and report.stop_reason is not StopReason.FINISHED:
                return


def size_settings(tensor: TensorDescription, shape: tuple[int, ...]) -> AscentSettings:
    """What lets an ascent make an image of that shape, whatever size the model takes."""
    rows, columns = _axes(tensor)
    if images.picture_size(tensor) is not None:
        return {"image_size": (shape[rows], shape[columns])}
    return {"shape": shape}


def _axes(tensor: TensorDescription) -> tuple[int, int]:
    """Which axes of one image are rows and columns."""
    rows, columns = images.picture_axes(tensor)
    return rows - 1, columns - 1


def resized(array: Float32, axis: int, size: int) -> Float32:
    """Bilinear along one axis, first on first and last on last."""
    old = array.shape[axis]
    if old == size:
        return array
    positions = np.arange(size) * ((old - 1) / max(size - 1, 1))
    lower = np.minimum(positions.astype(np.intp), max(old - 2, 0))
    shape = [1] * array.ndim
    shape[axis] = size
    share = (positions - lower).astype(np.float32).reshape(shape)
    below, above = array.take(lower, axis), array.take(np.minimum(lower + 1, old - 1), axis)
    return np.asarray(below + (above - below) * share, np.float32)
