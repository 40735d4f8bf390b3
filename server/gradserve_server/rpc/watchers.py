"""The library's health service, for clients that come and go: nothing is kept of watchers that have left."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from queue import SimpleQueue
from typing import Any

from grpc_health.v1 import health
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

Tell = Callable[[HealthCheckResponse | None], None]


class HealthServicer(health.HealthServicer):
    """As its base, which keeps every name that was ever watched, and a thread for each watcher that left before it began.

    Its non-blocking mode is off: it deadlocks when a watcher leaves while it stops.
    """

    _lock: AbstractContextManager[object]
    _send_response_callbacks: dict[str, set[Tell]]

    def __init__(self) -> None:
        super().__init__(experimental_non_blocking=False)

    def Watch(self, request: HealthCheckRequest, context: Any) -> Iterator[HealthCheckResponse]:  # type: ignore[override]  # noqa: N802
        """The status of a name, now and whenever it changes."""
        changes: SimpleQueue[HealthCheckResponse | None] = SimpleQueue()
        tell = changes.put
        super().Watch(request, context, tell)  # tells None at the end of the call, unless that has come already
        if context.add_callback(lambda: self._forget(request.service, tell)):
            yield from iter(changes.get, None)
        else:
            self._forget(request.service, tell)

    def _forget(self, service: str, tell: Tell) -> None:
        with self._lock:
            watchers = self._send_response_callbacks.get(service, set())
            watchers.discard(tell)
            if not watchers:
                self._send_response_callbacks.pop(service, None)
