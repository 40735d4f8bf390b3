"""One picture, or a contact sheet of several with their captions."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from gradserve import images
from gradserve.outputs.style import Style
from gradserve.runs import Run

__all__ = ["laid_out", "write"]

_WIDEST = 8
"""Images of one objective side by side."""


def write(path: Path, runs: Sequence[Run], style: Style) -> None:
    """Writes a picture by itself, or a contact sheet: image by image, each with all its frames if it is a film."""
    rows = [list(_row(run, index, style)) for run in runs for index in range(run.count)]
    images.write(path, laid_out(rows, runs, style))


def laid_out(rows: Sequence[Sequence[tuple[images.Picture, str]]], runs: Sequence[Run], style: Style) -> images.Picture:
    """The one picture; or all, each row its own line of the sheet if that is what suits.

    Args:
        rows: Pictures and captions: a row for each image of each run.
        runs: Whose these are.
        style: How.
    """
    tiles = [tile for row in rows for tile in row]
    if len(tiles) == 1:
        return tiles[0][0]
    if any(run.line for run in runs):
        return images.contact_sheet(*_in_lines(rows, runs))
    frames, count = len(rows[0]), len(rows) // len(runs)
    columns = frames if frames > 1 else count if len(runs) > 1 and 1 < count <= _WIDEST else None
    return images.contact_sheet(tiles, columns=style.columns or columns)


def _in_lines(
    rows: Sequence[Sequence[tuple[images.Picture, str]]], runs: Sequence[Run]
) -> tuple[list[tuple[images.Picture, str] | None], int]:
    """The tiles with gaps at the ends of shorter lines, and how many columns that makes."""
    lines: dict[str, list[tuple[images.Picture, str]]] = {}
    whose = [run for run in runs for _ in range(run.count)]
    for run, row in zip(whose, rows, strict=True):
        lines.setdefault(run.line, []).extend(row)
    columns = max(map(len, lines.values()))
    return [tile for line in lines.values() for tile in (*line, *[None] * (columns - len(line)))], columns


def _row(run: Run, index: int, style: Style) -> Iterator[tuple[images.Picture, str]]:
    for step in run.frames if style.film else run.frames[-1:]:
        yield run.tile(index, step, style.zoom)
