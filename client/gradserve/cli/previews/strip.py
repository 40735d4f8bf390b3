"""Pictures side by side, as large as there is room."""

from collections.abc import Sequence

from PIL import Image
from rich.console import Console, ConsoleOptions, RenderResult

from gradserve import Step, images
from gradserve.cli.previews.drawing import Drawer
from gradserve.runs import Run

_GAP = 1
"""Characters between two pictures."""


class Strip:
    """The latest image of each run that has one, side by side: those that still run go before.

    Args:
        runs: What to show.
        width: Characters.
        height: Lines.
        drawer: How.
    """

    def __init__(self, runs: Sequence[Run], width: int, height: int, drawer: Drawer) -> None:
        self._runs, self._width, self._height, self._drawer = runs, width, height, drawer
        self._made: tuple[tuple[int, list[Step]], images.Picture] | None = None
        """The last picture, and of what it is."""

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(self._width, options.max_width)
        shown = [run for run in self._runs if run.frames and images.is_picture(run.pixels.shape[1:], run.description)]
        shown.sort(key=lambda run: run.last is not None and run.last.stop_reason is not None)
        if not shown:
            return
        frames = (width, [run.frames[-1] for run in shown])
        if self._made is None or self._made[0] != frames:
            self._made = frames, self._side_by_side(shown, width)
        picture = self._made[1]
        yield from self._drawer.draw(picture, picture.width // self._drawer.cell.width, self._height)

    def _side_by_side(self, shown: Sequence[Run], columns: int) -> images.Picture:
        """As many as fit; a whole number of characters wide."""
        cell, band = self._drawer.cell, self._drawer.band
        height = max(self._height * cell.height // band, 1) * band
        strip = Image.new("RGB", (columns * cell.width, height))
        left = taken = 0
        for run in shown:
            picture = fitted(run.picture(), height)
            if left + picture.width > strip.width and left:
                break
            strip.paste(picture, (left, 0))
            taken = -(-(left + picture.width) // cell.width) * cell.width
            left = taken + _GAP * cell.width
        return strip.crop((0, 0, min(taken, strip.width), height))


def fitted(picture: images.Picture, rows: int) -> images.Picture:
    """A picture of that many rows."""
    width = max(1, round(picture.width * rows / picture.height))
    return images.opaque(picture).convert("RGB").resize((width, rows), Image.Resampling.BOX)
