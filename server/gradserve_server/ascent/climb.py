"""An ascent between two runs of the model: what to show it next, and what becomes of what it wrote."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve import Step, StopReason
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


class Climb:
    """An ascent between two runs of the model. Which thread calls does not matter, as long as it is one at a time.

    Args:
        spec: What to do.
        state: Where it stands.
        values: What a run writes: the objective, [N].
        identity: See `loop.ascend`.
        signals: See `loop.ascend`.
        weigh: See `loop.ascend`.
        is_measured: Whether what `stop_at` asks for takes runs of their own. Otherwise it is the objective's value.
    """

    def __init__(
        self,
        spec: AscentSpec,
        state: State,
        values: Float32,
        identity: Callable[[], Mapping[str, str]],
        signals: Signals,
        weigh: Callable[[float], None] | None,
        *,
        is_measured: bool,
    ) -> None:
        self._spec, self._state, self._weigh = spec, state, weigh
        self._values = values
        self._identity, self._signals, self._is_measured = identity, signals, is_measured
        self._is_comparable = weigh is None and spec.is_steady
        self._first = self._index = state.index
        self._all_moved = False
        self._judged_at: int | None = None
        self._measured: npt.NDArray[np.float64] | None = None
        self.is_over = False
        """Nobody wants to hear more of it."""
        self.report: Step | None = None
        """What there is to tell of the last run."""

    @property
    def redirects(self) -> bool:
        """Whether the step that comes next, if one comes, is by redirected gradients."""
        return self._index < self._spec.redirect_relu_steps and not self._is_last

    @property
    def _is_last(self) -> bool:
        """Whether no step comes any more."""
        return self._state.index == self._spec.steps or self._all_reached

    @property
    def _all_reached(self) -> bool:
        reached, finite = self._state.reached, self._state.finite
        return reached is not None and bool((reached | ~finite).all())

    def seen(self) -> npt.NDArray[np.float64]:
        """The value of each image that the last run saw, [count]."""
        penalty = self._state.canvas.penalty
        values = self._values if penalty is None else added(self._values, penalty)
        return values.astype(np.float64)

    # ---- before a run ------------------------------------------------------------------------------------------------

    def shows_for_measuring(self) -> bool:
        """Writes what `stop_at` measures next, if it does so before the next step."""
        self._index = self._state.index
        if not self._is_measured or not self._is_judged():
            return False
        self._show(plain=True)
        return True

    def judge(self, measured: npt.NDArray[np.float64]) -> None:
        """Notes which images have reached `stop_at`."""
        goal, reached = self._spec.stop_at, self._state.reached
        assert goal is not None
        assert reached is not None
        self._judged_at, self._measured = self._index, measured
        reached |= (measured >= goal.at_least) & self._state.finite

    def prepare(self) -> bool:
        """Writes what the model reads next; False where nobody wants it."""
        self.report = None
        if self._signals.stop():
            self.is_over = True
            return False
        self._index = self._state.index
        self._show(plain=self._is_last)
        return True

    def _show(self, *, plain: bool) -> None:
        if self._weigh is not None:
            self._weigh(self._spec.progress(self._index))
        self._state.canvas.show(self._index, plain=plain)

    def _is_judged(self) -> bool:
        goal = self._spec.stop_at
        return goal is not None and (self._index % goal.every == 0 or self._index == self._spec.steps)

    # ---- after a run -------------------------------------------------------------------------------------------------

    def advance(self) -> bool:
        """Takes a step by what the run wrote, and prepares the next.

        Returns:
            False once there is something to tell, or something else must come before the next run of this kind.
        """
        redirected, interrupted = self.redirects, not self._is_last and self._signals.interrupt()
        self.report = self._step(interrupted=interrupted)
        if self.report is not None:
            return False
        self._index = self._state.index
        if (self._is_measured and self._is_judged()) or self.redirects != redirected:
            return False
        return self.prepare()

    def shows_best(self) -> bool:
        """Writes the best images, if the last report delivers them and they have yet to be seen as they are."""
        if self._state.best is None or not self._is_delivered or self._is_comparable:
            return False
        self._state.canvas.show_picture(self._state.best.images)
        return True

    def deliver(self) -> None:
        """Puts the best images into the last report; where they were shown, by the values that they have as they are."""
        step, best = self.report, self._state.best
        if step is None or best is None or not self._is_delivered:
            return
        values = best.values if self._is_comparable else self.seen()
        better = np.isfinite(values) & np.isfinite(best.values) & ~(step.values >= values)
        if self._state.reached is not None:
            better &= ~self._state.reached
        for name, pictures in self._pictures(best.images).items():
            getattr(step, name)[better] = pictures[better]
        self.report = replace(
            step,
            values=np.where(better, values, step.values),
            gradient_norms=np.where(better, best.norms, step.gradient_norms),
            image_indices=np.where(better, best.indices, step.index),
        )

    @property
    def _is_delivered(self) -> bool:
        """Whether the report is the last, and not of an ascent that others go on with."""
        return self.report is not None and self.report.stop_reason not in (None, StopReason.INTERRUPTED)

    def ends_unseen(self) -> None:
        """There will be no run, and no numbers of it."""
        self.report = None
        if self._signals.stop():
            self.is_over = True
            return
        self._values.fill(np.nan)
        self._state.canvas.unseen()
        self.report = self._step(interrupted=True)

    def _step(self, *, interrupted: bool) -> Step | None:
        spec, state, canvas, index = self._spec, self._state, self._state.canvas, self._index
        values = self.seen()
        if self._is_judged() and not self._is_measured and not interrupted:
            self.judge(values)
        done = self._is_last
        last = done or interrupted
        # A copy of each before the step, which changes them in place.
        saved = interrupted or _due(index, spec.checkpoint_every) or (done and spec.checkpoint_every > 0)
        checkpoint = state.save(self._identity()) if saved else None
        told = last or _due(index, spec.image_every)
        # Once an image has broken, others may move in what turns out to be the last step.
        broken = self._has_broken(values)
        before = self._pictures(canvas.picture()) if told or broken else {}
        picture = before if told else {}
        norms = self._changed(values, broken=broken, last=last)
        reason = self._reason(done=done, interrupted=interrupted)
        if reason is not None:
            picture = before or self._pictures(canvas.picture())
        if not (reason or saved or picture or index == self._first or _due(index, spec.report_every)):
            return None
        return Step(
            index,
            values,
            norms,
            stop_reason=reason,
            checkpoint=checkpoint,
            **picture,
            reached=None if state.reached is None else state.reached.copy(),
            measured=self._measured if self._judged_at == index else None,
            dead=None if reason in (None, StopReason.INTERRUPTED) else ~state.moved & state.finite,
        )

    def _has_broken(self, values: npt.NDArray[np.float64]) -> bool:
        """Whether an image met a value or a gradient that is not finite, or has such a value now."""
        return not (all(self._state.finite.tolist()) and _all_finite(values))

    def _pictures(self, picture: Float32) -> dict[str, Any]:
        """A picture as a report has it, by the names of its fields."""
        space = self._spec.image
        if self._spec.alpha is None:
            return {"image": space.from_planar(picture)}
        image, alpha = np.split(picture, [space.channels], axis=1)
        return {"image": space.from_planar(image), "alpha": alpha.reshape(-1, *space.sizes).copy()}

    def _changed(self, values: npt.NDArray[np.float64], *, broken: bool, last: bool) -> npt.NDArray[np.float64]:
        """Takes the step, but for the last report, notes what is to be known later, and returns the gradients' lengths."""
        state, better = self._state, None
        # Of values that do not compare, the last is left for when both images are seen alike.
        if state.best is not None and not (last and not self._is_comparable):
            better = state.best.better(values) & state.finite
            if better.any():  # a picture may have to come from a device
                state.best.take(better, state.canvas.picture(), values, self._index)
        held = state.reached if state.reached is not None and state.reached.any() else None
        norms = state.canvas.norms() if last else state.canvas.step(held)
        if state.best is not None and better is not None:
            state.best.norms[better] = norms[better]
        if broken or not _all_finite(norms):
            state.finite &= np.isfinite(norms) & np.isfinite(values)
        if not self._all_moved:
            state.moved |= state.canvas.moved(norms)
            self._all_moved = bool(state.moved.all())
        return norms

    def _reason(self, *, done: bool, interrupted: bool) -> StopReason | None:
        state = self._state
        if interrupted:
            return StopReason.INTERRUPTED
        finite = state.finite.tolist()
        if not all(finite) and (done or self._all_reached or not any(finite)):
            return StopReason.NON_FINITE
        if self._all_reached:
            return StopReason.REACHED
        if not done:
            return None
        return StopReason.FINISHED if state.moved.any() else StopReason.DEAD


def _all_finite(few: npt.NDArray[Any]) -> bool:
    """As `np.isfinite(few).all()`, which takes ten times as long for few numbers: 6 us of an ascent's 25."""
    return all(map(isfinite, few.tolist()))


def _due(index: int, every: int) -> bool:
    return every > 0 and index % every == 0
