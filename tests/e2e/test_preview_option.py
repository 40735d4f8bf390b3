"""`--preview`, seen by a terminal that knows its protocol."""

import subprocess

import numpy as np
import pytest
from support import terminal_pictures
from support.paths import MODELS

from gradserve import images
from gradserve.cli.previews.strip import fitted

ASCENT = ("ascend", MODELS / "digits", "--objective", "logits:7", "--count", "1", "--steps", "24", "--image-every", "8")
IMAGE = images.ImageDescription(channels="GREY", mean=(0.2268,), std=(0.33,))
CELL = (9, 17)
LINES = 20
"""Half of the terminal's 40."""


def expected(pixels, height: int) -> np.ndarray:
    """The picture as high as its lines, on whole characters."""
    shown = np.asarray(fitted(images.to_picture(pixels, IMAGE), height))
    wide = np.zeros((height, -(-shown.shape[1] // CELL[0]) * CELL[0], 3), np.uint8)
    wide[:, : shown.shape[1]] = shown
    return wide


@pytest.mark.parametrize(
    ("option", "terminal"),
    [("auto", {"TERM": "xterm-kitty"}), ("iterm2", {"TERM": "xterm"}), (None, {"TERM": "xterm", "TERM_PROGRAM": "WezTerm"})],
)
def test_a_terminal_gets_the_very_picture(tmp_path, option, terminal):
    file = tmp_path / "seven.npy"
    command = terminal_pictures.command(*ASCENT, "-o", file, "--preview", *([option] if option else []))
    text = terminal_pictures.run(command, {"TMUX": "", "STY": "", "LC_TERMINAL": "", **terminal}, cell=CELL)
    read = terminal_pictures.kitty if option == "auto" else terminal_pictures.iterm2
    pictures, places = read(text)
    last = expected(np.load(file)[0], LINES * CELL[1])
    np.testing.assert_array_equal(pictures[-1], last)
    names = ("c", "r") if option == "auto" else ("width", "height")
    assert [places[-1][name] for name in names] == [str(last.shape[1] // CELL[0]), str(LINES)]


def test_sixels_are_the_picture_but_for_its_256_colours(tmp_path):
    file = tmp_path / "seven.npy"
    command = terminal_pictures.command(*ASCENT, "-o", file, "--preview", "sixel")
    *_, last = terminal_pictures.sixel(terminal_pictures.run(command, {"TERM": "xterm"}, cell=CELL))
    rows = LINES * CELL[1] // 6 * 6
    assert last.shape == (rows, *expected(np.load(file)[0], rows).shape[1:])
    difference = last.astype(int) - expected(np.load(file)[0], rows)
    assert np.abs(difference).max() <= 2, "whole percents are 2.55 levels apart"


@pytest.mark.parametrize("name", ["kitty", "iterm2", "sixel", "blocks"])
def test_what_is_no_terminal_gets_none(tmp_path, name):
    command = terminal_pictures.command(*ASCENT, "-o", tmp_path / "seven.npy", "--preview", name)
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    assert "\x1b" not in done.stdout + done.stderr
    forced = subprocess.run(
        [*map(str, command)],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "TERM": "xterm-kitty", "FORCE_COLOR": "1"},
    )
    assert not terminal_pictures.ANY.search(forced.stdout + forced.stderr)


def test_no_other_name_will_do(tmp_path):
    command = terminal_pictures.command(*ASCENT, "-o", tmp_path / "seven.npy", "--preview", "braille")
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "argument --preview: invalid choice: 'braille'" in done.stderr
