"""`scripts/soak`: drives a real server and says whether it grows. Exit code 1: it does, or something went wrong."""

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from support.paths import ROOT
from support.server_process import SERVER, ServerProcess

from soak.criterion import judge
from soak.drive import Run, drive
from soak.report import draw, show

ARGUMENTS = ("--max-plans", "8", "--model-control-mode", "explicit", "--load-model", "*")
"""Of the server: fewer plans than are asked for, so that they come and go, and models that can be loaded again."""


def main() -> int:
    """Reads the command line, and soaks."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0, help="how long (default: %(default)s)")
    parser.add_argument("--leak", action="store_true", help="negative control: a server that leaks, which must be seen")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of what is random (default: the time)")
    parser.add_argument(
        "--plot", type=Path, default=ROOT / "out" / "soak.png", help="picture to draw (default: %(default)s)"
    )
    options = parser.parse_args()
    console, seconds = Console(), options.minutes * 60
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[state]}")
    with (
        ServerProcess(*ARGUMENTS, module=module(leak=options.leak)) as server,
        Progress(*columns, console=console) as progress,
    ):
        task = progress.add_task("soaking", total=seconds, state="")

        def tell(run: Run) -> None:
            last = run.samples[-1]
            state = f"{last.operations} operations, {last.memory:.0f} MiB, {last.threads} threads, {last.files} files"
            progress.update(task, completed=last.seconds, state=state)

        run = drive(server, seconds, options.seed, tell)
    verdicts = judge(run.samples)
    show(console, run, verdicts)
    draw(run, options.plot, f"{run.operations} operations, seed {options.seed}{', leaking' * options.leak}")
    console.print(f"seed {options.seed}, picture in {options.plot}")
    return 0 if not run.failures and all(verdict.passed for verdict in verdicts) else 1


def module(*, leak: bool) -> tuple[str, ...]:
    """What is run as the server."""
    return ("soak.leaky",) if leak else SERVER


if __name__ == "__main__":
    sys.exit(main())
