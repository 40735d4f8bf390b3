"""Writes the table of docs/performance.md and the picture of the README from the numbers of runs.

    PYTHONPATH=benchmarks python -m speed.table FILE.json [FILE.json ...]

Each file is what `python -m speed --json` wrote.
"""

import json
import sys
from pathlib import Path
from typing import Any

from .summary import FORWARD, OURS, PORTABLE, TORCH, TRAINING, best, geometric_mean, in_forwards, number, portable, ratio

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT, PICTURE, RESULTS = ROOT / "docs" / "performance.md", ROOT / "docs" / "images" / "speed.png", Path(__file__).parent
BEGIN, END = "<!-- table: python -m speed.table -->\n", "<!-- end of the table -->\n"

HEADINGS = {FORWARD: "forward", OURS: "gradient", PORTABLE: "portable", TRAINING: "onnxruntime-training"}
"""Contenders with a column of their own, where they were measured."""


def main() -> None:
    """Writes both, and keeps the numbers beside this file."""
    rows = [row for name in sys.argv[1:] for row in json.loads(Path(name).read_text())["rows"]]
    (RESULTS / "results.json").write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    batches = sorted({row["batch"] for row in rows})
    text = "\n".join(_table([row for row in rows if row["batch"] == batch], batch) for batch in batches)
    head, _, rest = DOCUMENT.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    DOCUMENT.write_text(f"{head}{BEGIN}{text}{END}{tail}")
    _picture(rows, batches)


def _table(rows: list[dict[str, Any]], batch: int) -> str:
    contenders = [name for name in HEADINGS if any(name in row["ms"] for row in rows)]
    headings = [f"batch {batch}, ms", *(HEADINGS[name] for name in contenders)]
    headings += ["PyTorch's best", "ratio", "in forwards", "MB", "PyTorch's MB"]
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    for row in rows:
        ms, memory, fastest = row["ms"], row["memory"], best(row)
        cells = [
            row["name"], *(number(ms.get(name)) for name in contenders),
            f"{number(ms[fastest])} ({fastest.removeprefix(TORCH).strip()})", f"**{ratio(row):.2f}**",
            f"{in_forwards(row):.2f}", f"{memory[OURS] / 1e6:.0f}", f"{memory[fastest] / 1e6:.0f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    both = [portable(row) for row in rows if PORTABLE in row["ms"]]
    means = {PORTABLE: f"{geometric_mean(both):.2f} of `auto`" if both else ""}
    mean, forwards = (f"{geometric_mean([measure(row) for row in rows]):.2f}" for measure in (ratio, in_forwards))
    cells = ["geometric mean", *(means.get(name, "") for name in contenders), "", f"**{mean}**", forwards, "", ""]
    lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _picture(rows: list[dict[str, Any]], batches: list[int]) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(row["name"] for row in rows))
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(names) + 1))
    for shift, batch in enumerate(batches):
        ratios = {row["name"]: ratio(row) for row in rows if row["batch"] == batch}
        places = [names.index(name) + (shift - (len(batches) - 1) / 2) * 0.36 for name in ratios]
        bars = axes.barh(places, list(ratios.values()), height=0.34, label=f"batch {batch}")
        axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * max(1.0, *map(ratio, rows)))
    axes.set_xlabel("time of the input gradient / time in PyTorch's best setting (1 = as fast)")
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    main()
