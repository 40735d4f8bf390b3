"""What the benchmark of GPUs writes down."""

import json
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from device.rows import Rows  # noqa: E402
from device.tasks import GRADIENT, Task  # noqa: E402
from turns import Outcome  # noqa: E402

pytestmark = pytest.mark.torch
TASK = Task(GRADIENT, 1)
EAGER, OURS = "PyTorch eager", "gradserve"


def did(seconds, number):
    return Outcome(seconds, {"result": np.full(3, number, np.float32), "bytes": None})


@pytest.fixture
def rows(tmp_path):
    return Rows({"device": "cpu"}, tmp_path / "rows.json")


def test_who_fails_the_second_time_keeps_the_first_numbers(rows):
    rows.add("net", TASK, {OURS: did(1.0, 2.0), EAGER: did(2.0, 2.0)}, EAGER)
    row = rows.add("net", TASK, {OURS: Outcome(math.nan, problem="the process died"), EAGER: did(2.0, 2.0)}, EAGER)
    assert row["ms"] == {OURS: 1000.0, EAGER: 2000.0}
    assert row["problems"] == {OURS: "not measured again: the process died"}


@pytest.mark.parametrize("times", [(2.0, 3.0), (3.0, 2.0)])
def test_of_two_times_the_faster_counts(rows, times):
    for seconds in times:
        row = rows.add("net", TASK, {EAGER: did(seconds, 2.0)}, EAGER)
    assert row["ms"] == {EAGER: 2000.0}


def test_a_wrong_result_has_no_time_and_is_told_of(rows):
    row = rows.add("net", TASK, {OURS: did(1.0, 3.0), EAGER: did(2.0, 2.0)}, EAGER)
    assert math.isnan(row["ms"][OURS])
    written = json.loads(rows.file.read_text())
    assert written["wrong"] == ["net, gradient, batch 1: its result is 5e-01 away from PyTorch's"]
    assert [row["name"] for row in written["rows"]] == ["net"]
