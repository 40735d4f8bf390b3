"""The gradient of a logit with respect to the input, on the same cores: gradserve, and what people use otherwise.

PYTHONPATH=benchmarks python -m speed [NAME ...] [--batches 1 8] [--rounds 7] [--no-compile] [--json FILE]

Contenders run in processes of their own, in turn, with two threads each; times are medians of the turns. Before a time is
printed, its gradient has been compared with PyTorch's. PyTorch runs eager and compiled, in both memory formats, without
gradients of the weights and with BatchNorm folded, and as onnx2torch makes it of the exported file; its fastest is the
yardstick. `peak` is the share of the machine's matrix-multiply rate, measured by torch.mm in the same run; memory is what
the process takes above its loaded libraries.
"""

import argparse
import json
import math
import tempfile
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from turns import Outcome, take_turns

from . import contenders, subjects
from .suite import SUITE, Subject
from .summary import (
    FORWARD,
    ONNX2TORCH,
    OURS,
    PORTABLE,
    TORCH,
    TRAINING,
    best,
    geometric_mean,
    in_forwards,
    number,
    portable,
    ratio,
)

AGREEMENT = 0.05
"""Relative difference from PyTorch's gradient: float32 leaves some ReLUs and maxima on either side of their kink."""


def main() -> None:
    """Prints a table for each batch size, and writes the numbers."""
    options = _options()
    warnings.simplefilter("ignore")
    console = Console(width=150)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in track(options.names or list(SUITE), "networks", console=Console(stderr=True)):
            subject = SUITE[name]
            path = subjects.export(subject, Path(folder))
            flops = subjects.gradient_flops(subject)
            for batch in options.batches:
                row = measure(subject, path, batch, options)
                row["gflop"] = flops * batch / 1e9
                rows.append(row)
                console.print({key: value for key, value in row.items() if key != "memory"})
                if options.json:
                    options.json.write_text(json.dumps({"threads": options.threads, "rows": rows}, indent=1) + "\n")
            path.unlink()
    rate = subjects.matrix_multiply_rate(options.threads)
    for batch in options.batches:
        console.print(table([row for row in rows if row["batch"] == batch], rate, batch))
    if options.json:
        options.json.write_text(json.dumps({"threads": options.threads, "rate": rate, "rows": rows}, indent=1) + "\n")


def measure(subject: Subject, path: Path, batch: int, options: argparse.Namespace) -> dict[str, object]:
    """One network at one batch size: milliseconds and bytes by contender."""
    image = subject.sample(batch).numpy()
    ours = (path, image, options.threads)
    torch = partial(contenders.pytorch, subject.name, image, options.threads)
    running = {
        OURS: partial(contenders.gradserve, *ours, backend="auto"),
        PORTABLE: partial(contenders.gradserve, *ours, backend="portable"),
        FORWARD: partial(contenders.forward, *ours),
    }
    if not options.quick:
        running[TRAINING] = partial(contenders.training, *ours)
        running[ONNX2TORCH] = partial(contenders.onnx2torch, *ours)
    for compiled in (False,) if options.no_compile else (False, True):
        for channels_last in (False, True) if subject.convolutional else (False,):
            name = f"{TORCH} {'compiled' if compiled else 'eager'}{', channels last' if channels_last else ''}"
            running[name] = partial(torch, compiled=compiled, channels_last=channels_last)
    outcomes = take_turns(running, options.rounds, options.seconds)
    _compare(subject.name, outcomes)
    return {
        "name": subject.name,
        "batch": batch,
        "ms": {name: outcome.seconds * 1e3 for name, outcome in outcomes.items()},
        "memory": {name: outcome.report["peak_bytes"] for name, outcome in outcomes.items() if outcome.report},
        "problems": {name: outcome.problem for name, outcome in outcomes.items() if outcome.problem},
    }


def _compare(subject: str, outcomes: dict[str, Outcome]) -> None:
    eager = outcomes[f"{TORCH} eager"]
    assert eager.report is not None, f"{subject}: PyTorch: {eager.problem}"
    reference = eager.report["result"]
    for name, outcome in outcomes.items():
        if name == FORWARD or outcome.report is None:
            continue
        got = outcome.report["result"]
        difference = np.linalg.norm(got - reference) / np.linalg.norm(reference)
        if not difference < AGREEMENT:
            problem = f"its gradient is {difference:.0e} away from PyTorch's"
            assert not name.startswith(OURS), f"{subject}, {name}: {problem}"
            outcomes[name] = Outcome(math.nan, problem=problem)


def table(rows: list[dict], rate: float, batch: int) -> Table:
    """What a person reads."""
    result = Table(title=f"Gradient of a logit, batch {batch}, float32; milliseconds, medians")
    headings = (
        "",
        "forward",
        OURS,
        "portable",
        "ort-training",
        "onnx2torch",
        "PyTorch best",
        "ratio",
        "in forwards",
        "peak",
    )
    for heading in (*headings, "MB / PyTorch's MB"):
        result.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for row in rows:
        ms, memory, fastest = row["ms"], row["memory"], best(row)
        result.add_row(
            row["name"],
            *(number(ms.get(name)) for name in (FORWARD, OURS, PORTABLE, TRAINING, ONNX2TORCH)),
            f"{number(ms[fastest])} {fastest.removeprefix(TORCH).replace(', channels last', ' cl')}",
            f"{ratio(row):.2f}",
            f"{in_forwards(row):.2f}",
            f"{row['gflop'] / ms[OURS] * 1e12 / rate:.0%}",
            f"{memory[OURS] / 1e6:.0f} / {memory[fastest] / 1e6:.0f}",
        )
    result.add_section()
    means = [f"{geometric_mean([measure(row) for row in rows]):.2f}" for measure in (portable, ratio, in_forwards)]
    result.add_row("geometric mean", "", "", f"x {means[0]}", "", "", "", means[1], means[2], "", "")
    return result


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"networks (default: all): {', '.join(SUITE)}")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8], help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contender (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of a turn (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of each contender (default: %(default)s)")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out (it needs minutes to set up)")
    parser.add_argument("--quick", action="store_true", help="only gradserve and PyTorch")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number to a file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
