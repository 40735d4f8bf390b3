"""Kitty's graphics protocol: pictures by number, which the terminal keeps and shows where it is told."""

import os

from rich.console import RenderResult

from gradserve import images
from gradserve.cli.previews.drawing import Cell, over, png

_CHUNK = 4096
"""Characters that one command may bring."""

_QUIET = "q=2"
"""Answers would come as if they were typed."""


class Kitty:
    """See `Drawer`. A picture is sent once; shown again, it is only told where."""

    band = 1

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self._number = os.getpid()
        """Of the picture: a new one takes the place of the last."""
        self._sent: images.Picture | None = None

    def draw(self, picture: images.Picture, columns: int, lines: int) -> RenderResult:
        """See `Drawer`."""
        sent = "" if picture is self._sent else self._transmitted(picture)
        self._sent = picture
        yield from over(sent + _command(f"a=p,i={self._number},p=1,c={columns},r={lines},C=1,{_QUIET}"), lines)

    def _transmitted(self, picture: images.Picture) -> str:
        data = png(picture)
        chunks = [data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)]
        keys = [f"a=t,f=100,i={self._number},{_QUIET},m=1", *["m=1"] * (len(chunks) - 1)]
        keys[-1] = keys[-1].replace("m=1", "m=0")
        return "".join(map(_command, keys, chunks))


def _command(keys: str, data: str = "") -> str:
    return f"\x1b_G{keys};{data}\x1b\\"
