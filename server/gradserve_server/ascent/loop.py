"""The loop: a generator that calls the kernels and one gradient function."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve import Step, StopReason
from gradserve.errors import CallCancelled
from gradserve_server.ascent.canvas import canvas_of
from gradserve_server.ascent.penalties import added
from gradserve_server.ascent.spec import AscentSpec
from gradserve_server.ascent.state import State

Float32 = npt.NDArray[np.float32]


def _no() -> bool:
    """Nobody asks."""
    return False


@dataclass(frozen=True)
class Signals:
    """How an ascent is told to end early. Each is asked in every step; once it says yes, it says so for good."""

    stop: Callable[[], bool] = _no
    """Ends it without another report: nobody reads it."""
    interrupt: Callable[[], bool] = _no
    """Ends it with a report from which it can go on."""

    def any(self) -> bool:
        """Whether no more steps are wanted."""
        return self.stop() or self.interrupt()


NEVER = Signals()


def ascend(
    spec: AscentSpec,
    run: Callable[[Callable[[], bool]], None],
    batch: Float32,
    values: Float32,
    gradient: Float32,
    *,
    identity: Callable[[], Mapping[str, str]] = dict,
    signals: Signals = NEVER,
    weigh: Callable[[float], None] | None = None,
) -> Iterator[Step]:
    """Makes the objective grow, step by step.

    Report k is about the image after k updates. So `steps` updates take `steps` + 1 runs of the model, and the last report,
    whose image is never jittered, has the value of the very picture that it delivers.

    A step whose gradient is NaN or infinite leaves that image as it is; once every image has met one, the run ends.

    A checkpoint at k holds what step k reads: an ascent that goes on from it begins with report k.

    Args:
        spec: What to do.
        run: Reads `batch`, writes `values` and `gradient`, calls the function that it is given, and does all that again for
            as long as that says yes; raises CallCancelled where it had to wait, and one of `signals` said yes before its
            turn came.
        batch: The model's input, [N, ...].
        values: The objective, [N].
        gradient: d values[n] / d batch[n].
        identity: Says what a checkpoint of this ascent must be compared with; asked where there is a checkpoint.
        signals: Asked in each step.
        weigh: Told, before each run, after which share of the steps it is; None where no scale of the objective changes.

    Returns:
        Reports of the start, of every `report_every` steps, and of the end.

    Raises:
        InvalidAscent: The checkpoint in `spec.resume` is of another ascent, or damaged.
    """
    state = State(canvas_of(spec, batch, gradient), np.ones(spec.count, np.bool_))
    if spec.resume is not None:
        state.restore(spec.resume, identity(), spec)
    return _steps(_Climb(spec, state, values, gradient, identity, signals, weigh), run)


def _steps(climb: "_Climb", run: Callable[[Callable[[], bool]], None]) -> Iterator[Step]:
    while climb.prepare():
        try:
            run(climb.advance)
        except CallCancelled:  # a signal came before the turn of a run
            climb.ends_unseen()
        if climb.report is None:
            return
        yield climb.report
        if climb.report.stop_reason is not None:
            return


class _Climb:
    """An ascent between two runs of the model. Which thread calls does not matter, as long as it is one at a time."""

    def __init__(
        self,
        spec: AscentSpec,
        state: State,
        values: Float32,
        gradient: Float32,
        identity: Callable[[], Mapping[str, str]],
        signals: Signals,
        weigh: Callable[[float], None] | None,
    ) -> None:
        self._spec, self._state, self._weigh = spec, state, weigh
        self._values, self._gradient = values, gradient
        self._identity, self._signals = identity, signals
        self._first = self._index = state.index
        self.report: Step | None = None
        """What there is to tell of the last run."""

    def prepare(self) -> bool:
        """Writes what the model reads next; False where nobody wants it."""
        self.report = None
        if self._signals.stop():
            return False
        self._index = self._state.index
        if self._weigh is not None:
            self._weigh(self._spec.progress(self._index))
        self._state.canvas.show(self._index)
        return True

    def advance(self) -> bool:
        """Takes a step by what the run wrote, and prepares the next; False once there is something to tell, or no next."""
        interrupted = self._index < self._spec.steps and self._signals.interrupt()
        self.report = self._step(interrupted=interrupted)
        return self.report is None and self.prepare()

    def ends_unseen(self) -> None:
        """There will be no run, and no numbers of it."""
        self.report = None
        if self._signals.stop():
            return
        self._values.fill(np.nan)
        self._gradient.fill(np.nan)
        self.report = self._step(interrupted=True)

    def _step(self, *, interrupted: bool) -> Step | None:
        spec, state, canvas, index = self._spec, self._state, self._state.canvas, self._index
        done = index == spec.steps
        last = done or interrupted
        # A copy of each before the step, which changes them in place.
        saved = interrupted or _due(index, spec.checkpoint_every) or (done and spec.checkpoint_every > 0)
        checkpoint = state.save(self._identity()) if saved else None
        picture = spec.image.from_planar(canvas.picture()) if last or _due(index, spec.image_every) else None
        values = self._values if canvas.penalty is None else added(self._values, canvas.penalty)
        norms = canvas.norms() if last else canvas.step()
        if not _all_finite(norms, values):
            state.finite &= np.isfinite(norms) & np.isfinite(values)
        reason = _reason(state, done=done, interrupted=interrupted)
        if reason is not None and picture is None:
            picture = spec.image.from_planar(canvas.picture())
        if reason or saved or picture is not None or index == self._first or _due(index, spec.report_every):
            return Step(index, values.astype(np.float64), norms, picture, reason, checkpoint)
        return None


def _reason(state: State, *, done: bool, interrupted: bool) -> StopReason | None:
    if interrupted:
        return StopReason.INTERRUPTED
    finite = state.finite.tolist()
    if not all(finite) and (done or not any(finite)):
        return StopReason.NON_FINITE
    return StopReason.FINISHED if done else None


def _all_finite(*few: npt.NDArray[Any]) -> bool:
    """As `np.isfinite(x).all()`, which takes ten times as long for few numbers: 6 us of an ascent's 25."""
    return all(map(isfinite, chain.from_iterable(array.tolist() for array in few)))


def _due(index: int, every: int) -> bool:
    return every > 0 and index % every == 0
