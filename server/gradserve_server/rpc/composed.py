"""Interceptors applied once to each RPC instead of once to each call."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import grpc

Continuation = Callable[[Any], Any]


def compose(interceptors: Sequence[grpc.ServerInterceptor], innermost: Continuation) -> Continuation:
    """What gives the handler of a call, with interceptors around it, the first outermost."""
    for interceptor in reversed(interceptors):
        innermost = partial(interceptor.intercept_service, innermost)
    return innermost


class Composed(grpc.ServerInterceptor):
    """Several interceptors as one, whose handlers are kept.

    Else they wrap every call's anew, in the one thread that hands out all calls.

    Args:
        interceptors: The first is outermost. Of a call's details they may look at the method only.
    """

    def __init__(self, interceptors: Sequence[grpc.ServerInterceptor]) -> None:
        self._interceptors = tuple(interceptors)
        self._handlers: dict[str, Any] = {}

    def intercept_service(self, continuation: Continuation, details: Any) -> Any:
        """The wrapped handler of the call's RPC; None, and nothing kept, where there is no such RPC."""
        handler = self._handlers.get(details.method)
        if handler is None:
            handler = compose(self._interceptors, continuation)(details)
            if handler is not None:
                self._handlers[details.method] = handler
        return handler
