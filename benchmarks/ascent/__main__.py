"""Steps per second of gradient ascents: gradserve, in process and through a server, and PyTorch's best.

PYTHONPATH=benchmarks python -m ascent [--rounds 9] [--seconds 0.7] [--no-compile] [--only "digits CNN"]

Two loops on two networks, the same for everybody: the pixels of an image with jitter, and its spectrum with colours and six
random transforms (`loops.py`). PyTorch runs eager and compiled, in both memory formats, without gradients of the weights and
with BatchNorm folded; its transforms are sampled by one matrix, or one after the other; its fastest is the yardstick.
Contenders run in processes of their own, in turn, on the same cores; every time is the median of the turns.
"""

import argparse
import os
import tempfile
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from turns import Contender, Outcome, take_turns

from .loops import CASES, FOURIER, PIXELS

THREADS = len(os.sched_getaffinity(0))
AGREEMENT = 0.05
"""Relative difference between the gradients: float32 leaves some ReLUs on either side of their kink."""
HERE, SERVED = "gradserve, in process", "gradserve, through the server"


def main() -> None:
    """Runs the benchmark and prints its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="turns of each contender (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.7, help="of a turn (default: %(default)s)")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out (it needs minutes to set up)")
    parser.add_argument("--only", choices=CASES, help="one network")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    from speed import subjects
    from speed.suite import SUITE

    console = Console(width=100)
    for case in [options.only] if options.only else CASES:
        with tempfile.TemporaryDirectory() as folder:
            path = subjects.export(SUITE[case], Path(folder))
            for loop in (PIXELS, FOURIER):
                outcomes = take_turns(_contenders(path, case, loop, options.no_compile), options.rounds, options.seconds)
                _check(outcomes)
                console.print(_table(f"{case}: {loop}; one image, {THREADS} threads", outcomes))


def _contenders(path: Path, case: str, loop: str, no_compile: bool) -> dict[str, Contender]:
    from . import ours, theirs

    image = np.random.default_rng(0).normal(0, 0.5, (1, *CASES[case].shape)).astype(np.float32)
    contenders: dict[str, Contender] = {
        HERE: partial(ours.steps, path, image, case, loop, served=False),
        SERVED: partial(ours.steps, path, image, case, loop, served=True),
    }
    for setting in theirs.SETTINGS[loop]:
        if not (setting.compiled and no_compile):
            contenders[f"PyTorch, {setting}"] = partial(theirs.steps, image, case, loop, setting, THREADS)
    return contenders


def _check(outcomes: Mapping[str, Outcome]) -> None:
    reports = {name: outcome.report for name, outcome in outcomes.items() if not outcome.problem}
    reference = reports["PyTorch, eager"]
    for name, gradient in reports.items():
        difference = np.linalg.norm(gradient - reference) / np.linalg.norm(reference)
        assert difference < AGREEMENT, f"{name}: expected PyTorch's gradient, got one {difference:.1e} away"


def _table(title: str, outcomes: Mapping[str, Outcome]) -> Table:
    best = min(outcome.seconds for name, outcome in outcomes.items() if name.startswith("PyTorch") and not outcome.problem)
    table = Table(title=title)
    for heading in ("", "ms/step", "steps/s", "times PyTorch's best"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for name, outcome in outcomes.items():
        seconds = outcome.seconds
        row = (f"{seconds * 1e3:.2f}", f"{1 / seconds:.1f}", f"{best / seconds:.2f}")
        table.add_row(name, *(row if not outcome.problem else (outcome.problem, "", "")))
    return table


if __name__ == "__main__":
    main()
