"""Runs of one graph as one: joined, split, and given up where that changes results."""

import logging

import numpy as np
import onnx_ir as ir
import pytest
from support.onnx_models import build, random

from gradserve_server.runtime.batch import Batch
from gradserve_server.runtime.runs import GraphRun
from gradserve_server.runtime.session import Session
from gradserve_server.runtime.work import Priority

APART = "y = Mul(x, w)"
"""Each sample for itself."""
MIXED = "m = ReduceMean<axes = [0]>(x) d = Sub(x, m) y = Mul(d, w)"
"""Each sees the others."""
DROPPED = "s = Sub(x, x) one = Slice(x, zero, two) y = Mul(one, w)"
"""Two samples at most."""


def batch_of(body, **weights):
    proto = build(body, inputs="float[N,3] x, float[A,B] w", outputs="float[N,3] y", weights=weights)
    return Batch(Session(ir.from_proto(proto), 1), frozenset({"w"}))


def works(batch, *sizes, same=False):
    feeds = [
        {"x": random(size, 3, seed=0 if same else index), "w": random(1, 3, seed=index)} for index, size in enumerate(sizes)
    ]
    return [GraphRun(batch._session, batch, feed, Priority.GRADIENT) for feed in feeds]


def check(results, runs):
    for result, work in zip(results, runs, strict=True):
        np.testing.assert_array_equal(result["y"], work.alone()["y"])


def test_joined_and_split():
    batch = batch_of(APART)
    runs = works(batch, 1, 3, 2)
    check(batch.run([work._feeds for work in runs]), runs)


def test_weights_of_each_sample_and_of_all_join():
    batch = batch_of(APART)
    one, each = works(batch, 2, 3)
    each._feeds["w"] = random(3, 3)
    check(batch.run([one._feeds, each._feeds]), [one, each])


def test_results_share_no_memory():
    batch = batch_of(APART)
    runs = works(batch, 1, 2)
    first, second = runs[0].together(runs)
    first, second = runs[0].together(runs)
    assert not np.shares_memory(first["y"], second["y"])
    assert first["y"].base is None


def test_what_is_not_finite_stays_with_its_own():
    batch = batch_of(APART)
    bad, good = works(batch, 1, 2)
    bad._feeds["x"][:] = np.nan
    check(batch.run([bad._feeds, good._feeds]), [bad, good])


def test_the_first_batch_is_compared_and_the_next_only_run_together(monkeypatch):
    batch = batch_of(APART)
    runs = works(batch, 1, 2)
    check(runs[0].together(runs), runs)
    assert (batch.tried, batch.allowed) == (True, True)
    with monkeypatch.context() as patch:
        patch.delattr(GraphRun, "alone")
        results = runs[0].together(runs)
    check(results, runs)


@pytest.mark.parametrize(
    ("body", "weights"),
    [(MIXED, {}), (DROPPED, {"zero": np.array([0]), "two": np.array([2])})],
    ids=["samples see one another", "an output without the batch"],
)
def test_a_graph_that_a_batch_changes_runs_one_by_one(caplog, body, weights):
    batch = batch_of(body, **weights)
    runs = works(batch, 1, 2)
    assert runs[0].group() == runs[1].group() != None  # noqa: E711
    with caplog.at_level(logging.WARNING):
        check(runs[0].together(runs), runs)
    assert "one by one" in caplog.text
    assert [work.group() for work in runs] == [None, None]
    check(runs[0].together(runs), runs)  # it may have been put together before that was known


@pytest.mark.parametrize("doubt", ["same inputs", "nan"])
def test_what_shows_no_difference_decides_nothing(doubt):
    batch = batch_of(MIXED)
    runs = works(batch, 2, 2, same=doubt == "same inputs")
    if doubt == "nan":
        runs[0]._feeds["x"] = np.full((2, 3), np.nan, np.float32)
    check(runs[0].together(runs), runs)
    assert (batch.tried, batch.allowed) == (False, True)


def test_only_the_same_shapes_and_types_are_of_one_group():
    batch, other = batch_of(APART), batch_of(APART)
    feeds = {"x": random(2, 3), "w": random(1, 3)}
    group = GraphRun(batch._session, batch, feeds, Priority.GRADIENT).group()
    same = {"w": random(5, 3), "x": random(5, 3)}
    assert GraphRun(batch._session, batch, same, Priority.ASCENT).group() == group
    for differs in (
        (other, feeds),
        (batch, feeds | {"x": random(2, 4)}),
        (batch, feeds | {"x": random(2, 3, dtype="float64")}),
    ):
        assert GraphRun(batch._session, *differs, Priority.GRADIENT).group() != group
    assert GraphRun(batch._session, None, feeds, Priority.GRADIENT).group() is None
