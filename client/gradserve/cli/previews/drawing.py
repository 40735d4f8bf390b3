"""What every way to draw has in common."""

import io
from base64 import standard_b64encode
from typing import NamedTuple, Protocol

from rich.console import RenderResult
from rich.segment import ControlType, Segment

from gradserve import images


class Cell(NamedTuple):
    """Pixels of a character."""

    width: int
    height: int


class Drawer(Protocol):
    """One way to draw a picture in a terminal."""

    cell: Cell
    """Pixels for each character."""
    band: int
    """Rows of pixels that are drawn at once: a picture has a whole number of them."""

    def draw(self, picture: images.Picture, columns: int, lines: int) -> RenderResult:
        """A picture.

        Args:
            picture: As many pixels as fit; the same object as before if nothing has changed.
            columns: Characters that it covers, side by side.
            lines: The same, one below the other.
        """


def over(text: str, lines: int) -> RenderResult:
    """Empty lines, and what draws over them from their upper left corner.

    Rich counts only the lines: it takes what is drawn for a control code, and so leaves it as it is.
    """
    for _ in range(lines - 1):
        yield Segment.line()
    up = f"\x1b[{lines - 1}A" if lines > 1 else ""
    yield Segment(f"\x1b7\r{up}{text}\x1b8", control=[(ControlType.CARRIAGE_RETURN,)])
    yield Segment.line()


def png(picture: images.Picture) -> str:
    """A PNG file as base64."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return standard_b64encode(file.getvalue()).decode()
