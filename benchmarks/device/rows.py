"""The numbers of a run: made row by row, written after each."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from speed.summary import OURS
from turns import Outcome

from .tasks import Array, Task

AGREEMENT = 0.05
"""Relative difference from PyTorch's: float32 leaves some ReLUs and maxima on either side of their kink."""


@dataclass
class Rows:
    """What is known so far.

    Attributes:
        about: The machine and the versions.
        file: Where it is written.
    """

    about: dict[str, Any]
    file: Path | None
    rows: dict[tuple[str, Task], dict[str, Any]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    """What there was no time for."""
    wrong: list[str] = field(default_factory=list)
    """Where our results are not PyTorch's."""
    _references: dict[tuple[str, Task], Array] = field(default_factory=dict)

    def add(self, name: str, task: Task, outcomes: dict[str, Outcome], reference: str) -> dict[str, Any]:
        """Puts what contenders did at a task into its row. If they did it before, the faster time counts.

        Args:
            name: The network.
            task: The other half of what a row is about.
            outcomes: By contender. Whose result is not PyTorch's has no time.
            reference: The contender with PyTorch's result.
        """
        key = name, task
        report = outcomes[reference].report if reference in outcomes else None
        if report is not None:
            self._references.setdefault(key, report["result"])
        empty: dict[str, Any] = {"ms": {}, "bytes": {}, "problems": {}, "difference": {}}
        row = self.rows.setdefault(key, {"name": name, "measure": task.measure, "batch": task.batch, **empty})
        for contender, outcome in outcomes.items():
            row["problems"].pop(contender, None)
            difference = self._difference(key, outcome)
            problem = outcome.problem
            if problem and not math.isnan(row["ms"].get(contender, math.nan)):
                row["problems"][contender] = f"not measured again: {problem}"
                continue
            if not problem and not difference < AGREEMENT:
                problem = f"its result is {difference:.0e} away from PyTorch's"
                if contender == OURS:
                    self.wrong.append(f"{name}, {task.measure}, batch {task.batch}: {problem}")
            ms = math.nan if problem else outcome.seconds * 1e3
            row["ms"][contender] = min(ms, row["ms"].get(contender, math.inf))
            row["bytes"][contender] = outcome.report["bytes"] if outcome.report else None
            row["difference"][contender] = difference
            if problem:
                row["problems"][contender] = problem
        self.write()
        return row

    def _difference(self, key: tuple[str, Task], outcome: Outcome) -> float:
        reference = self._references.get(key)
        if outcome.report is None or reference is None:
            return math.nan
        return float(np.linalg.norm(outcome.report["result"] - reference) / np.linalg.norm(reference))

    def write(self) -> None:
        """Writes everything, if there is a file."""
        if self.file is None:
            return
        whole = {**self.about, "rows": list(self.rows.values()), "skipped": self.skipped, "wrong": self.wrong}
        being_written = self.file.with_name(self.file.name + ".part")
        being_written.write_text(json.dumps(whole, indent=1) + "\n")
        being_written.replace(self.file)  # who is killed meanwhile leaves the last whole one
