"""The loop: a generator that calls the kernels and one gradient function."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from gradserve import Step
from gradserve.errors import CallCancelled
from gradserve_server.ascent.canvas import Canvas
from gradserve_server.ascent.climb import NEVER, Climb, Signals
from gradserve_server.ascent.spec import AscentSpec
from gradserve_server.ascent.state import State

Float32 = npt.NDArray[np.float32]
Measured = npt.NDArray[np.float64]


def _once() -> bool:
    """No other run."""
    return False


Run = Callable[[Callable[[], bool]], None]


def ascend(
    spec: AscentSpec,
    run: Run,
    canvas: Canvas,
    values: Float32,
    *,
    redirected: Run | None = None,
    measure: Callable[[], Measured] | None = None,
    identity: Callable[[], Mapping[str, str]] = dict,
    signals: Signals = NEVER,
    weigh: Callable[[float], None] | None = None,
) -> Iterator[Step]:
    """Makes the objective grow, step by step.

    Report k is about the image after k updates. So `steps` updates take `steps` + 1 runs of the model, and the last report,
    whose image is never transformed, has the value of the very picture that it delivers.

    A step whose gradient is NaN or infinite leaves that image as it is; once every image has met one, the run ends. The same
    holds for images that have reached `stop_at`.

    A checkpoint at k holds what step k reads: an ascent that goes on from it begins with report k.

    Args:
        spec: What to do.
        run: Runs the model between what `canvas.exchange` names, writes `values`, calls the function that it is given, and
            does all that again for as long as that says yes; raises CallCancelled where it had to wait, and one of `signals`
            said yes before its turn came.
        canvas: What changes.
        values: The objective, [N].
        redirected: Takes the place of `run` in the first `redirect_relu_steps` steps.
        measure: Of the images that the canvas has shown, what `stop_at` measures, [N]; may raise what `run` raises.
            None: their objective.
        identity: Says what a checkpoint of this ascent must be compared with; asked where there is a checkpoint.
        signals: Asked in each step.
        weigh: Told, before each run, after which share of the steps it is; None where no scale of the objective changes.

    Returns:
        Reports of the start, of every `report_every` steps, and of the end.

    Raises:
        InvalidAscent: The checkpoint in `spec.resume` is of another ascent, or damaged.
    """
    state = State.of(spec, canvas)
    if spec.resume is not None:
        state.restore(spec.resume, identity(), spec)
    is_measured = measure is not None or (spec.stop_at is not None and spec.is_transformed)
    climb = Climb(spec, state, values, identity, signals, weigh, is_measured=is_measured)

    def measure_objective() -> Measured:
        run(_once)
        return climb.seen()

    return _steps(climb, run, redirected, measure or measure_objective)


def _steps(climb: Climb, run: Run, redirected: Run | None, measure: Callable[[], Measured]) -> Iterator[Step]:
    while True:
        try:
            if climb.shows_for_measuring():
                climb.judge(measure())
            if not climb.prepare():
                return
            current = redirected if redirected is not None and climb.redirects else run
            current(climb.advance)
            if climb.shows_best():
                run(_once)
            climb.deliver()
        except CallCancelled:  # a signal came before the turn of a run
            climb.ends_unseen()
        if climb.report is not None:
            yield climb.report
            if climb.report.stop_reason is not None:
                return
        elif climb.is_over:
            return
