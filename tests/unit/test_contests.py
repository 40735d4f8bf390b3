"""Contenders of benchmarks that run in turn: whoever breaks must not take the others' numbers with it."""

import math
import time

import pytest
from support.contenders import DYING, FAILING, HANGING, STEADY
from turns import Contest


@pytest.mark.parametrize("at_once", [False, True])
def test_who_breaks_at_a_task_is_told_of_and_the_others_go_on(at_once):
    entrants = {"steady": STEADY, "dying": DYING, "failing": FAILING}
    with Contest(entrants, 1.0, at_once=at_once) as contest:
        a, b, c = (contest.turns(task, 3) for task in "abc")
    assert [outcome.seconds for outcome in a.values()] == [2.0, 0.5, 0.5]
    assert [outcome.report for outcome in a.values()] == ["a"] * 3
    assert (b["steady"].seconds, b["steady"].report) == (2.0, "b")
    assert {name: outcome.problem for name, outcome in b.items()} == {
        "steady": "",
        "dying": "the process died",
        "failing": "ValueError: b",
    }
    assert math.isnan(b["failing"].seconds)
    assert {name: outcome.problem for name, outcome in c.items()} == {
        "steady": "",
        "dying": "the process died",
        "failing": "",
    }


def test_who_is_not_ready_in_time_is_out():
    with Contest({"hanging": HANGING, "steady": STEADY}, 1.0) as contest:
        assert contest.turns("a", 1)["hanging"].seconds == 0.5
        started = time.monotonic()
        outcomes = contest.turns("b", 1, started + 2)
    assert outcomes["hanging"].problem == "did not answer in time"
    assert time.monotonic() - started < 20
