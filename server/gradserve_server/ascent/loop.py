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
    run: Callable[[], None],
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
        run: Reads `batch`, writes `values` and `gradient`; raises CallCancelled where it had to wait, and one of `signals`
            said yes before its turn came.
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
    return _steps(spec, ascender, state, run, batch, values, gradient, identity, signals)


def _steps(
    spec: AscentSpec,
    ascender: Ascender,
    state: State,
    run: Callable[[], None],
    batch: Float32,
    values: Float32,
    gradient: Float32,
    identity: Callable[[], Mapping[str, str]],
    signals: Signals,
) -> Iterator[Step]:
    pixels, first = spec.pixels, state.index
    model_batch, model_gradient = pixels.buffer(batch), pixels.buffer(gradient)
    jitter = spec.offsets(first)
    for index in range(first, spec.steps + 1):
        if signals.stop():
            return
        done = index == spec.steps
        offsets = None if done else next(jitter)
        ascender.prepare(state.image, offsets, model_batch)
        seen = _runs(run, values, gradient)
        if not seen and signals.stop():
            return
        interrupted = not seen or (not done and signals.interrupt())
        last = done or interrupted
        # A copy of each before the step, which changes them in place.
        saved = interrupted or _due(index, spec.checkpoint_every) or (done and spec.checkpoint_every > 0)
        checkpoint = state.save(identity()) if saved else None
        picture = pixels.from_planar(state.image) if last or _due(index, spec.image_every) else None
        norms = _norms(pixels.to_planar(gradient), pixels.scale) if last else state.step(ascender, model_gradient, offsets)
        state.finite &= np.isfinite(norms) & np.isfinite(values)
        reason = _reason(state, done=done, interrupted=interrupted)
        if reason is not None and picture is None:
            picture = pixels.from_planar(state.image)
        if reason or saved or picture is not None or index == first or _due(index, spec.report_every):
            yield Step(index, values.astype(np.float64), norms, picture, reason, checkpoint)
        if reason is not None:
            return


def _runs(run: Callable[[], None], values: Float32, gradient: Float32) -> bool:
    """Runs the model; where a signal came before its turn, says no, and there are no numbers."""
    try:
        run()
    except CallCancelled:
        values.fill(np.nan)
        gradient.fill(np.nan)
        return False
    return True


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
