"""What the tables and the picture say of a run."""

import math
from typing import Any

OURS, PORTABLE, FORWARD, TRAINING, ONNX2TORCH = (
    "gradserve",
    "gradserve portable",
    "forward",
    "onnxruntime-training",
    "onnx2torch",
)
TORCH = "PyTorch"
"""Begins the name of each of its settings."""


def best(row: dict[str, Any]) -> str:
    """PyTorch's fastest setting, the exported file converted back among them."""
    settings = [name for name, ms in row["ms"].items() if name.startswith((TORCH, ONNX2TORCH)) and not math.isnan(ms)]
    return min(settings, key=lambda name: float(row["ms"][name]))


def ratio(row: dict[str, Any]) -> float:
    """Our time / PyTorch's best."""
    return float(row["ms"][OURS] / row["ms"][best(row)])


def in_forwards(row: dict[str, Any]) -> float:
    """Our time / that of our own forward pass."""
    return float(row["ms"][OURS] / row["ms"][FORWARD])


def portable(row: dict[str, Any]) -> float:
    """The portable backend's time / that of the one that `auto` chose."""
    return float(row["ms"][PORTABLE] / row["ms"][OURS])


def geometric_mean(values: list[float]) -> float:
    """exp of the mean logarithm."""
    return math.exp(sum(map(math.log, values)) / len(values))


def number(ms: float | None) -> str:
    """Three digits."""
    return "-" if ms is None or math.isnan(ms) else f"{float(f'{ms:.3g}'):g}"
