"""Pictures in a terminal: two pixels in each cell, the upper one as the ink of a half block, the lower one as its paper."""

from collections.abc import Sequence

import numpy as np
from PIL import Image
from rich.color import Color
from rich.color_triplet import ColorTriplet
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style

from gradserve import images
from gradserve.runs import Run

_UPPER = "▀"
_GAP = 1
"""Cells between two pictures."""


class Strip:
    """The latest image of each run that has one, side by side: those that still run go before.

    Args:
        runs: What to show.
        width: Cells.
        height: Lines.
    """

    def __init__(self, runs: Sequence[Run], width: int, height: int) -> None:
        self._runs, self._width, self._height = runs, width, height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, rows = min(self._width, options.max_width), 2 * self._height
        shown = [run for run in self._runs if run.frames and images.is_picture(run.pixels.shape[1:], run.description)]
        shown.sort(key=lambda run: run.last is not None and run.last.stop_reason is not None)
        strip = Image.new("RGB", (width, rows))
        left = 0
        for run in shown:
            picture = fitted(run.picture(), rows)
            if left + picture.width > width and left:
                break
            strip.paste(picture, (left, 0))
            left += picture.width + _GAP
        if left:
            yield from lines(strip.crop((0, 0, min(left - _GAP, width), rows)))


def fitted(picture: images.Picture, rows: int) -> images.Picture:
    """A picture of that many rows."""
    width = max(1, round(picture.width * rows / picture.height))
    return images.opaque(picture).convert("RGB").resize((width, rows), Image.Resampling.BOX)


def lines(picture: images.Picture) -> RenderResult:
    """A picture of an even number of rows, as text."""
    levels = np.asarray(picture)
    for upper, lower in zip(levels[::2], levels[1::2], strict=True):
        for above, below in zip(upper.tolist(), lower.tolist(), strict=True):
            ink, paper = (Color.from_triplet(ColorTriplet(*level)) for level in (above, below))
            yield Segment(_UPPER, Style(color=ink, bgcolor=paper))
        yield Segment.line()
