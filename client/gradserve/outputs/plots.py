"""How objectives grew, drawn by matplotlib."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradserve.errors import BackendMissing
from gradserve.outputs.style import Style
from gradserve.runs import Run

__all__ = ["figure", "write"]

_NAMED = 12
"""More lines than that have no legend: it would hide them."""


def write(path: Path, runs: Sequence[Run], _style: Style) -> None:
    """Draws the value of each image over the steps."""
    drawing = figure()
    axes = drawing.add_subplot(xlabel="step", ylabel="objective")
    for run in runs:
        steps = [step.index for step in run.history]
        for index in range(run.count):
            name = f"{run.title} #{index}" if run.count > 1 else run.title
            axes.plot(steps, [step.values[index] for step in run.history], label=name, linewidth=1)
    if sum(run.count for run in runs) <= _NAMED:
        axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    drawing.savefig(path)


def figure() -> Any:
    """An empty `matplotlib.figure.Figure`.

    Raises:
        BackendMissing: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        msg = 'a plot needs matplotlib: pip install "gradserve[plots]"; .csv needs nothing'
        raise BackendMissing(msg) from error
    return Figure(figsize=(8, 4.5), layout="constrained")
