"""The loop: a generator that calls the kernels and one gradient function."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradserve import Step, StopReason
from gradserve.errors import CallCancelled
from gradserve_server.ascent.spec import AscentSpec
from gradserve_server.ascent.state import State
from gradserve_server.kernels import Ascender, Layout

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

    Returns:
        Reports of the start, of every `report_every` steps, and of the end.

    Raises:
        InvalidAscent: The checkpoint in `spec.resume` is of another ascent, or damaged.
    """
    ascender = _ascender(spec)
    state = State.start(spec, ascender)
    if spec.resume is not None:
        state.restore(spec.resume, identity(), spec)
    return _steps(_Climb(spec, ascender, state, batch, values, gradient, identity, signals), run)


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
        ascender: Ascender,
        state: State,
        batch: Float32,
        values: Float32,
        gradient: Float32,
        identity: Callable[[], Mapping[str, str]],
        signals: Signals,
    ) -> None:
        self._spec, self._ascender, self._state = spec, ascender, state
        self._values, self._gradient = values, gradient
        self._identity, self._signals = identity, signals
        self._model_batch, self._model_gradient = spec.pixels.buffer(batch), spec.pixels.buffer(gradient)
        self._first = self._index = state.index
        self._jitter = spec.offsets(self._first)
        self._offsets: npt.NDArray[np.int32] | None = None
        self.report: Step | None = None
        """What there is to tell of the last run."""

    def prepare(self) -> bool:
        """Writes what the model reads next; False where nobody wants it."""
        self.report = None
        if self._signals.stop():
            return False
        self._index = self._state.index
        self._offsets = None if self._index == self._spec.steps else next(self._jitter)
        self._ascender.prepare(self._state.image, self._offsets, self._model_batch)
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
        spec, state, index, pixels = self._spec, self._state, self._index, self._spec.pixels
        done = index == spec.steps
        last = done or interrupted
        # A copy of each before the step, which changes them in place.
        saved = interrupted or _due(index, spec.checkpoint_every) or (done and spec.checkpoint_every > 0)
        checkpoint = state.save(self._identity()) if saved else None
        picture = pixels.from_planar(state.image) if last or _due(index, spec.image_every) else None
        if last:
            norms = _norms(pixels.to_planar(self._gradient), pixels.scale)
        else:
            norms = state.step(self._ascender, self._model_gradient, self._offsets)
        state.finite &= np.isfinite(norms) & np.isfinite(self._values)
        reason = _reason(state, done=done, interrupted=interrupted)
        if reason is not None and picture is None:
            picture = pixels.from_planar(state.image)
        if reason or saved or picture is not None or index == self._first or _due(index, spec.report_every):
            return Step(index, self._values.astype(np.float64), norms, picture, reason, checkpoint)
        return None


def _reason(state: State, *, done: bool, interrupted: bool) -> StopReason | None:
    if interrupted:
        return StopReason.INTERRUPTED
    if not state.finite.all() and (done or not state.finite.any()):
        return StopReason.NON_FINITE
    return StopReason.FINISHED if done else None


def _due(index: int, every: int) -> bool:
    return every > 0 and index % every == 0


def _ascender(spec: AscentSpec) -> Ascender:
    low, high = spec.bounds
    return Ascender(
        spec.pixels.planar_shape,
        rule=spec.optimizer,
        mean=spec.pixels.mean,
        scale=spec.pixels.scale,
        layout=Layout(spec.pixels.layout),
        normalization=spec.gradient_normalization,
        weight_decay=spec.weight_decay,
        low=low,
        high=high,
    )


def _norms(gradient: Float32, scale: Float32) -> npt.NDArray[np.float64]:
    """The length of the pixel gradient of each image, as `Ascender.step` returns it."""
    pixel_gradient = gradient.astype(np.float64) * np.float64(scale).reshape(-1, 1, 1)
    norms: npt.NDArray[np.float64] = np.sqrt(np.square(pixel_gradient).sum(axis=(1, 2, 3)))
    return norms
