"""What is made before anything is timed, a process for each network: its file, and where its gradient's nodes run."""

import os
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, TimeoutError  # noqa: A004 -- the older name of the same class
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

THREADS = 3
"""Of each process, about."""


def export_all(names: list[str], folder: Path) -> dict[str, Path]:
    """The networks' files in a folder; those that are there already are taken as they are."""
    paths = {name: folder / name.lower().replace("/", "-").replace(" ", "-") / "model.onnx" for name in names}
    missing = {name: partial(_export, name, path) for name, path in paths.items() if not path.exists()}
    for name, problem in in_processes(missing, timeout=None)[1].items():
        print(f"{name}: not exported: {problem}", flush=True)
        del paths[name]
    return paths


def _export(name: str, path: Path) -> None:
    from speed import subjects
    from speed.suite import SUITE

    path.parent.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent.parent) as folder:
        made = subjects.export(SUITE[name], Path(folder))
        path.parent.mkdir(exist_ok=True)
        made.replace(path)  # at once: a file that is there is whole


def in_processes(calls: Mapping[str, Callable[[], T]], timeout: float | None) -> tuple[dict[str, T], dict[str, str]]:
    """What calls return and why others did not, each made in a process of its own, some at a time."""
    results, problems = {}, {}
    workers = max(1, len(os.sched_getaffinity(0)) // THREADS)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        futures = {name: pool.submit(call) for name, call in calls.items()}
        for name, future in futures.items():
            try:
                results[name] = future.result(timeout)
            except TimeoutError:
                problems[name] = f"not done after {timeout:.0f} s"
                for process in list(pool._processes.values()):
                    process.kill()
            except Exception as error:
                problems[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    return results, problems
