"""Which terminal shows pictures how. It is never asked: it might not answer, or be a file."""

import os
import struct
import sys
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import IO

from rich.console import Console

from gradserve.cli.previews.drawing import Cell, Drawer
from gradserve.cli.previews.half_blocks import HalfBlocks
from gradserve.cli.previews.iterm2 import Iterm2
from gradserve.cli.previews.kitty import Kitty
from gradserve.cli.previews.sixel import Sixel

AUTO, _BLOCKS = "auto", "blocks"

DRAWERS: Mapping[str, Callable[[Cell], Drawer]] = {_BLOCKS: HalfBlocks, "kitty": Kitty, "iterm2": Iterm2, "sixel": Sixel}
"""Ways to draw, by name."""

_BETWEEN = ("TMUX", "STY", "ZELLIJ")
"""Set by what stands between us and the terminal, and lets no pictures through."""

_KNOWN = (
    ("TERM", "xterm-kitty", "kitty"),
    ("TERM", "xterm-ghostty", "kitty"),
    ("TERM", "foot*", "sixel"),
    ("TERM", "mlterm*", "sixel"),
    ("TERM", "contour*", "sixel"),
    ("TERM_PROGRAM", "iTerm.app", "iterm2"),
    ("TERM_PROGRAM", "WezTerm", "iterm2"),
    ("LC_TERMINAL", "iTerm2", "iterm2"),  # the only one of these that ssh passes on, but for TERM
)
"""What terminals say of themselves in the environment, as variable and pattern, and how they show pictures."""

_CELL = Cell(6, 12)
"""Where the terminal does not say. Small: a picture that is smaller than its place does no harm."""


def drawer(name: str, console: Console, environment: Mapping[str, str] = os.environ) -> Drawer:
    """How to draw on a console.

    Args:
        name: One of `DRAWERS`, or `AUTO`.
        console: What is no terminal gets half blocks, if anything.
        environment: What the terminal says of itself.
    """
    if not console.file.isatty():
        return HalfBlocks(_CELL)
    return DRAWERS[_best(environment) if name == AUTO else name](_cell(console.file))


def _best(environment: Mapping[str, str]) -> str:
    if any(map(environment.get, _BETWEEN)):
        return _BLOCKS
    return next((name for key, pattern, name in _KNOWN if fnmatchcase(environment.get(key, ""), pattern)), _BLOCKS)


def _cell(terminal: IO[str]) -> Cell:
    """The size of a character, as the kernel knows it from the terminal."""
    if sys.platform == "win32":
        return _CELL
    import fcntl
    import termios

    try:
        found = fcntl.ioctl(terminal.fileno(), termios.TIOCGWINSZ, bytes(8))
    except OSError:
        return _CELL
    lines, columns, width, height = struct.unpack("4H", found)
    return Cell(width // columns, height // lines) if columns and lines and width >= columns and height >= lines else _CELL
