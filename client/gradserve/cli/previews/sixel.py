"""Sixels, as the VT340 had them: six rows at a time, colour by colour, from a palette of 256."""

import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.console import RenderResult

from gradserve import images
from gradserve.cli.previews.drawing import Cell, over

_BAND = 6
_COLOURS = 256
_PERCENT = 100
_ZERO = ord("?")
"""The character of six pixels that are none of a colour's; bit k adds the pixel of row k."""
_RUN = re.compile(r"(.)\1{3,}")


class Sixel:
    """See `Drawer`."""

    band = _BAND

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self._picture: images.Picture | None = None
        self._text = ""

    def draw(self, picture: images.Picture, _columns: int, lines: int) -> RenderResult:
        """See `Drawer`."""
        if picture is not self._picture:
            self._picture, self._text = picture, encoded(picture)
        yield from over(self._text, lines)


def encoded(picture: images.Picture) -> str:
    """A picture whose height is a multiple of six."""
    few = picture.quantize(_COLOURS, dither=Image.Dither.NONE)
    palette = np.asarray(few.getpalette(), np.int64).reshape(-1, 3)
    levels = (palette * _PERCENT + 127) // 255
    colours = "".join(f"#{number};2;{red};{green};{blue}" for number, (red, green, blue) in enumerate(levels.tolist()))
    bands = np.asarray(few).reshape(-1, _BAND, few.width)
    size = f'"1;1;{few.width};{few.height}'
    return f"\x1bP0;1q{size}{colours}{'-'.join('$'.join(_passes(band)) for band in bands)}\x1b\\"


def _passes(band: npt.NDArray[np.uint8]) -> Iterator[str]:
    """Six rows, once for each colour that is in them."""
    weights = (1 << np.arange(_BAND))[:, np.newaxis]
    for colour in np.unique(band).tolist():
        bits = ((band == colour) * weights).sum(axis=0)
        characters = (bits + _ZERO).astype(np.uint8).tobytes().decode("ascii")
        yield f"#{colour}" + _RUN.sub(lambda run: f"!{len(run[0])}{run[1]}", characters)
