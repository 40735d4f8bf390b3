"""An ascent in a notebook with a bar and a button, by ipywidgets themselves."""

import io
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from gradserve import Sgd, StopReason, notebook
from gradserve import objectives as O
from gradserve.errors import BackendMissing, UnknownLayer

SEVEN = O.unit("logits", 7)


class Held:
    """An engine whose ascents take a step only when they are told to."""

    def __init__(self, engine):
        self._engine, self.go, self.closed = engine, threading.Semaphore(0), threading.Event()

    def inspect(self, model, *, version=""):
        return self._engine.inspect(model, version=version)

    def ascend(self, model, objective, **settings):
        try:
            for step in self._engine.ascend(model, objective, **settings):
                assert self.go.acquire(timeout=60)
                yield step
        finally:
            self.closed.set()


def shown(live):
    """The widgets below the cell: picture, bar, button, value."""
    picture, row, value = live._box.children
    return picture, *row.children, value


def levels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("L"))


def test_it_shows_picture_bar_and_value_while_it_runs(engine):
    held = Held(engine)
    live = notebook.start(held, "digits", SEVEN, steps=8, image_every=1, count=2)
    picture, bar, button, value = shown(live)
    pictures = []
    picture.observe(lambda change: pictures.append(levels(change["new"])), "value")
    held.go.release(9)
    run = live.wait(60)
    assert (run.last.stop_reason, run.last.index, run.label) == (StopReason.FINISHED, 8, "7")
    assert (bar.value, bar.max, button.disabled) == (8, 8, True)
    assert value.value.startswith(f"step 8 of 8: value {run.last.value:.5g}, ")
    np.testing.assert_array_equal(levels(picture.value), levels(run._repr_png_()))
    assert len({one.tobytes() for one in pictures}) >= 8
    assert "application/vnd.jupyter.widget-view+json" in live._repr_mimebundle_()


def test_the_button_ends_it_and_leaves_the_best(engine):
    held = Held(engine)
    # Steps that are too large: the last image is not the best.
    settings = {"steps": 1000, "image_every": 1, "count": 2, "optimizer": Sgd(50.0), "jitter": 1}
    live = notebook.start(held, "digits", -1 * SEVEN, **settings)
    _, bar, button, value = shown(live)
    held.go.release(4)
    with pytest.raises(TimeoutError, match="ascent objective: expected its end within 0.1 s, got none"):
        live.wait(0.1)
    button.click()
    held.go.release(2)
    run = live.wait(60)
    assert held.closed.wait(60), "the call is over"
    assert bar.value < 1000
    assert button.disabled
    assert run.last.stop_reason is None
    best = run.frames[-1]
    seen = np.stack([step.values for step in run.history])
    np.testing.assert_array_equal(best.values, seen.max(axis=0))
    np.testing.assert_array_equal(best.image_indices, seen.argmax(axis=0))
    assert value.value == f"stopped at step {run.last.index}; the best is of value {best.value:.5g}"
    every = [step.image for step in engine.ascend("digits", -1 * SEVEN, **{**settings, "steps": 8})]
    for n, index in enumerate(best.image_indices):
        np.testing.assert_array_equal(best.image[n], every[index][n])
    assert run._repr_png_() == shown(live)[0].value


def test_what_goes_wrong_is_shown_and_raised(engine):
    live = notebook.start(engine, "digits", O.unit("no such layer", 7))
    with pytest.raises(UnknownLayer, match="no such layer"):
        live.wait(60)
    *_, button, value = shown(live)
    assert value.value.startswith("UnknownLayer: ")
    assert button.disabled


def test_without_ipywidgets_it_says_so(monkeypatch, engine):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(BackendMissing, match=r'start: this needs ipywidgets: pip install "gradserve\[notebook\]"; `watch` '):
        notebook.start(engine, "digits", SEVEN)
