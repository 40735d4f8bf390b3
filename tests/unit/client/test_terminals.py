"""Which terminal gets pictures, and how they are written."""

import io
import os
import pty
import struct
import termios
from fcntl import ioctl

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from support import terminal_pictures

from gradserve.cli import previews
from gradserve.cli.previews import iterm2, kitty, sixel
from gradserve.cli.previews.drawing import Cell

CELL = Cell(10, 20)


@pytest.fixture
def terminal():
    """A console on a pseudo-terminal of 80 by 24 characters of 10 by 20 pixels, and its other end."""
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 800, 480))
    with os.fdopen(slave, "w") as file, os.fdopen(master, "rb", buffering=0) as other:
        yield Console(file=file, color_system="truecolor"), other, slave


def picture(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def written(drawer: previews.Drawer, *pictures: Image.Image) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, legacy_windows=False)

    class Whole:
        def __init__(self, shown):
            self.shown = shown

        def __rich_console__(self, _console, _options):
            yield from drawer.draw(self.shown, 3, 2)

    for shown in pictures:
        console.print(Whole(shown))
    return file.getvalue()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "HalfBlocks"),
        ({"TERM": "xterm-256color"}, "HalfBlocks"),
        ({"TERM": "xterm-kitty"}, "Kitty"),
        ({"TERM": "xterm-ghostty"}, "Kitty"),
        ({"TERM": "foot-extra"}, "Sixel"),
        ({"TERM": "mlterm"}, "Sixel"),
        ({"TERM": "contour-latest"}, "Sixel"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "Iterm2"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "Iterm2"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "Iterm2"),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux,1,0"}, "HalfBlocks"),
        ({"TERM": "screen", "LC_TERMINAL": "iTerm2", "STY": "1.pts"}, "HalfBlocks"),
    ],
)
def test_a_terminal_is_known_by_what_it_says_of_itself(terminal, environment, expected):
    console, other, _ = terminal
    assert type(previews.drawer("auto", console, environment)).__name__ == expected
    console.file.write("end")
    console.file.flush()
    assert other.read(100) == b"end", "nothing is asked"


@pytest.mark.parametrize("name", previews.DRAWERS)
def test_a_name_says_how_but_not_to_what_is_no_terminal(terminal, name):
    assert type(previews.drawer(name, terminal[0], {"TERM": "dumb"})) is previews.DRAWERS[name]
    no_terminal = Console(file=io.StringIO(), force_terminal=True)
    assert type(previews.drawer(name, no_terminal, {"TERM": "xterm-kitty"})) is previews.DRAWERS["blocks"]


@pytest.mark.parametrize(
    ("size", "expected"),
    [((24, 80, 800, 480), (10, 20)), ((24, 80, 807, 489), (10, 20)), ((24, 80, 0, 0), (6, 12)), ((0, 0, 800, 480), (6, 12))],
)
def test_a_character_is_as_large_as_the_terminal_says(terminal, size, expected):
    console, _, slave = terminal
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", *size))
    assert previews.drawer("sixel", console).cell == expected


def test_kitty_gets_a_picture_once_and_is_told_where_it_is():
    first, second = picture(40, 30), picture(80, 200)
    sent, shown = terminal_pictures.kitty(written(kitty.Kitty(CELL), first, first, second))
    assert [np.array_equal(got, np.asarray(made)) for got, made in zip(sent, (first, second), strict=True)] == [True, True]
    assert len(shown) == 3
    assert {(place["c"], place["r"], place["C"], place["q"]) for place in shown} == {("3", "2", "1", "2")}


def test_iterm2_gets_a_whole_picture_each_time():
    first, second = picture(40, 30), picture(80, 200)
    got, how = terminal_pictures.iterm2(written(iterm2.Iterm2(CELL), first, first, second))
    for found, made in zip(got, (first, first, second), strict=True):
        np.testing.assert_array_equal(found, np.asarray(made))
    assert how == [{"inline": "1", "width": "3", "height": "2", "preserveAspectRatio": "0"}] * 3


@pytest.mark.parametrize("size", [(6, 1), (12, 7), (48, 300)])
def test_sixels_are_the_picture_in_256_colours_of_whole_percents(size):
    shown = picture(*size)
    (got,) = terminal_pictures.sixel(written(sixel.Sixel(CELL), shown))
    few = np.asarray(shown.quantize(256, dither=Image.Dither.NONE).convert("RGB")).astype(float)
    np.testing.assert_array_equal(got, np.round(np.floor(few * 100 / 255 + 0.5) * 255 / 100))


def test_sixels_of_few_colours_have_their_runs():
    levels = np.zeros((12, 40, 3), np.uint8)
    levels[5:, 3:] = 255
    text = written(sixel.Sixel(CELL), Image.fromarray(levels))
    np.testing.assert_array_equal(terminal_pictures.sixel(text)[0], levels)
    assert "!37" in text


@pytest.mark.parametrize("name", ["kitty", "iterm2", "sixel"])
def test_what_is_drawn_covers_its_lines_and_leaves_the_cursor_below(name):
    text = written(previews.DRAWERS[name](CELL), picture(36, 30))
    before, after = text.split("\x1b7", 1)
    assert before == "\n"
    assert after.startswith("\r\x1b[1A")
    assert after.endswith("\x1b8\n")
