"""Stopping without losing work: what is inside may finish, and nothing new comes in.

A gate is open; then leaving (health says so, all is served still); closed (new calls are refused, those inside go on); and
at last hurried (ascents end with a checkpoint, streams with their next request).
"""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from gradserve.errors import ServerUnavailable

QUIET_SECONDS = 0.2
"""So long must nothing have happened. A client that sends one request of a stream after the other leaves no such gap; and
one that calls just when gRPC's own server stops is told CANCELLED, as if it had wished that, and not UNAVAILABLE."""


class Gate:
    """Counts the calls inside, and closes. Safe to use from many threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._last_change = -math.inf
        self._closed = False
        self.leaving = False
        """Whether others were told that it will close."""
        self.hurried = threading.Event()
        """Whether what is inside should end as soon as it can."""

    def close(self) -> None:
        """Lets no more calls in."""
        self._closed = True

    def enter(self, context: grpc.ServicerContext) -> None:
        """Counts a call until its answer has been sent.

        Raises:
            ServerUnavailable: The gate is closed.
        """
        with self._changed:
            if self._closed:
                raise _closed()
            self._count(+1)
        if not context.add_callback(self._leave):  # it is over already
            self._leave()

    def requests(self, requests: Iterator[Any]) -> Iterator[Any]:
        """The requests of a stream, which is idle while it waits for one.

        Raises:
            ServerUnavailable: With the next request, once everybody is to hurry.
        """
        while True:
            with self._idling():
                request = next(requests, None)
            if request is None:
                return
            if self.hurried.is_set():
                raise _closed()
            yield request

    def wait_empty(self, until: float) -> bool:
        """Waits until nobody is inside but streams that are idle, and that for a moment.

        Args:
            until: By `time.monotonic()`.

        Returns:
            Whether that was so in time.
        """
        with self._changed:
            while (now := time.monotonic()) < until:
                quiet = math.inf if self._inside else self._last_change + QUIET_SECONDS
                if now >= quiet:
                    break
                self._changed.wait(min(quiet, until) - now)
            return not self._inside

    def _leave(self) -> None:
        with self._changed:
            self._count(-1)

    @contextmanager
    def _idling(self) -> Iterator[None]:
        self._leave()
        try:
            yield
        finally:
            with self._changed:
                self._count(+1)

    def _count(self, change: int) -> None:
        self._inside += change
        self._last_change = time.monotonic()
        self._changed.notify_all()


class GateInterceptor(grpc.ServerInterceptor):
    """Sends every RPC of ours through a gate. What gRPC brings (health, reflection) is always answered."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Wraps the handler of a call."""
        handler = continuation(details)
        if handler is None or details.method.startswith("/grpc."):
            return handler
        ways = handler.request_streaming, handler.response_streaming
        kind = "_".join("stream" if streaming else "unary" for streaming in ways)
        behaviour = getattr(handler, kind)

        def handle(request: Any, context: grpc.ServicerContext) -> Any:
            self._gate.enter(context)
            return behaviour(self._gate.requests(request) if handler.request_streaming else request, context)

        return getattr(grpc, f"{kind}_rpc_method_handler")(
            handle, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
        )


def _closed() -> ServerUnavailable:
    return ServerUnavailable("the server is shutting down; ask again, or ask another")
