"""Writes the table of docs/performance.md and the picture of the README from the numbers of runs.

    PYTHONPATH=benchmarks python -m speed.table FILE.json [FILE.json ...]

Each file is what `python -m speed --json` wrote.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT, PICTURE, RESULTS = ROOT / "docs" / "performance.md", ROOT / "docs" / "images" / "speed.png", Path(__file__).parent
BEGIN, END = "<!-- table: python -m speed.table -->\n", "<!-- end of the table -->\n"
OURS, PORTABLE, FORWARD, TORCH = "gradserve", "gradserve portable", "forward", "PyTorch"


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


def best(row: dict[str, Any]) -> str:
    """PyTorch's fastest setting."""
    settings = [name for name, ms in row["ms"].items() if name.startswith(TORCH) and not math.isnan(ms)]
    return min(settings, key=lambda name: float(row["ms"][name]))


def _table(rows: list[dict[str, Any]], batch: int) -> str:
    headings = (
        f"batch {batch}, ms", "forward", "gradient", "portable", "onnxruntime-training", "PyTorch's best", "ratio",
        "in forwards", "MB", "PyTorch's MB",
    )  # fmt: skip
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    for row in rows:
        ms, memory, fastest = row["ms"], row["memory"], best(row)
        cells = [
            row["name"], *(_number(ms.get(name)) for name in (FORWARD, OURS, PORTABLE, "onnxruntime-training")),
            f"{_number(ms[fastest])} ({fastest.removeprefix(TORCH).strip()})", f"**{ms[OURS] / ms[fastest]:.2f}**",
            f"{ms[OURS] / ms[FORWARD]:.2f}", f"{memory[OURS] / 1e6:.0f}", f"{memory[fastest] / 1e6:.0f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    ratio = _mean([row["ms"][OURS] / row["ms"][best(row)] for row in rows])
    forwards = _mean([row["ms"][OURS] / row["ms"][FORWARD] for row in rows])
    portable = _mean([row["ms"][PORTABLE] / row["ms"][OURS] for row in rows])
    lines.append(f"| geometric mean | | | {portable:.2f} of `auto` | | | **{ratio:.2f}** | {forwards:.2f} | | |")
    return "\n".join(lines) + "\n"


def _picture(rows: list[dict[str, Any]], batches: list[int]) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(row["name"] for row in rows))
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(names) + 1))
    for shift, batch in enumerate(batches):
        ratios = {row["name"]: row["ms"][OURS] / row["ms"][best(row)] for row in rows if row["batch"] == batch}
        places = [names.index(name) + (shift - (len(batches) - 1) / 2) * 0.36 for name in ratios]
        bars = axes.barh(places, list(ratios.values()), height=0.34, label=f"batch {batch}")
        axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15)
    axes.set_xlabel("time of the input gradient / time in PyTorch's best setting (1 = as fast)")
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=110)


def _number(ms: float | None) -> str:
    return "-" if ms is None or math.isnan(ms) else f"{ms:.3g}"


def _mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


if __name__ == "__main__":
    main()
