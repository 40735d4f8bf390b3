"""Benchmarks are run by hand, and break unseen: each must at least find what it measures."""

import os
import subprocess
import sys

import pytest
from support.paths import ROOT

BENCHMARKS = ROOT / "benchmarks"
NAMES = sorted(
    [path.stem for path in BENCHMARKS.glob("*.py") if path.stem != "turns"]
    + [path.parent.name for path in BENCHMARKS.glob("*/__main__.py")]
)


def run(name, *arguments):
    path = os.pathsep.join([str(BENCHMARKS), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", name, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})


def test_scripts_bench_runs_them():
    script = (ROOT / "scripts" / "bench").read_text()
    assert all(name in script for name in NAMES if name != "zoo")  # which checks gradients, and is no benchmark


@pytest.mark.torch
@pytest.mark.parametrize("name", NAMES)
def test_it_starts(name):
    pytest.importorskip("torch")
    done = run(name, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def test_eight_ascents_are_measured():
    done = run("batching", "--only", "digits", "--rounds", "1", "--seconds", "0.01", "--predictions", "0.3")
    assert done.returncode == 0, done.stderr
    assert "at once, batched, served" in done.stdout
