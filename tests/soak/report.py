"""A run on the screen and as a picture."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from soak.criterion import Verdict, bytes_per_operation, judged
from soak.drive import Run


def show(console: Console, run: Run, verdicts: Sequence[Verdict]) -> None:
    """Prints what was done, and what is to be thought of it."""
    done = Table("scenario", "times", title=f"{run.operations} operations, {len(run.failures)} failures")
    for name, times in run.done.most_common():
        done.add_row(name, str(times))
    measures = Table("measure, second half", "value", "limit", "", title="growth")
    for verdict in verdicts:
        mark = "[green]ok[/]" if verdict.passed else "[red]GROWS[/]"
        measures.add_row(verdict.measure, f"{verdict.value:.2f}", f"{verdict.limit:g}", mark)
    measures.add_row("memory: bytes for each operation", f"{bytes_per_operation(run.samples):.0f}", "", "")
    console.print(done, measures)
    for failure in run.failures[:20]:
        console.print(f"[red]{failure}[/]", markup=True)


def draw(run: Run, path: Path, title: str) -> None:
    """Memory, threads and open files over the run."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    seconds = [sample.seconds / 60 for sample in run.samples]
    figure, (memory, counts) = plt.subplots(2, 1, sharex=True, figsize=(8, 5), height_ratios=(2, 1))
    memory.plot(seconds, [sample.memory for sample in run.samples], lw=1.2, color="#1f5f8b")
    memory.set_ylabel("resident memory, MiB")
    memory.set_ylim(bottom=0)
    memory.set_title(title)
    counts.plot(seconds, [sample.threads for sample in run.samples], lw=1, label="threads")
    counts.plot(seconds, [sample.files for sample in run.samples], lw=1, label="open files")
    counts.set_ylim(bottom=0)
    counts.set_xlabel("minutes")
    counts.legend(loc="lower right")
    for axes in (memory, counts):
        axes.axvspan(judged(run.samples)[0].seconds / 60, seconds[-1], color="0.95", zorder=0)
        axes.grid(alpha=0.3)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
