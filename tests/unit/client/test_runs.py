"""What a run remembers, and what several do side by side."""

import math
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradserve import Checkpoint, ImageDescription, ModelDescription, Step, StopReason, TensorDescription, records, runs
from gradserve import objectives as O
from gradserve.errors import CallError, InvalidAscent
from gradserve.runs import Run, label_of, run_all


def report(index: int, *, last: bool = False, image: bool = False, norm: float = 1.0) -> Step:
    pixels = np.full((1, 1, 2, 2), index, np.float32) if image else None
    return Step(index, np.array([float(index)]), np.array([norm]), pixels, StopReason.FINISHED if last else None)


def test_all_reports_are_remembered_and_of_very_many_an_even_choice(monkeypatch):
    monkeypatch.setattr(runs, "_MOST", 100)
    run = Run("a", O.unit("y", 0))
    for index in range(1001):
        run.take(report(index, last=index == 1000))
    indices = np.array([step.index for step in run.history])
    assert (indices[0], indices[-1]) == (0, 1000)
    assert 40 < len(indices) <= 100
    gaps = np.diff(indices)
    assert (gaps > 0).all()
    assert gaps.max() == gaps[0] == 16


@pytest.mark.parametrize(("film", "kept"), [(True, [0, 1, 2]), (False, [2])])
def test_a_film_keeps_every_image_others_the_latest(film, kept):
    run = Run("a", O.unit("y", 0), is_film=film)
    for index in range(3):
        run.take(report(index, image=True))
    assert [step.index for step in run.frames] == kept
    np.testing.assert_array_equal(run.pixels, np.full((1, 1, 2, 2), 2))


def test_without_images_there_are_no_pixels():
    with pytest.raises(ValueError, match="expected a report with images, got none yet"):
        Run("a", O.unit("y", 0)).pixels  # noqa: B018


def test_dead_is_what_the_last_report_says_is_dead():
    run = Run("a", O.unit("y", 0))
    assert not run.is_dead(0)
    run.take(report(0, norm=0.0))
    assert not run.is_dead(0), "a later step may have a gradient"
    run.take(replace(report(1, last=True), dead=np.array([True])))
    assert run.is_dead(0)


def test_labels_are_of_one_unit_of_an_output_that_has_them():
    y = TensorDescription("y", "float32", ("N", 2), labels=("ant", "bee"))
    x = TensorDescription("x", "float32", ("N", 3, 4, 4), ImageDescription())
    model = ModelDescription("m", "1", "", 17, (x,), (y,))
    assert label_of(O.unit("y", 1), model) == "bee"
    for objective in (O.unit("y", 2), O.unit("relu", 1), O.unit("y", 0) + O.unit("y", 1), O.channel("y", 1)):
        assert label_of(objective, model) == ""


def test_runs_go_side_by_side_and_an_error_ends_them_all():
    both = threading.Barrier(2, timeout=20)
    seen = []

    def start(_run):
        both.wait()
        yield report(0)
        yield report(1, last=True)

    two = [Run("a", O.unit("y", 0)), Run("b", O.unit("y", 1))]
    run_all(two, start, jobs=2, watch=lambda run: seen.append(run.name), cancel=lambda: None)
    assert sorted(seen) == ["a", "a", "b", "b"]
    assert all(run.last.stop_reason is StopReason.FINISHED for run in two)

    cancelled = threading.Event()

    def breaks(run):
        yield report(0)
        if run.name == "a":
            msg = "gone"
            raise CallError(msg)
        assert cancelled.wait(20)

    with pytest.raises(CallError, match="gone"):
        run_all(
            [Run("a", O.unit("y", 0)), Run("b", O.unit("y", 1))], breaks, jobs=2, watch=lambda _: None, cancel=cancelled.set
        )


def test_a_run_that_breaks_off_without_saying_so_is_an_error():
    with pytest.raises(CallError, match="ascent a: expected reports up to the end, got none after step 0"):
        run_all([Run("a", O.unit("y", 0))], lambda _: iter([report(0)]), jobs=1, watch=lambda _: None, cancel=lambda: None)


def recorded(values: list[float], **settings) -> dict[str, Any]:
    """The record of an ascent of one image that had these values."""
    model = ModelDescription("m", "1", "ab", 17, (TensorDescription("x", "float32", (1, 2)),), ())
    run = Run("y:0", O.unit("y", 0), settings=settings)
    for index, value in enumerate(values):
        reason = StopReason.NON_FINITE if index == len(values) - 1 else None
        run.take(Step(index, np.array([value]), np.array([value]), np.zeros((1, 2), np.float32), reason))
    return records.make(model, [run]).content["ascents"][0]


def test_what_is_not_finite_is_null_in_a_record():
    """JSON has no NaN: other readers would refuse the file."""
    ascent = recorded([1.0, math.nan])
    assert (ascent["values"], ascent["gradient_norms"], ascent["history"]) == ([None], [None], [[0, 1.0], [1, None]])


def test_a_record_begins_where_the_ascent_began():
    """It repeats the whole, not what was left at a checkpoint, and keeps no others on the way."""
    request = recorded([1.0], resume=Checkpoint(7, {}, {}), checkpoint_every=3)["request"]
    assert "resume" not in request
    assert request["checkpoint_every"] == 0


def test_which_input_an_ascent_changes_is_told_once():
    """The only one of floats, wherever it stands: for records, notebooks and commands alike."""
    ids, image = TensorDescription("ids", "int64", (1,)), TensorDescription("x", "float32", (1, 2))
    mask = TensorDescription("m", "float32", (1,))
    model = ModelDescription("m", "1", "ab", 17, (ids, image), ())
    run = Run("y:0", O.unit("y", 0))
    run.take(Step(0, np.zeros(1), np.zeros(1), np.zeros((1, 2), np.float32), StopReason.FINISHED))
    assert records.make(model, [run]).model["input"] == "x"
    assert model.changing_input("ids") == ids
    for inputs, name in [((ids,), ""), ((image, mask), ""), ((image,), "z")]:
        with pytest.raises(InvalidAscent, match="^input: expected the name of one float32 input among '"):
            replace(model, inputs=inputs).changing_input(name)
