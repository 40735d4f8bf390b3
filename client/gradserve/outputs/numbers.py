"""Images and values as numbers."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gradserve.outputs.style import Style
from gradserve.runs import Run

__all__ = ["write_csv", "write_npy", "write_npz"]


def write_npy(path: Path, runs: Sequence[Run], _style: Style) -> None:
    """The last pixels, [images, ...] like the model input, run by run."""
    np.save(path, np.concatenate([run.pixels for run in runs]))


def write_npz(path: Path, runs: Sequence[Run], _style: Style) -> None:
    """The same and more.

    `images`, `values`, `gradient_norms`, `names` [images]; and of run k, `steps_k` [reports], `values_k` [reports, count],
    `frame_steps_k` [frames], `frames_k` [frames, count, ...], and of transparent images `alphas_k` [frames, count, H, W].
    """
    arrays = {
        "images": np.concatenate([run.pixels for run in runs]),
        "values": np.concatenate([run.history[-1].values for run in runs]),
        "gradient_norms": np.concatenate([run.history[-1].gradient_norms for run in runs]),
        "names": np.array([run.name for run in runs for _ in range(run.count)]),
    }
    for number, run in enumerate(runs):
        arrays |= {
            f"steps_{number}": np.array([step.index for step in run.history]),
            f"values_{number}": np.stack([step.values for step in run.history]),
            f"frame_steps_{number}": np.array([step.index for step in run.frames]),
            f"frames_{number}": np.stack([step.image for step in run.frames if step.image is not None]),
        }
        if run.alpha is not None:
            arrays[f"alphas_{number}"] = np.stack([step.alpha for step in run.frames if step.alpha is not None])
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type, unused-ignore]


def write_csv(path: Path, runs: Sequence[Run], _style: Style) -> None:
    """A line for each report and image: objective, image, step, value, gradient_norm."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["objective", "image", "step", "value", "gradient_norm"])
        for run in runs:
            for step in run.history:
                for index, (value, norm) in enumerate(zip(step.values, step.gradient_norms, strict=True)):
                    writer.writerow([run.name, index, step.index, float(value), float(norm)])
