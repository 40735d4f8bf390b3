"""iTerm2's inline images: a whole file in one command."""

from rich.console import RenderResult

from gradserve import images
from gradserve.cli.previews.drawing import Cell, over, png


class Iterm2:
    """See `Drawer`."""

    band = 1

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self._picture: images.Picture | None = None
        self._data = ""

    def draw(self, picture: images.Picture, columns: int, lines: int) -> RenderResult:
        """See `Drawer`."""
        if picture is not self._picture:
            self._picture, self._data = picture, png(picture)
        keys = f"inline=1;width={columns};height={lines};preserveAspectRatio=0"
        yield from over(f"\x1b]1337;File={keys}:{self._data}\x07", lines)
