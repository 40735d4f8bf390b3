"""What Prometheus scrapes: predictions under Triton's names, and what Triton has no name for under ours."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, start_http_server
from prometheus_client.core import UntypedMetricFamily
from prometheus_client.registry import Collector

from gradserve_server.rpc.statistics import Counts, Phase, Statistics

_LABELS = ("model", "version")


def _microseconds(phase: Phase) -> Callable[[Counts], float]:
    return lambda counts: counts.phases[phase].ns / 1000


PREDICTIONS: dict[str, tuple[str, Callable[[Counts], float]]] = {
    "nv_inference_request_success": ("Predictions that succeeded", lambda counts: counts.success.count),
    "nv_inference_count": ("Samples predicted", lambda counts: counts.samples),
    "nv_inference_exec_count": ("Runs of the model for predictions", lambda counts: counts.success.count),
    "nv_inference_request_duration_us": ("Time of predictions, from arrival", lambda counts: counts.success.ns / 1000),
    **{
        f"nv_inference_{phase}_duration_us": (what, _microseconds(phase))
        for phase, what in {
            Phase.QUEUE: "Time that predictions waited for a thread",
            Phase.INPUT: "Time of decoding inputs",
            Phase.INFER: "Time of checking inputs and running the model",
            Phase.OUTPUT: "Time of encoding outputs",
        }.items()
    },
}
"""By name: what it is, and how to read it."""

FAILURES = "nv_inference_request_failure"


class Metrics:
    """The metrics of one server.

    Args:
        statistics: Of its predictions.
        ascents: How many run now.
        streams: How many are open now.
    """

    def __init__(self, statistics: Statistics, *, ascents: Callable[[], int], streams: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Predictions(statistics))
        ProcessCollector(registry=self.registry)
        self._calls = Counter("gradserve_calls", "Calls by RPC and status", ("rpc", "code"), registry=self.registry)
        for name, what, count in (
            ("gradserve_running_ascents", "Ascents that are being worked on", ascents),
            ("gradserve_open_streams", "Streams of predictions that are open", streams),
        ):
            Gauge(name, what, registry=self.registry).set_function(count)
        self._close: Callable[[], None] = lambda: None

    def count_call(self, rpc: str, code: str) -> None:
        """One more call has ended."""
        self._calls.labels(rpc, code).inc()

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


class _Predictions(Collector):
    """Triton's counters. Untyped: the library would add `_total` to the name of a counter, which Triton's have not."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics

    def collect(self) -> Iterator[UntypedMetricFamily]:
        snapshot = self._statistics.snapshot()
        for name, (what, read) in PREDICTIONS.items():
            family = UntypedMetricFamily(name, what, labels=_LABELS)
            for counts in snapshot:
                family.add_metric((counts.name, str(counts.version)), read(counts))
            yield family
        family = UntypedMetricFamily(FAILURES, "Predictions that failed", labels=(*_LABELS, "reason"))
        for counts in snapshot:
            for reason, duration in counts.failures.items():
                family.add_metric((counts.name, str(counts.version), reason), duration.count)
        yield family
