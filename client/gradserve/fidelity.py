"""What an objective is of images once they are picture files.

A picture has 256 levels between the smallest and the largest pixel value, nothing outside of them, and in a JPEG not even
those. The model sees it through the same description by which it was written, so that this is all that can differ.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from gradserve import images
from gradserve.ascents import AscentSettings
from gradserve.numbers import Linear
from gradserve.objectives import Objective
from gradserve.runs import Ascends, Run

__all__ = ["evaluate", "measure"]

_KEPT = ("version", "input", "inputs", "shape", "image_size")
"""Settings that decide how the model sees an image; the others decide how it changes."""


def evaluate(
    verbs: Ascends, model: str, objective: Objective, pixels: npt.ArrayLike, settings: AscentSettings
) -> npt.NDArray[np.float64]:
    """An objective of images as they are: no step, no transforms.

    Args:
        verbs: A client or an engine.
        model: Its name.
        objective: What an ascent made large.
        pixels: [count, ...] like the model input, in the described range.
        settings: Of that ascent.

    Returns:
        [count].
    """
    start = np.asarray(pixels, np.float32)
    free: Any = {name: value for name, value in settings.items() if name in _KEPT}
    free |= {"start": start, "count": len(start), "steps": 1, "bounds": (-np.inf, np.inf)}
    first, *_ = verbs.ascend(model, _at_the_end(objective), **cast("AscentSettings", free))
    return first.values


def _at_the_end(objective: Objective) -> Objective:
    """Scales that change have their last value; what that makes 0 is gone."""
    last = [(scale.end if isinstance(scale, Linear) else scale, term) for scale, term in objective.terms]
    left = tuple((scale, term) for scale, term in last if scale)
    return Objective(left) if left else objective


def measure(verbs: Ascends, model: str, run: Run, endings: Sequence[str], zoom: int | None = None) -> None:
    """Fills in `run.as_picture`: what the objective is of its images as files with these endings.

    Nothing is measured where the pixels are not described: then their picture is stretched, and cannot be read back. Nor is
    anything of transparent images, whose values depend on what was behind them.

    Args:
        verbs: A client or an engine.
        model: Its name.
        run: Has ended.
        endings: Of `images.FORMATS`.
        zoom: How pixels are enlarged in the files: see `images.enlarge`.
    """
    description = run.description
    if description is None or run.alpha is not None or not images.is_picture(run.pixels.shape[1:], description):
        return
    known: dict[bytes, npt.NDArray[np.float64]] = {}
    for ending in endings:
        read = np.stack([_read_back(run, index, ending, zoom) for index in range(run.count)])
        if read.tobytes() not in known:
            known[read.tobytes()] = evaluate(verbs, model, run.objective, read, run.settings)
        run.as_picture[ending] = known[read.tobytes()]


def _read_back(run: Run, index: int, ending: str, zoom: int | None) -> npt.NDArray[np.float32]:
    assert run.description is not None
    picture = run.picture(index)
    stored = images.stored(images.enlarge(picture, zoom), ending)
    return images.from_picture(stored, run.description, (picture.height, picture.width))
