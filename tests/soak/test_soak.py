"""The short form of `scripts/soak`: a server does not grow, and one that does is seen; and what counts as growing."""

import random

import pytest
from support.server_process import ServerProcess

from soak.__main__ import ARGUMENTS, module
from soak.criterion import Sample, judge
from soak.drive import drive
from soak.report import draw

SECONDS = 40
"""Of each run."""

LEAK_KIB = "1024"
"""For each gradient. Measured is what a third of a run leaves, from the median of the judged half's first third to that of
its last: more than the limit of 16 MiB from some fifty gradients in a run on, so that a slow machine sees it, too."""


@pytest.mark.parametrize("leak", [False, True], ids=["as it is", "with a leak"])
def test_growth_of_a_server(leak, tmp_path):
    environment = {"GRADSERVE_LEAK_KIB": LEAK_KIB}
    with ServerProcess(*ARGUMENTS, module=module(leak=leak), environment=environment) as server:
        run = drive(server, SECONDS, seed=0)
    assert run.failures == []
    grows = {verdict.measure for verdict in judge(run.samples) if not verdict.passed}
    assert grows & {"memory: growth, MiB"} == ({"memory: growth, MiB"} if leak else set())
    assert leak or not grows, judge(run.samples)
    draw(run, tmp_path / "soak.png", "a test")
    assert (tmp_path / "soak.png").stat().st_size > 10_000


# ---- the criterion ---------------------------------------------------------------------------------------------------

SAMPLES = 200
NOISE = random.Random(0)

SHAPES = {
    "flat": (lambda _: {}, set()),
    "noise": (lambda _: {"memory": 300 + NOISE.gauss(0, 5)}, set()),
    "a warm-up": (lambda t: {"memory": 300 + min(t, 0.4) * 500}, set()),
    "peaks": (lambda _: {"memory": 300 + 200 * (NOISE.random() < 0.03)}, set()),
    "fewer threads": (lambda t: {"threads": 60 - int(30 * t)}, set()),
    "a slow leak": (lambda t: {"memory": 300 + 60 * t}, {"memory: growth, MiB"}),
    "a fast leak": (lambda t: {"memory": 300 + 300 * t}, {"memory: growth, MiB", "memory: trimmed (max - mean), MiB"}),
    "half the time twice as much": (
        lambda t: {"memory": 300 + 100 * (int(t * 40) % 8 == 0)},
        {"memory: trimmed (max - mean), MiB"},
    ),
    "threads": (lambda t: {"threads": 60 + int(20 * t)}, {"threads: growth"}),
    "open files": (lambda t: {"files": 60 + int(20 * t)}, {"open files: growth"}),
}
"""By name: a process at each part of a run, and what must be found."""


@pytest.mark.parametrize("shape", SHAPES)
def test_what_counts_as_growing(shape):
    make, expected = SHAPES[shape]
    samples = [
        Sample(**{"seconds": i, "operations": 10 * i, "memory": 300, "threads": 60, "files": 60} | make(i / SAMPLES))
        for i in range(SAMPLES)
    ]
    assert {verdict.measure for verdict in judge(samples) if not verdict.passed} == expected
