"""Which threads answer a call, so that calls which only wait do not keep others waiting."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial, update_wrapper
from typing import Any

import grpc

from gradserve.errors import InvalidMessage
from gradserve_server.rpc.receiving import Receiving
from gradserve_server.rpc.status import to_status


class ThreadInterceptor(grpc.ServerInterceptor):
    """Waits for the request of each call, with an end to it, and gives RPCs that stay open threads of their own.

    Args:
        receiving: Waits for requests.
        pools: Threads, by the path of an RPC.
    """

    def __init__(self, receiving: Receiving, pools: Mapping[str, ThreadPoolExecutor]) -> None:
        self._receiving, self._pools = receiving, pools

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Wraps the handler of a call. It becomes one of a stream of requests, because such streams can be waited for."""
        handler, rpc = continuation(details), details.method
        if handler is None:
            return None
        behaviour = handler.unary_unary or handler.unary_stream or handler.stream_stream
        handle = partial(behaviour) if handler.request_streaming else partial(self._answer, behaviour, rpc)
        update_wrapper(handle, behaviour)  # with its attributes, which grpc looks at
        if rpc in self._pools:
            handle.experimental_thread_pool = self._pools[rpc]  # type: ignore[attr-defined]
        make = grpc.stream_stream_rpc_method_handler if handler.response_streaming else grpc.stream_unary_rpc_method_handler
        return make(handle, handler.request_deserializer, handler.response_serializer)

    def _answer(self, behaviour: Callable[[Any, Any], Any], rpc: str, requests: Iterator[Any], context: Any) -> Any:
        request = self._receiving.first(requests, context)
        if request is None:
            context.abort_with_status(to_status(InvalidMessage(f"{rpc}: expected one request, got none"), rpc))
        return behaviour(request, context)
