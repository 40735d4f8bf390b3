"""Two pixels in each character, the upper one as the ink of a half block, the lower one as its paper."""

import numpy as np
from rich.color import Color
from rich.color_triplet import ColorTriplet
from rich.console import RenderResult
from rich.segment import Segment
from rich.style import Style

from gradserve import images
from gradserve.cli.previews.drawing import Cell

_UPPER = "▀"


class HalfBlocks:
    """See `Drawer`."""

    band = 1

    def __init__(self, _cell: Cell) -> None:
        self.cell = Cell(1, 2)

    def draw(self, picture: images.Picture, _columns: int, _lines: int) -> RenderResult:
        """See `Drawer`."""
        levels = np.asarray(picture)
        for upper, lower in zip(levels[::2], levels[1::2], strict=True):
            for above, below in zip(upper.tolist(), lower.tolist(), strict=True):
                ink, paper = (Color.from_triplet(ColorTriplet(*level)) for level in (above, below))
                yield Segment(_UPPER, Style(color=ink, bgcolor=paper))
            yield Segment.line()
