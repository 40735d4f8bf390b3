"""Images while they change: in a terminal, and in a notebook."""

import io
import re
import sys
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from gradserve import ImageDescription, Step, StopReason, TensorDescription, notebook
from gradserve import objectives as O
from gradserve.cli.ascent_view import Bars
from gradserve.cli.previews import Strip
from gradserve.cli.previews.drawing import Cell
from gradserve.cli.previews.half_blocks import HalfBlocks
from gradserve.errors import BackendMissing
from gradserve.runs import Run

BLOCKS = HalfBlocks(Cell(6, 12))
RGB = TensorDescription("image", "float32", ("N", 3, 4, 4), ImageDescription())
CELL = re.compile(r"\x1b\[38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m(▀+)\x1b\[0m")


def run_of(pixels: np.ndarray, *, ended: bool = False) -> Run:
    run = Run("unit", O.unit("y", 0), RGB)
    reason = StopReason.FINISHED if ended else None
    run.take(Step(3, np.array([1.0]), np.array([1.0]), pixels[None].astype(np.float32), reason))
    return run


def drawn(*parts, width: int = 40) -> str:
    file = io.StringIO()
    Console(file=file, force_terminal=True, color_system="truecolor", width=width, legacy_windows=False).print(*parts)
    return file.getvalue()


def levels_of(text: str) -> np.ndarray:
    """The picture that a terminal would show: [rows, columns, 3]."""
    lines = []
    for line in text.splitlines():
        cells = [(list(map(int, found[:6])), len(found[6])) for found in CELL.findall(line)]
        if cells:
            upper = [numbers[:3] for numbers, count in cells for _ in range(count)]
            lower = [numbers[3:] for numbers, count in cells for _ in range(count)]
            lines += [upper, lower]
    return np.array(lines)


def test_a_terminal_shows_two_pixels_in_each_cell():
    levels = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)

    class Whole:
        def __rich_console__(self, console, options):
            yield from BLOCKS.draw(Image.fromarray(levels), 5, 3)

    np.testing.assert_array_equal(levels_of(drawn(Whole())), levels)


def test_pictures_stand_side_by_side_the_running_first_as_many_as_fit():
    red, blue = np.zeros((3, 4, 4)), np.zeros((3, 4, 4))
    red[0], blue[2] = 1, 1
    runs = [run_of(red, ended=True), Run("no image yet", O.unit("y", 0), RGB), run_of(blue)]
    shown = levels_of(drawn(Strip(runs, 40, 4, BLOCKS)))
    assert shown.shape == (8, 17, 3)
    assert (shown[:, :8] == [0, 0, 255]).all()
    assert (shown[:, 8] == 0).all()
    assert (shown[:, 9:] == [255, 0, 0]).all()
    assert levels_of(drawn(Strip(runs, 12, 4, BLOCKS), width=12)).shape == (8, 8, 3)
    assert drawn(Strip(runs[1:2], 40, 4, BLOCKS)).strip() == ""


def test_bars_have_value_rate_and_pictures():
    run = run_of(np.full((3, 4, 4), 0.5))
    run.settings["steps"] = 10
    bars = Bars([run, run_of(np.zeros((3, 4, 4)), ended=True)], preview="auto")
    bars.update(run)
    text = drawn(bars, width=120)
    for words in ("unit", "3/10", "value", "|gradient|", "steps/s", "2 ascents", "1 of 2 done"):
        assert words in re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert levels_of(text).size


class Shown:
    """What IPython's `display` is given."""

    def __init__(self) -> None:
        self.views: list[bytes] = []

    def __call__(self, view, *, display_id: bool) -> "Shown":
        assert display_id
        self.update(view)
        return self

    def update(self, view) -> None:
        self.views.append(view._repr_png_())


def test_a_notebook_shows_an_ascent_as_it_changes(monkeypatch, engine):
    shown, module = Shown(), ModuleType("IPython.display")
    module.display = shown
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    run = notebook.watch(engine, "digits", O.unit("logits", 7), steps=20, image_every=5, count=2)
    assert len(shown.views) == 5
    first, last = (np.asarray(Image.open(io.BytesIO(view)).convert("L")) for view in (shown.views[0], shown.views[-1]))
    assert first.shape == last.shape
    assert (first != last).mean() > 0.1
    assert (run.label, run.last.stop_reason, run.count) == ("7", StopReason.FINISHED, 2)


def test_without_ipython_it_says_so(monkeypatch, engine):
    monkeypatch.setitem(sys.modules, "IPython", None)
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    with pytest.raises(BackendMissing, match="pip install ipython"):
        notebook.watch(engine, "digits", O.unit("logits", 7))
