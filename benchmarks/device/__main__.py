"""Gradients and ascents on a GPU: gradserve by onnxruntime's CUDA provider, and PyTorch, eager, compiled and captured.

PYTHONPATH=benchmarks python -m device [NAME ...] [--device cuda] [--batches 1 8 64] [--budget-seconds 420] [--json FILE]

Two things are timed, in float32 (TF32 off for everybody): a gradient, one call with numpy in and out, where PyTorch copies
by way of pinned memory; and a step of an ascent (jitter, the gradient's standard deviation, Adam, bounds) whose image stays
on the device. PyTorch runs eager, as one CUDA graph, and compiled, in both memory formats, without gradients of the weights
and with BatchNorm folded; its fastest is the yardstick. Contenders run in processes of their own, in turn, on the same
inputs; times are medians of the turns. Before a time is printed, its result has been compared with PyTorch's: the gradient,
or how far a step without jitter has moved each pixel, times its gradient.

First every network is measured without torch.compile, then again with it, each beside the fastest before it, until the
budget is spent; of who is measured twice, the faster time counts. What is known is written after each row, so that a run
that is broken off leaves its rows. With --device cpu everything but the CUDA graphs runs on a machine without a GPU.
"""

import argparse
import math
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from speed.suite import SUITE
from speed.summary import OURS, TORCH
from turns import Contest, Entrant

from .memory import device_name
from .ours import gradserve_on
from .placement import placement
from .prepared import export_all, in_processes
from .rows import Rows
from .table import table
from .tasks import ASCENT, GRADIENT, tasks_of
from .theirs import CUDA_ONLY, Setting, pytorch_on

NAMES = ("ResNet-50", "digits CNN", "MobileNetV2", "ViT-B/16", "BERT-base")
"""By default. The others are named on the command line."""
PLACEMENT_SECONDS = 60
SET_UP_SECONDS = 150
"""For a task, of all contenders: who hangs must not take the others' time."""
EAGER = str(Setting())
WHEELS = ("onnxruntime-gpu", "onnxruntime-training", "onnxruntime")


def main() -> None:
    """Measures, prints tables and writes the numbers; ends with 1 if a result of ours is wrong."""
    options = _options()
    deadline = time.monotonic() + options.budget_seconds
    warnings.simplefilter("ignore")
    os.environ.setdefault("TORCH_LOGS", "-all")
    console = Console(width=170)
    with tempfile.TemporaryDirectory() as folder:
        paths = export_all(options.names, options.models or Path(folder))
        console.print(f"{len(paths)} networks exported; {_left(deadline)}")
        if options.export_only:
            return
        rows = Rows(_about(options), options.json)
        _place(paths, rows, options, console)
        for name, path in paths.items():
            _measure(name, rows, _uncompiled(name, path, options), deadline, options, console)
        for name, path in paths.items() if not options.no_compile else ():
            _measure(name, rows, _compiled(name, path, rows, options), deadline, options, console)
    for measure in (GRADIENT, ASCENT):
        console.print(table([row for row in rows.rows.values() if row["measure"] == measure], f"{measure}, milliseconds"))
    if rows.skipped:
        console.print(f"No time for: {'; '.join(rows.skipped)}")
    sys.exit("\n".join(f"wrong: {text}" for text in rows.wrong) or 0)


def _measure(
    name: str,
    rows: Rows,
    contenders: Mapping[str, Entrant],
    deadline: float,
    options: argparse.Namespace,
    console: Console,
) -> None:
    kinds = "compiled" if any("compiled" in contender for contender in contenders) else "eager and captured"
    with Contest(contenders, options.seconds, at_once=True) as contest:
        for task in tasks_of(name, options.batches):
            if time.monotonic() > deadline:
                rows.skipped.append(f"{name}, {task.measure}, batch {task.batch}, {kinds}")
                rows.write()
                continue
            ready_by = min(deadline, time.monotonic() + SET_UP_SECONDS)
            row = rows.add(name, task, contest.turns(task, options.rounds, ready_by, least_steps=task.least_steps), EAGER)
            times = ", ".join(f"{key} {ms:.3g}" for key, ms in row["ms"].items() if not math.isnan(ms))
            console.print(f"{name}, {task.measure}, batch {task.batch}, {kinds}: {times} ms; {_left(deadline)}")
            for contender in contenders:
                if contender in row["problems"]:
                    console.print(f"  {contender}: {row['problems'][contender]}", markup=False)


def _uncompiled(name: str, path: Path, options: argparse.Namespace) -> dict[str, Entrant]:
    """Ours, and PyTorch in every setting that is ready soon. Kernels that are captured are the faster for it."""
    captured = options.device == "cuda"
    formats = (False, True) if SUITE[name].convolutional else (False,)
    settings = [*([Setting()] if captured else []), *(Setting(captured=captured, channels_last=last) for last in formats)]
    return _ours(name, path, options) | _theirs(name, settings, options)


def _compiled(name: str, path: Path, rows: Rows, options: argparse.Namespace) -> dict[str, Entrant]:
    """Ours again, PyTorch's fastest so far, and PyTorch compiled, in the same memory format."""
    settings = [Setting(captured=captured, channels_last=last) for captured in (True, False) for last in (False, True)]
    total = {setting: _time(name, rows, str(setting)) for setting in settings}
    fastest = min(settings, key=lambda setting: total[setting])
    last = fastest.channels_last
    compiled = [Setting(compiled=True, channels_last=last)]
    if options.device == "cuda":
        compiled.append(Setting(compiled=True, captured=True, channels_last=last))
    return _ours(name, path, options) | _theirs(name, [fastest, *compiled], options)


def _time(name: str, rows: Rows, contender: str) -> float:
    """Of a contender in all rows of a network, by their geometric mean; infinite where it failed."""
    times = [row["ms"].get(contender, math.nan) for (network, _), row in rows.rows.items() if network == name]
    return sum(math.log(ms) if not math.isnan(ms) else math.inf for ms in times) if times else math.inf


def _ours(name: str, path: Path, options: argparse.Namespace) -> dict[str, Entrant]:
    return {OURS: partial(gradserve_on, path, name, options.device, options.threads)}


def _theirs(name: str, settings: list[Setting], options: argparse.Namespace) -> dict[str, Entrant]:
    return {str(setting): partial(pytorch_on, name, options.device, options.threads, setting) for setting in settings}


def _place(paths: Mapping[str, Path], rows: Rows, options: argparse.Namespace, console: Console) -> None:
    """Tells where the nodes of each network's gradient run."""
    calls = {name: partial(placement, path, name, options.device, options.threads) for name, path in paths.items()}
    placed, problems = in_processes(calls, PLACEMENT_SECONDS)
    rows.about["placement"] = placed | {name: {"problem": problem} for name, problem in problems.items()}
    for name, known in rows.about["placement"].items():
        console.print(f"{name}: {known}", markup=False)
    rows.write()


def _about(options: argparse.Namespace) -> dict[str, object]:
    wheel = next((wheel for wheel in WHEELS if _version(wheel)), "no onnxruntime")
    return {
        "device": device_name() if options.device == "cuda" else "cpu",
        "threads": options.threads,
        "torch": version("torch"),
        wheel: _version(wheel),
        **({} if options.device == "cuda" else {"left out": f"{TORCH} captured: {CUDA_ONLY}"}),
    }


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except ModuleNotFoundError:
        return ""


def _left(deadline: float) -> str:
    return f"{deadline - time.monotonic():.0f} s left"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m device", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        default=NAMES,
        help=f"of {', '.join(SUITE)} (default: {', '.join(NAMES)})",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda", help="default: %(default)s")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 64], help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.25, help="of a turn (default: %(default)s)")
    parser.add_argument(
        "--threads",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="of each contender (default: all cores: %(default)s)",
    )
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out (it needs minutes to set up)")
    parser.add_argument(
        "--budget-seconds", type=float, default=math.inf, metavar="S", help="after which no row is begun (default: no end)"
    )
    parser.add_argument("--models", type=Path, metavar="FOLDER", help="exported networks, taken from there or put there")
    parser.add_argument("--export-only", action="store_true", help="only put them there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number to a file, after each row")
    options = parser.parse_args()
    for name in options.names:
        if name not in SUITE:
            parser.error(f"NAME: expected one of {', '.join(SUITE)}, got {name!r}")
    return options


if __name__ == "__main__":
    main()
