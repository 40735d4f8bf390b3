"""An ascent between two steps: all that the next one reads, to a checkpoint and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve import Checkpoint
from gradserve.checkpoints import FORMAT
from gradserve.errors import InvalidAscent
from gradserve.stopping import Keep
from gradserve_server.ascent.best import Best
from gradserve_server.ascent.canvas import Canvas, within
from gradserve_server.ascent.spec import AscentSpec

_REPORTED = "best: norms"
"""Told in a report and read by no step: of an image that is the best one, a gradient may be NaN all the same."""

_SHOWN = 100
"""Characters of a setting in an error."""


@dataclass
class State:
    """Changes with each step, in place."""

    canvas: Canvas
    """What changes, and what the optimizer remembers of it."""
    finite: npt.NDArray[np.bool_]
    """Which images have never met a value or gradient that is not, [count]."""
    moved: npt.NDArray[np.bool_]
    """Which images have met a gradient that is not zero, [count]."""
    reached: npt.NDArray[np.bool_] | None
    """Which images have reached `stop_at`, [count]."""
    best: Best | None
    """Which images are delivered, where these are not the last ones."""

    @classmethod
    def of(cls, spec: AscentSpec, canvas: Canvas) -> "State":
        """That of an ascent which has not begun."""
        count = spec.count
        reached = None if spec.stop_at is None else np.zeros(count, np.bool_)
        best = Best(_with_alpha(spec)) if spec.keep is Keep.BEST else None
        return cls(canvas, np.ones(count, np.bool_), np.zeros(count, np.bool_), reached, best)

    @property
    def index(self) -> int:
        """Updates made so far."""
        return self.canvas.optimizer.steps

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Every array in it by name, to be read. What an ascent comes to remember later joins here, or in its canvas."""
        return self._own_arrays() | self.canvas.arrays()

    def _own_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Those beside the canvas; they are written in place."""
        reached = {} if self.reached is None else {"reached": self.reached}
        best = {} if self.best is None else {f"best: {name}": array for name, array in self.best.arrays().items()}
        return {"finite": self.finite, "moved": self.moved, **reached, **best}

    def save(self, identity: Mapping[str, str]) -> Checkpoint:
        """A copy that nothing changes any more.

        Args:
            identity: Of the ascent (`ascent.identity`).
        """
        return Checkpoint(self.index, dict(identity), {name: array.copy() for name, array in self.arrays().items()})

    def restore(self, checkpoint: Checkpoint, identity: Mapping[str, str], spec: AscentSpec) -> None:
        """Takes everything from a checkpoint, whoever may have made it.

        Args:
            checkpoint: Not trusted.
            identity: Of this ascent.
            spec: Of this ascent.

        Raises:
            InvalidAscent: It is not a checkpoint of this ascent.
        """
        _check_identity(checkpoint, identity)
        if not 0 <= checkpoint.index <= spec.steps:
            msg = f"resume: expected at most the {spec.steps} steps of this ascent, got a checkpoint at {checkpoint.index}"
            raise InvalidAscent(msg)
        own, canvas = self._own_arrays(), self.canvas.arrays()
        ours = own | canvas
        if checkpoint.arrays.keys() != ours.keys():
            expected, got = (", ".join(map(repr, sorted(names))) for names in (ours, checkpoint.arrays))
            msg = f"resume: expected the arrays {expected[:_SHOWN]}, got {got[:_SHOWN] or 'none'}"
            raise InvalidAscent(msg)
        for name, array in ours.items():
            _check_array(name, checkpoint.arrays[name], array, may_be_nan=name == _REPORTED)
            wrong = self._fits(name, checkpoint.arrays[name], spec)
            if wrong:
                msg = f"resume: '{name}': {wrong}"
                raise InvalidAscent(msg)
        self.canvas.optimizer.steps = checkpoint.index
        for name, array in own.items():
            array[...] = checkpoint.arrays[name]
        for name in canvas:
            self.canvas.take(name, checkpoint.arrays[name])

    def _fits(self, name: str, array: npt.NDArray[Any], spec: AscentSpec) -> str:
        """What is wrong with an array that should take the place of one of `arrays`; "" for nothing."""
        if name == "best: images":
            image, alpha = np.split(array, [spec.image.channels], axis=1)
            return within(image, spec.bounds) or within(alpha, (0.0, 1.0))
        return within(array, (0, spec.steps)) if name == "best: indices" else self.canvas.fits(name, array)


def _with_alpha(spec: AscentSpec) -> npt.NDArray[np.float32]:
    """The start as canvases have pictures; not painted, which would be too early before a checkpoint."""
    return spec.start if spec.alpha is None else np.pad(spec.start, ((0, 0), (0, 1), (0, 0), (0, 0)))


def _check_identity(checkpoint: Checkpoint, identity: Mapping[str, str]) -> None:
    if checkpoint.format != FORMAT:
        msg = f"resume: expected a checkpoint of format {FORMAT}, got {checkpoint.format}"
        raise InvalidAscent(msg)
    then, differ = checkpoint.settings, []
    for name in sorted(identity.keys() | then.keys()):
        old, new = (settings.get(name, "none")[:_SHOWN] for settings in (then, identity))
        if then.get(name) != identity.get(name):
            differ.append(f"{name[:_SHOWN]} was {old}, is {new}")
    if differ:
        msg = f"resume: expected the ascent that the checkpoint was made of, but {'; '.join(differ)}"
        raise InvalidAscent(msg)


def _check_array(name: str, given: npt.NDArray[Any], ours: npt.NDArray[Any], *, may_be_nan: bool) -> None:
    if (given.dtype, given.shape) != (ours.dtype, ours.shape):
        expected, got = (f"{array.dtype.name} {list(array.shape)}" for array in (ours, given))
        msg = f"resume: '{name}': expected {expected}, got {got}"
        raise InvalidAscent(msg)
    if ours.dtype.kind == "f" and not may_be_nan and np.isnan(given).any():
        msg = f"resume: '{name}': expected numbers, got NaN"
        raise InvalidAscent(msg)
