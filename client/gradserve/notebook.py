"""Ascents that can be watched in a notebook.

    from gradserve import notebook
    run = notebook.watch(client, "digits", O.unit("logits", 7), steps=256)

`watch` waits for the end. The picture below the cell changes meanwhile; `run` has everything in the end, and shows itself.
Needs IPython, which every notebook has, and no widgets.

    live = notebook.start(client, "digits", O.unit("logits", 7), steps=256)
    live

`start` does not wait: below the cell are the picture, its value, a bar, and a button that ends the ascent; `live.wait()`
gives the run. Needs ipywidgets: pip install "gradserve[notebook]".
"""

import threading
from dataclasses import replace
from typing import Any, Protocol, Unpack, cast

import numpy as np

from gradserve import images
from gradserve.ascents import AscentSettings, Step
from gradserve.descriptions import ModelDescription
from gradserve.errors import BackendMissing
from gradserve.objectives import Objective
from gradserve.runs import Ascends, Run, label_of

__all__ = ["Live", "Verbs", "start", "watch"]

_FRAMES = 64
"""How often the picture changes, where nobody says how often."""

_STEPS = 256
"""Of an ascent, where nobody says how many."""


class Verbs(Ascends, Protocol):
    """`gradserve.Client` or `gradserve_server.Engine`."""

    def inspect(self, model: str, *, version: str = "") -> ModelDescription:
        """Inputs, outputs and what was done to the file."""
        ...


def watch(
    verbs: Verbs, model: str, objective: Objective, *, name: str = "objective", **settings: Unpack[AscentSettings]
) -> Run:
    """Runs an ascent to its end, and shows its images as they change.

    Args:
        verbs: A client or an engine.
        model: Its name.
        objective: What to make large.
        name: What to call it.
        **settings: See `gradserve.AscentSettings`. Without `image_every` there are some 64 pictures.

    Returns:
        The run. Interrupting the cell ends the ascent, and `watch`.

    Raises:
        BackendMissing: IPython is not installed.
        GradserveError: As `ascend`.
    """
    display = _display()
    run = _run(verbs, model, objective, name, settings)
    shown = None
    for step in verbs.ascend(model, objective, **run.settings):
        run.take(step)
        if not _has_picture(run, step):
            continue
        if shown is None:
            shown = display(run, display_id=True)
        else:
            shown.update(run)
    return run


def start(
    verbs: Verbs, model: str, objective: Objective, *, name: str = "objective", **settings: Unpack[AscentSettings]
) -> "Live":
    """Begins an ascent, and goes on with the next cell while it runs.

    Args:
        verbs: A client or an engine.
        model: Its name.
        objective: What to make large.
        name: What to call it.
        **settings: See `gradserve.AscentSettings`. Without `image_every` there are some 64 pictures.

    Returns:
        What a notebook shows as picture, value, bar and button.

    Raises:
        BackendMissing: ipywidgets is not installed.
        GradserveError: As `inspect`. What `ascend` raises is shown, and raised by `Live.wait`.
    """
    widgets = _widgets()
    return Live(verbs, model, _run(verbs, model, objective, name, settings), widgets)


class Live:
    """An ascent that runs meanwhile. `start` makes one."""

    def __init__(self, verbs: Verbs, model: str, run: Run, widgets: Any) -> None:
        self._run, self._best = run, _Best()
        self._stopped, self._error = threading.Event(), cast("BaseException | None", None)
        self._picture = widgets.Image(format="png", value=b"")
        self._bar = widgets.IntProgress(min=0, max=run.settings.get("steps", _STEPS))
        self._value = widgets.Label("")
        self._button = widgets.Button(description="Stop", tooltip="End the ascent; its best image so far stays")
        self._button.on_click(lambda _button: self.stop())
        self._box = widgets.VBox([self._picture, widgets.HBox([self._bar, self._button]), self._value])
        self._thread = threading.Thread(target=self._climb, args=(verbs, model), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the ascent after the current step. Of each image the best that was shown so far becomes the run's latest."""
        self._stopped.set()

    def wait(self, seconds: float | None = None) -> Run:
        """The run, once it has ended.

        Args:
            seconds: How long to wait for that; None: for as long as it takes.

        Raises:
            TimeoutError: It has not ended by then.
            GradserveError: As `ascend`.
        """
        self._thread.join(seconds)
        if self._thread.is_alive():
            msg = f"ascent {self._run.name}: expected its end within {seconds:g} s, got none"
            raise TimeoutError(msg)
        if self._error is not None:
            raise self._error
        return self._run

    def _climb(self, verbs: Verbs, model: str) -> None:
        run = self._run
        try:
            for step in verbs.ascend(model, run.objective, **run.settings):
                run.take(step)
                self._show(step)
                if self._stopped.is_set() and step.stop_reason is None:
                    break  # and nothing holds the call any more, which ends it
        except BaseException as error:  # whatever it is, the caller's thread raises it
            self._error = error
            self._value.value = f"{type(error).__name__}: {error}"
        else:
            self._deliver()
        finally:
            self._button.disabled = True

    def _show(self, step: Step) -> None:
        self._bar.value = step.index
        self._value.value = (
            f"step {step.index} of {self._bar.max}: value {step.value:.5g}, {self._run.steps_per_second:.0f} steps/s"
        )
        if _has_picture(self._run, step):
            self._best.take(step)
            self._picture.value = self._run._repr_png_()

    def _deliver(self) -> None:
        """The best images in place of the latest, where it was stopped."""
        last, best = self._run.last, self._best.step
        if last is None or last.stop_reason is not None or best is None:
            return
        self._run.frames[-1] = best
        self._picture.value = self._run._repr_png_()
        self._value.value = f"stopped at step {last.index}; the best is of value {best.value:.5g}"

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """What a notebook shows."""
        return self._box._repr_mimebundle_(**options)


class _Best:
    """Of each image the one with the largest value."""

    def __init__(self) -> None:
        self.step: Step | None = None
        """As if it were one report."""

    def take(self, step: Step) -> None:
        """Looks at a report with images."""
        now = replace(step, checkpoint=None, image_indices=np.full(len(step.values), step.index))
        if self.step is None:
            self.step = now
            return
        better = now.values > self.step.values
        for name in ("values", "gradient_norms", "image", "alpha", "image_indices"):
            ours, theirs = getattr(self.step, name), getattr(now, name)
            if ours is not None:
                changed = ours.copy()
                changed[better] = theirs[better]
                now = replace(now, **{name: changed})
        self.step = now


def _run(verbs: Verbs, model: str, objective: Objective, name: str, settings: AscentSettings) -> Run:
    description = verbs.inspect(model, version=settings.get("version", ""))
    every = max(1, settings.get("steps", _STEPS) // _FRAMES)
    chosen = cast("AscentSettings", {"image_every": every, **settings})
    return Run(
        name, objective, description.changing_input(settings.get("input", "")), chosen, label_of(objective, description)
    )


def _has_picture(run: Run, step: Step) -> bool:
    return step.image is not None and images.is_picture(step.image.shape[1:], run.description)


def _display() -> Any:
    try:
        from IPython.display import display
    except ModuleNotFoundError as error:
        msg = "watch: this needs a notebook, and so IPython: pip install ipython"
        raise BackendMissing(msg) from error
    return display


def _widgets() -> Any:
    try:
        import ipywidgets
    except ModuleNotFoundError as error:
        msg = 'start: this needs ipywidgets: pip install "gradserve[notebook]"; `watch` needs none'
        raise BackendMissing(msg) from error
    return ipywidgets
