"""What was predicted, and how long it took: for each version of each model, whatever service was asked."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from enum import StrEnum
from time import perf_counter_ns, time_ns
from weakref import WeakKeyDictionary

from gradserve import errors
from gradserve_server.runtime.model import Model


class Phase(StrEnum):
    """What a request goes through; the names are Triton's."""

    QUEUE = "queue"
    """Waiting for a thread, and for the device."""
    INPUT = "compute_input"
    """Decoding the inputs."""
    INFER = "compute_infer"
    """Checking them and running the model."""
    OUTPUT = "compute_output"
    """Encoding the outputs."""


COMPUTE = (Phase.INPUT, Phase.INFER, Phase.OUTPUT)
"""The phases that depend on the batch."""


class Failure(StrEnum):
    """Why a request failed; the names are those of Triton's metrics."""

    REJECTED = "REJECTED"
    """A limit or a timeout."""
    CANCELED = "CANCELED"
    """Its client has gone."""
    BACKEND = "BACKEND"
    """The model broke off."""
    OTHER = "OTHER"
    """A request that does not fit, or a defect."""


_FAILURES: dict[type[Exception], Failure] = {
    errors.LimitExceeded: Failure.REJECTED,
    errors.TooLarge: Failure.REJECTED,
    errors.DeadlineExceeded: Failure.REJECTED,
    errors.CallCancelled: Failure.CANCELED,
    errors.RunFailed: Failure.BACKEND,
}


@dataclass
class Duration:
    """How often something happened, and how long it took together."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        """Once more."""
        self.count += 1
        self.ns += ns


@dataclass
class Counts:
    """Everything about one version of a model since it was loaded."""

    name: str
    version: int
    last_inference_ms: int = 0
    """Since 1970; 0 before the first."""
    samples: int = 0
    runs: int = 0
    """Of the model: fewer than requests where some ran together."""
    success: Duration = field(default_factory=Duration)
    failures: dict[Failure, Duration] = field(default_factory=lambda: {reason: Duration() for reason in Failure})
    phases: dict[Phase, Duration] = field(default_factory=lambda: {phase: Duration() for phase in Phase})
    """Of requests that succeeded."""
    batches: dict[int, dict[Phase, Duration]] = field(default_factory=dict)
    """By the samples of a run; of each run, those of one of its requests."""


class Stopwatch:
    """Times one request.

    Args:
        waited_ns: How long it waited before anybody looked at it.
    """

    def __init__(self, waited_ns: int) -> None:
        self.laps: dict[Phase, int] = {Phase.QUEUE: waited_ns}
        self.samples = 1
        self.batch: int | None = None
        """Samples of the run that it was part of, if it ran with others."""
        self.counts = True
        """Whether the run counts as its own."""
        self._lap = perf_counter_ns()

    def lap(self, phase: Phase) -> None:
        """A phase has ended, and the next one begins."""
        now = perf_counter_ns()
        self.laps[phase] = now - self._lap
        self._lap = now

    def waited(self, seconds: float) -> None:
        """So much of the present phase was waiting for the device."""
        ns = int(seconds * 1e9)
        self.laps[Phase.QUEUE] += ns
        self._lap += ns

    def ran(self, samples: int, counts: bool) -> None:
        """It ran with others: with so many samples, and it or another of them counts the run."""
        self.batch, self.counts = samples, counts

    def total_ns(self) -> int:
        """From arrival until now."""
        return sum(self.laps.values()) + perf_counter_ns() - self._lap


class Statistics:
    """The counts of a server.

    As in Triton, those of a version begin anew when it is loaded again, and its metrics (`series`) go on until it is
    unloaded.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: WeakKeyDictionary[Model, Counts] = WeakKeyDictionary()
        self._series: dict[tuple[str, int], Counts] = {}

    def serve(self, models: Sequence[Model]) -> None:
        """What is served now; the series of others end."""
        with self._lock:
            before = self._series
            keys = [(model.name, model.version) for model in models]
            self._series = {key: before.get(key) or Counts(*key) for key in keys}

    @contextmanager
    def prediction(self, model: Model, waited_ns: int = 0) -> Iterator[Stopwatch]:
        """Times the request inside; it counts as failed when it raises."""
        watch = Stopwatch(waited_ns)
        try:
            yield watch
        except Exception as error:
            with self._lock:
                for counts in self._of(model):
                    counts.failures[_FAILURES.get(type(error), Failure.OTHER)].add(watch.total_ns())
            raise
        with self._lock:
            for counts in self._of(model):
                _count_success(counts, watch)

    def snapshot(self, models: Sequence[Model]) -> list[Counts]:
        """The counts of models since each was loaded, as they are now."""
        with self._lock:
            return [deepcopy(self._counts.get(model)) or Counts(model.name, model.version) for model in models]

    def series(self) -> list[Counts]:
        """The counts by name and version, whatever was loaded again, as they are now."""
        with self._lock:
            return deepcopy(list(self._series.values()))

    def _of(self, model: Model) -> list[Counts]:
        """Where a request counts: a model that was unloaded meanwhile has no series any more."""
        if model not in self._counts:
            self._counts[model] = Counts(model.name, model.version)
        series = self._series.get((model.name, model.version))
        return [self._counts[model], *([series] if series is not None else [])]


def _count_success(counts: Counts, watch: Stopwatch) -> None:
    counts.last_inference_ms = time_ns() // 1_000_000
    counts.samples += watch.samples
    counts.success.add(watch.total_ns())
    counts.runs += watch.counts
    size = watch.samples if watch.batch is None else watch.batch
    of_batch = counts.batches.setdefault(size, {phase: Duration() for phase in COMPUTE}) if watch.counts else {}
    for phase, ns in watch.laps.items():
        counts.phases[phase].add(ns)
        if phase in of_batch:
            of_batch[phase].add(ns)
