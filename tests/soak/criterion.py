"""Whether a process grows, judged by samples of its memory, threads and open files over a run."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WARM_UP = 0.5
"""The part of a run that is not judged, as in Triton's test of memory growth: caches fill, threads start, and the allocator
finds its size."""

TRIMMED = 0.05
"""The part of the highest samples that is left out: a moment's peak is no leak."""

MAX_SPREAD_MIB = 32.0
"""Memory's trimmed maximum above its mean. Triton allows 100 MB for models of that size; the models here are of a few
hundred kB, and all calls of the load together hold about 20 MiB."""

MAX_GROWTH_MIB = 16.0
"""Of memory from the first to the last third, by their medians. Sessions of plans that come and go leave holes in what the
allocator holds: over 920 plans in a row, 16 kept at a time, the medians went up and down by 12 MiB, and did not grow. The
longer a run, the smaller the leak that comes to 16."""

MAX_GROWTH_COUNT = 2.0
"""The same of threads and open files, which come and go with the load."""


@dataclass(frozen=True)
class Sample:
    """A process at a moment."""

    seconds: float
    """Since the start."""
    operations: int
    """Done so far."""
    memory: float
    """Resident, in MiB."""
    threads: int
    files: int


@dataclass(frozen=True)
class Verdict:
    """One measure, against its limit."""

    measure: str
    value: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether it is within."""
        return self.value <= self.limit


def judged(samples: Sequence[Sample]) -> list[Sample]:
    """Those after the warm-up."""
    return [sample for sample in samples if sample.seconds >= samples[-1].seconds * WARM_UP]


def judge(samples: Sequence[Sample]) -> list[Verdict]:
    """Every measure of a run."""
    half = judged(samples)
    memory = [sample.memory for sample in half]
    spread = float(np.quantile(memory, 1 - TRIMMED) - np.mean(memory))
    return [
        Verdict("memory: trimmed (max - mean), MiB", spread, MAX_SPREAD_MIB),
        Verdict("memory: growth, MiB", _growth(half, "memory"), MAX_GROWTH_MIB),
        Verdict("threads: growth", _growth(half, "threads"), MAX_GROWTH_COUNT),
        Verdict("open files: growth", _growth(half, "files"), MAX_GROWTH_COUNT),
    ]


def bytes_per_operation(samples: Sequence[Sample]) -> float:
    """What memory grew by after the warm-up, for each operation."""
    half = judged(samples)
    third = len(half) // 3
    operations = np.median([s.operations for s in half[-third:]]) - np.median([s.operations for s in half[:third]])
    return _growth(half, "memory") * 2**20 / max(float(operations), 1.0)


def _growth(samples: Sequence[Sample], name: str) -> float:
    values = [getattr(sample, name) for sample in samples]
    third = len(values) // 3
    return float(np.median(values[-third:]) - np.median(values[:third]))
