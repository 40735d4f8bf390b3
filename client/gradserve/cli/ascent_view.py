"""What there is to see of ascents: bars while they run, then pictures and a table."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gradserve import ModelDescription, Step, StopReason, TensorDescription, images
from gradserve.cli import console
from gradserve.cli.ascents import Ascent

_EARLY: dict[str, str] = {
    StopReason.NON_FINITE: "a value or a gradient was not finite",
    StopReason.INTERRUPTED: "the server shuts down",
    StopReason.DEAD: "no image had a gradient but zero in any step: dead, not grey; try --redirect-relu-steps 17",
}
"""Why an ascent made fewer steps than it was to make."""

_WIDEST = 8
"""Images of one objective side by side."""


class Bars:
    """A progress bar for each ascent, where there is a terminal to draw on."""

    def __init__(self, ascents: list[Ascent], steps: int) -> None:
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
        # More than fit on a screen: only those that run.
        self._crowded = len(ascents) > terminal.height - 2
        self._bars = {
            ascent: self._progress.add_task(ascent.name, total=steps, facts="", visible=not self._crowded)
            for ascent in ascents
        }

    def update(self, ascent: Ascent) -> None:
        """Shows the last report."""
        assert ascent.last is not None
        step = ascent.last
        facts = (
            f"value {console.number(step.value):>9}  |gradient| {console.number(step.gradient_norm):>9}  "
            f"{ascent.steps_per_second:6.0f} steps/s"
        )
        running = step.stop_reason is None
        self._progress.update(self._bars[ascent], completed=step.index, facts=facts, visible=running or not self._crowded)

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()


# ---- results ---------------------------------------------------------------------------------------------------------


def write(path: Path, asked: list[Ascent], tensor: TensorDescription, zoom: int | None) -> None:
    """Writes the pixels (.npy), or the picture or contact sheet (.png)."""
    if path.suffix.lower() == ".npy":
        np.save(path, np.concatenate([ascent.frames[-1].image for ascent in asked if ascent.frames[-1].image is not None]))
        return
    if tensor.image is None:
        console.note(f"input '{tensor.name}' has no described range: pictures are stretched from smallest to largest value")
    rows = [
        [
            (
                images.enlarge(images.to_picture(step.image[index], tensor.image, alpha=_alpha(step, index)), zoom),
                _caption(ascent, index, step.index, float(step.values[index])),
            )
            for step in ascent.frames
            if step.image is not None
        ]
        for ascent in asked
        for index in range(len(ascent.frames[-1].values))
    ]
    tiles = [tile for row in rows for tile in row]
    if len(tiles) == 1:
        tiles[0][0].save(path)
        return
    # A row of the sheet: the frames of one image, or else the images of one objective.
    frames, count = len(rows[0]), len(rows) // len(asked)
    row = frames if frames > 1 else count if len(asked) > 1 and 1 < count <= _WIDEST else None
    images.contact_sheet(tiles, columns=row).save(path)


def _alpha(step: Step, index: int) -> npt.NDArray[np.float32] | None:
    return None if step.alpha is None else step.alpha[index]


def _caption(ascent: Ascent, index: int, step: int, value: float) -> str:
    number = f" #{index}" if len(ascent.frames[-1].values) > 1 else ""
    frame = f"step {step}: " if len(ascent.frames) > 1 else ""
    dead = ascent.last is not None and ascent.last.dead is not None and ascent.last.dead[index]
    return f"{ascent.name}{number}\n{frame}{'dead: no gradient' if dead else console.number(value)}"


def show(asked: list[Ascent], description: ModelDescription, *, as_json: bool) -> None:
    """Prints where each ascent began and ended."""
    rows = [
        {
            "objective": ascent.name,
            "image": index,
            "steps": ascent.last.index,
            "first_value": ascent.first.values[index],
            "value": ascent.last.values[index],
            "gradient_norm": ascent.last.gradient_norms[index],
            "seconds": ascent.ended - ascent.began,
            "stop_reason": str(ascent.last.stop_reason),
        }
        for ascent in asked
        if ascent.first is not None and ascent.last is not None
        for index in range(len(ascent.last.values))
    ]
    if as_json:
        console.print_json({"model": description.name, "version": description.version, "images": rows})
    else:
        words = {"objective", "stop_reason"}
        columns = {name: name.replace("_", " ") for name in rows[0]}
        console.show(
            console.table(
                f"ascents on {description.name} version {description.version}",
                list(columns.values()),
                [list(row.values()) for row in rows],
                right=[columns[name] for name in columns.keys() - words],
            )
        )
    for row in rows:
        if row["stop_reason"] in _EARLY:
            console.note(f"{row['objective']}: stopped at step {row['steps']}: {_EARLY[row['stop_reason']]}")
