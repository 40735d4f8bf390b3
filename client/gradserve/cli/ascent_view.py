"""What there is to see of ascents: bars and pictures while they run, then a table."""

from collections.abc import Sequence
from types import TracebackType

import numpy as np
from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from gradserve import ModelDescription, StopReason
from gradserve.cli import console, previews
from gradserve.runs import Run

_EARLY: dict[str, str] = {
    StopReason.NON_FINITE: "a value or a gradient was not finite",
    StopReason.INTERRUPTED: "the server shuts down",
    StopReason.DEAD: "no gradient but zero in any step: dead, not grey; try --redirect-relu-steps 17",
}
"""Why an ascent made fewer steps than it was to make."""


class Bars:
    """A progress bar for each ascent, where there is a terminal to draw on, and one for all if they are many.

    Args:
        runs: What to watch.
        preview: How the latest images are drawn below, by name (`previews`); empty: not at all.
    """

    def __init__(self, runs: Sequence[Run], *, preview: str = "") -> None:
        terminal = console.progress()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}", markup=False),
            TimeRemainingColumn(),
            console=terminal,
            disable=not terminal.is_terminal,
        )
        self._pictures: previews.Strip | None = None
        if preview:
            drawer = previews.drawer(preview, terminal)
            self._pictures = previews.Strip(runs, terminal.width, max(4, terminal.height // 2), drawer)
        # More than fit on a screen: only those that run.
        self._crowded = len(runs) > (terminal.height // 2 if preview else terminal.height) - 3
        self._steps = {run: run.settings.get("steps", 0) for run in runs}
        self._all: TaskID | None = None
        if len(runs) > 1:
            self._all = self._progress.add_task(f"{len(runs)} ascents", total=sum(self._steps.values()), facts="")
        self._bars = {
            run: self._progress.add_task(run.title, total=steps, facts="", visible=not self._crowded)
            for run, steps in self._steps.items()
        }
        self._live = Live(self, console=terminal, refresh_per_second=8, auto_refresh=terminal.is_terminal)
        self._is_shown = terminal.is_terminal

    def update(self, run: Run) -> None:
        """Shows the last report."""
        assert run.last is not None
        step = run.last
        facts = (
            f"value {console.number(step.value):>9}  |gradient| {console.number(step.gradient_norm):>9}  "
            f"{run.steps_per_second:6.0f} steps/s"
        )
        running = step.stop_reason is None
        self._progress.update(self._bars[run], completed=step.index, facts=facts, visible=running or not self._crowded)
        if self._all is not None:
            ended = sum(one.last is not None and one.last.stop_reason is not None for one in self._steps)
            made = sum(
                self._steps[one] if one.last and one.last.stop_reason else one.last.index if one.last else 0
                for one in self._steps
            )
            rate = sum(one.steps_per_second for one in self._steps if one.last and one.last.stop_reason is None)
            facts = f"{ended} of {len(self._steps)} done  {rate:6.0f} steps/s"
            self._progress.update(self._all, completed=made, facts=facts)

    def __rich__(self) -> Group:
        return Group(self._progress, *([self._pictures] if self._pictures is not None else []))

    def __enter__(self) -> "Bars":
        if self._is_shown:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._is_shown:
            self._live.stop()


# ---- results ---------------------------------------------------------------------------------------------------------


def say_if_stretched(run: Run) -> None:
    """Pictures of what has no described range are stretched."""
    if run.tensor is not None and run.tensor.image is None:
        console.note(
            f"input '{run.tensor.name}' has no described range: pictures are stretched from smallest to largest value"
        )


def show(runs: Sequence[Run], description: ModelDescription, *, as_json: bool) -> None:
    """Prints where each ascent began and ended, and what its picture is worth."""
    rows = [
        {
            "objective": run.name,
            "label": run.label,
            "image": index,
            "steps": run.last.index,
            "first_value": run.first.values[index],
            "value": run.last.values[index],
            **{f"as_{ending[1:]}": values[index] for ending, values in run.as_picture.items()},
            "gradient_norm": run.last.gradient_norms[index],
            "seconds": run.ended - run.began,
            "stop_reason": _ended(run, index),
        }
        for run in runs
        if run.first is not None and run.last is not None
        for index in range(run.count)
    ]
    if as_json:
        console.print_json({"model": description.name, "version": description.version, "images": rows})
    else:
        words = {"objective", "label", "stop_reason"}
        columns = {name: name.replace("_", " ") for name in rows[0] if name != "label" or any(r["label"] for r in rows)}
        console.show(
            console.table(
                f"ascents on {description.name} version {description.version}",
                list(columns.values()),
                [[row.get(name) for name in columns] for row in rows],
                right=[columns[name] for name in columns.keys() - words],
            )
        )
    _say_difference(runs)
    for run in runs:
        _say_why(run)


def _ended(run: Run, index: int) -> str:
    """Why one image changes no more: it may be dead, or done, where others of its run are not."""
    assert run.last is not None
    if run.is_dead(index):
        return str(StopReason.DEAD)
    is_done = run.last.reached is not None and run.last.reached[index]
    return str(StopReason.REACHED if is_done and run.last.stop_reason is StopReason.FINISHED else run.last.stop_reason)


def _say_why(run: Run) -> None:
    """What went wrong with which images."""
    which: dict[str, list[int]] = {}
    for index in range(run.count):
        which.setdefault(_ended(run, index), []).append(index)
    for reason, indices in which.items():
        numbers = "" if len(indices) == run.count else "".join(f" #{index}" for index in indices)
        if reason in _EARLY and run.last is not None:
            console.note(f"{run.name}{numbers}: stopped at step {run.last.index}: {_EARLY[reason]}")


def _say_difference(runs: Sequence[Run]) -> None:
    """What eight bits a channel cost: of several images, the one that it cost most. The table has all."""
    measured = [(run, index) for run in runs if run.as_picture and run.last is not None for index in range(run.count)]
    if not measured:
        return
    run, index = max(measured, key=lambda one: _lost(*one))
    assert run.last is not None
    endings: dict[str, list[str]] = {}
    for ending, values in run.as_picture.items():
        endings.setdefault(console.number(values[index]), []).append(ending)
    pictures = "; ".join(f"as 8-bit picture ({' '.join(names)}) {value}" for value, names in endings.items())
    number = f" #{index}" if run.count > 1 else ""
    which = "the largest difference: " if len(measured) > 1 else ""
    console.note(f"{which}{run.title}{number}: value {console.number(run.last.values[index])}; {pictures}")


def _lost(run: Run, index: int) -> float:
    """The largest share of its value that an image lost or won by becoming a picture."""
    assert run.last is not None
    value = run.last.values[index]
    pictures = np.array([values[index] for values in run.as_picture.values()])
    return float(
        (np.abs(pictures - value) / np.maximum(np.maximum(np.abs(pictures), abs(value)), np.finfo(float).tiny)).max()
    )
