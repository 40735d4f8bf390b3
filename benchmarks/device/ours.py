"""gradserve, in process: the whole call of a user."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ascent.loops import HIGH, LOW, UNIT
from speed.suite import SUITE
from turns import Ready

import gradserve
from gradserve import objectives as O
from gradserve_server import Engine, EngineConfig

from .memory import device_bytes
from .tasks import ASCENT, CHECKED_STEPS, GRADIENT, JITTER, RATE, Array, Task

OBJECTIVE = O.unit("logits", UNIT)


def open_engine(path: Path, device: Literal["cpu", "cuda"], threads: int) -> Engine:
    """An engine as it is timed."""
    return Engine(path, config=EngineConfig(device=device, backend="portable", threads=threads))


def gradserve_on(path: Path, name: str, device: Literal["cpu", "cuda"], threads: int) -> Callable[[Task], Ready]:
    """An engine that stays for every task."""
    engine = open_engine(path, device, threads)
    kinds = {GRADIENT: _gradient, ASCENT: _ascent}

    def prepare(task: Task) -> Ready:
        run, result = kinds[task.measure](engine, path.stem, SUITE[name].input, task.inputs(SUITE[name]))
        return run, lambda: {"result": result(), "bytes": device_bytes()}

    return prepare


def _gradient(engine: Engine, model: str, tensor: str, x: Array) -> tuple[Callable[[int], float], Callable[[], Array]]:
    def result() -> Array:
        return engine.gradient(model, {tensor: x}, OBJECTIVE).gradients[tensor]

    def run(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            result()
        return time.perf_counter() - started

    return run, result


def _ascent(engine: Engine, model: str, tensor: str, start: Array) -> tuple[Callable[[int], float], Callable[[], Array]]:
    settings: dict[str, Any] = {
        "start": start,
        "count": len(start),
        "bounds": (LOW, HIGH),
        "optimizer": gradserve.Adam(RATE),
        "gradient_normalization": "std",
    }
    ascend = partial(engine.ascend, model, OBJECTIVE, **settings)

    def run(count: int) -> float:
        # From the report on the start, which is the first, to the last one, which brings the images.
        ascent = ascend(steps=count, report_every=count + 1, jitter=JITTER)
        next(ascent)
        started = time.perf_counter()
        for _ in ascent:
            pass
        return time.perf_counter() - started

    def result() -> Array:
        *_, last = ascend(steps=CHECKED_STEPS, report_every=CHECKED_STEPS)
        assert last.image is not None
        gradient = engine.gradient(model, {tensor: start}, OBJECTIVE).gradients[tensor]
        return np.asarray(np.abs(gradient) * (last.image - start))

    return run, result
