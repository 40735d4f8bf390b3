"""What an engine does, for Prometheus: gradients, ascents, plans, batches and the line before the device."""

from collections import Counter as Tally
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, Summary
from prometheus_client.core import GaugeMetricFamily, UntypedMetricFamily
from prometheus_client.registry import Collector

from gradserve_server.engine import Engine
from gradserve_server.runtime.events import (
    AscentEnded,
    AscentStarted,
    Event,
    PlanBuilt,
    PlanEvicted,
    PlanFound,
    Run,
    Turn,
)
from gradserve_server.runtime.work import Priority

MODEL = ("model", "version")

GRADIENTS = ("gradient", "vjp", "jvp", "hvp")
"""The verbs that count as gradients."""

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SAMPLES = (1, 2, 4, 8, 16, 32, 64, 128)

PENDING = "nv_inference_pending_request_count"


class EngineMetrics:
    """Counts what an engine tells: an observer.

    Args:
        engine: Which one; says at each scrape what waits and which models there are.
        registry: Where the metrics go.
    """

    def __init__(self, engine: Engine, registry: CollectorRegistry) -> None:
        registry.register(_Now(engine, self))
        self._children: dict[tuple[Any, ...], Any] = {}

        def by_model(kind: type[Any], name: str, what: str, *labels: str, **options: Any) -> Any:
            return kind(f"gradserve_{name}", what, (*MODEL, *labels), registry=registry, **options)

        self._gradients = by_model(
            Histogram, "gradient_duration_seconds", "Gradients, from asking for the device", "verb", buckets=SECONDS
        )
        self._samples = by_model(Counter, "gradient_samples", "Samples of gradients", "verb")
        self._started = by_model(Counter, "ascents_started", "Ascents that took a step")
        self._ended = by_model(Counter, "ascents_ended", "Ascents that have ended", "reason")
        self._steps = by_model(Counter, "ascent_steps", "Runs of the model for ascents")
        self._built = by_model(Summary, "plan_build_seconds", "Building of plans")
        self._found = by_model(Counter, "plan_hits", "Plans that were there already")
        self._evicted = by_model(Counter, "plan_evictions", "Plans that went to make room")

        def by_class(name: str, what: str, buckets: Sequence[float]) -> dict[Priority, Histogram]:
            metric = Histogram(f"gradserve_{name}", what, ("class",), buckets=buckets, registry=registry)
            return {priority: metric.labels(class_of(priority)) for priority in Priority}

        self._batches = by_class("batch_size", "Samples of each run of the device", SAMPLES)
        self._waits = by_class("queue_seconds", "Waiting for the device", SECONDS)
        self._busy = Counter("gradserve_device_busy_seconds", "Time that the device ran", registry=registry)
        self._by_event: dict[type[Event], Callable[[Any], None]] = {
            Run: self._ran,
            Turn: self._turned,
            PlanBuilt: lambda event: self._of(self._built, event).observe(event.ended - event.began),
            PlanFound: lambda event: self._of(self._found, event).inc(),
            PlanEvicted: lambda event: self._of(self._evicted, event).inc(),
            AscentStarted: lambda event: self._of(self._started, event).inc(),
            AscentEnded: lambda event: self._of(self._ended, event, event.reason).inc(),
        }

    def __call__(self, event: Event) -> None:
        """Counts an event."""
        self._by_event[type(event)](event)

    def _ran(self, run: Run) -> None:
        self._busy.inc(run.seconds)
        self._batches[run.priority].observe(run.samples)

    def _turned(self, turn: Turn) -> None:
        self._waits[turn.priority].observe(turn.began - turn.asked)
        if turn.priority is Priority.ASCENT:
            self._of(self._steps, turn).inc()
        elif turn.subject.verb in GRADIENTS:
            self._of(self._gradients, turn, turn.subject.verb).observe(turn.ended - turn.asked)
            self._of(self._samples, turn, turn.subject.verb).inc(turn.samples)

    def keep_only(self, models: set[tuple[str, str]]) -> None:
        """Forgets the models that are no longer there, so that versions which come and go do not add up."""
        for key in [key for key in list(self._children) if (key[1], str(key[2])) not in models]:
            metric, name, version, *_ = key
            metric.remove_by_labels(dict(zip(MODEL, (name, str(version)), strict=True)))
            self._children.pop(key, None)

    def _of(self, metric: Any, event: Any, *labels: str) -> Any:
        """As `metric.labels`, of the model that an event is about, and faster."""
        key = (metric, event.subject.model, event.subject.version, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*key[1:])
        return child


def class_of(priority: Priority) -> str:
    """How a label names a class of works."""
    return priority.name.lower()


class _Now(Collector):
    """What is so at the moment of a scrape.

    Args:
        engine: Which says so.
        metrics: Told which models there are.
    """

    def __init__(self, engine: Engine, metrics: EngineMetrics) -> None:
        self._engine, self._metrics = engine, metrics

    def collect(self) -> Iterator[Any]:
        """The families."""
        models = {(model.name, str(model.version)) for model in self._engine.versions}
        self._metrics.keep_only(models)
        loaded = GaugeMetricFamily("gradserve_model_loaded", "1 for each version of a model that is served", labels=MODEL)
        for model in sorted(models):
            loaded.add_metric(model, 1)
        yield loaded
        line = self._engine.line
        waiting = Tally(work.priority for work in line)
        length = GaugeMetricFamily("gradserve_queue_length", "Works that wait for the device", labels=("class",))
        for priority in Priority:
            length.add_metric((class_of(priority),), waiting[priority])
        yield length
        predictions = Tally((w.subject.model, str(w.subject.version)) for w in line if w.subject.verb == "infer")
        pending = UntypedMetricFamily(PENDING, "Predictions that wait for the device", labels=MODEL)
        for model in sorted(models):
            pending.add_metric(model, predictions[model])
        yield pending

    def describe(self) -> list[Any]:
        """Nothing, so that registering does not scrape."""
        return []
