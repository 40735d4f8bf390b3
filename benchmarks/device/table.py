"""What a person reads of a run."""

import math
from typing import Any

from rich.table import Table
from speed.summary import OURS, TORCH, best, geometric_mean, number, ratio

_KINDS = {"eager": "eager", "captured": "eager, captured", "compiled": "compiled", "both": "compiled, captured"}
"""A heading, and how the names of the settings under it begin; in both memory formats."""


def table(rows: list[dict[str, Any]], title: str) -> Table:
    """Milliseconds by contender, and what they take of the device."""
    result = Table(title=title)
    for heading in ("", "batch", OURS, *_KINDS, "PyTorch's best", "ratio", "samples/s", "MB / PyTorch's MB"):
        result.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    ratios = []
    for row in rows:
        ms = row["ms"]
        cells = [number(ms.get(OURS)), *(number(_fastest(ms, kind)) for kind in _KINDS.values())]
        if _is_complete(row):
            ratios.append(ratio(row))
            fastest = best(row)
            setting = fastest.removeprefix(TORCH).replace(", channels last", " cl").strip()
            memory = " / ".join(_megabytes(row["bytes"].get(name)) for name in (OURS, fastest))
            cells += [f"{number(ms[fastest])} {setting}", f"{ratios[-1]:.2f}", number(row["batch"] / ms[OURS] * 1e3), memory]
        result.add_row(row["name"], str(row["batch"]), *cells)
    if ratios:
        result.add_section()
        result.add_row("geometric mean", *[""] * (len(_KINDS) + 3), f"{geometric_mean(ratios):.2f}", "", "")
    return result


def _is_complete(row: dict[str, Any]) -> bool:
    times = row["ms"]
    theirs = [ms for name, ms in times.items() if name.startswith(TORCH) and not math.isnan(ms)]
    return bool(theirs) and not math.isnan(times.get(OURS, math.nan))


def _fastest(ms: dict[str, float], kind: str) -> float | None:
    names = (f"{TORCH} {kind}", f"{TORCH} {kind}, channels last")
    times = [ms[name] for name in names if not math.isnan(ms.get(name, math.nan))]
    return min(times, default=None)


def _megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.0f}"
