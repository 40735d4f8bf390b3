"""What Prometheus scrapes: predictions under Triton's names, and what Triton has no name for under ours."""

from collections.abc import Callable, Iterator
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Info, ProcessCollector, start_http_server
from prometheus_client.core import UntypedMetricFamily
from prometheus_client.registry import Collector

import gradserve_server
from gradserve_server.engine import Engine
from gradserve_server.rpc.call import Call, CallWatcher
from gradserve_server.rpc.engine_metrics import MODEL, EngineMetrics
from gradserve_server.rpc.statistics import Counts, Phase, Statistics
from gradserve_server.runtime.wheel import installed_wheel


def _microseconds(phase: Phase) -> Callable[[Counts], float]:
    return lambda counts: counts.phases[phase].ns / 1000


PREDICTIONS: dict[str, tuple[str, Callable[[Counts], float]]] = {
    "nv_inference_request_success": ("Predictions that succeeded", lambda counts: counts.success.count),
    "nv_inference_count": ("Samples predicted", lambda counts: counts.samples),
    "nv_inference_exec_count": ("Runs of the model for predictions", lambda counts: counts.runs),
    "nv_inference_request_duration_us": ("Time of predictions, from arrival", lambda counts: counts.success.ns / 1000),
    **{
        f"nv_inference_{phase}_duration_us": (what, _microseconds(phase))
        for phase, what in {
            Phase.QUEUE: "Time that predictions waited for a thread and for the device",
            Phase.INPUT: "Time of decoding inputs",
            Phase.INFER: "Time of checking inputs and running the model",
            Phase.OUTPUT: "Time of encoding outputs",
        }.items()
    },
}
"""By name: what it is, and how to read it."""

FAILURES = "nv_inference_request_failure"


class Metrics(CallWatcher):
    """The metrics of one server.

    Args:
        engine: What does its work.
        statistics: Of its predictions.
        ascents: How many run now.
        streams: How many are open now.
    """

    def __init__(
        self, engine: Engine, statistics: Statistics, *, ascents: Callable[[], int], streams: Callable[[], int]
    ) -> None:
        self.registry = CollectorRegistry()
        self.engine = EngineMetrics(engine, self.registry)
        """To be told by an engine."""
        self.registry.register(_Predictions(statistics))
        ProcessCollector(registry=self.registry)
        self._calls = Counter("gradserve_calls", "Calls by RPC and status", ("rpc", "code"), registry=self.registry)
        self._children: dict[tuple[str, str], Counter] = {}
        for name, what, count in (
            ("gradserve_running_ascents", "Ascents that are being worked on", ascents),
            ("gradserve_open_streams", "Streams of predictions that are open", streams),
        ):
            Gauge(name, what, registry=self.registry).set_function(count)
        Info("gradserve_build", "What this server is made of", registry=self.registry).info(_build())
        self._close: Callable[[], None] = lambda: None

    def ended(self, call: Call) -> None:
        """Counts a call."""
        child = self._children.get((call.rpc, call.status))  # faster than `labels`
        if child is None:
            child = self._children[call.rpc, call.status] = self._calls.labels(call.rpc, call.status)
        child.inc()

    def serve(self, host: str, port: int) -> int:
        """Answers GET /metrics in the background, until `close`.

        Returns:
            The port.

        Raises:
            OSError: The address cannot be bound.
        """
        server, thread = start_http_server(port, host, self.registry)

        def close() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        self._close = close
        return server.server_port

    def close(self) -> None:
        """Answers no more."""
        self._close()


def _build() -> dict[str, str]:
    wheel = installed_wheel()
    return {"version": gradserve_server.__version__, "onnxruntime": version(wheel), "wheel": wheel}


class _Predictions(Collector):
    """Triton's counters. Untyped: the library would add `_total` to the name of a counter, which Triton's have not."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics

    def collect(self) -> Iterator[UntypedMetricFamily]:
        snapshot = self._statistics.series()
        for name, (what, read) in PREDICTIONS.items():
            family = UntypedMetricFamily(name, what, labels=MODEL)
            for counts in snapshot:
                family.add_metric((counts.name, str(counts.version)), read(counts))
            yield family
        family = UntypedMetricFamily(FAILURES, "Predictions that failed", labels=(*MODEL, "reason"))
        for counts in snapshot:
            for reason, duration in counts.failures.items():
                family.add_metric((counts.name, str(counts.version), reason), duration.count)
        yield family
