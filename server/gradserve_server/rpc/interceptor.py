"""Around every RPC of ours: errors become statuses here and nowhere else."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc

from gradserve_server.rpc.status import to_status


class ErrorInterceptor(grpc.ServerInterceptor):
    """Turns exceptions of unary and server-streaming handlers into statuses."""

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Wraps the handler of a call."""
        handler = continuation(details)
        # The health service aborts by itself, and its Watch keeps to its own threads only as long as nobody wraps it.
        if handler is None or handler.request_streaming or details.method.startswith("/grpc."):
            return handler
        wrap, make = (
            (_wrap_stream, grpc.unary_stream_rpc_method_handler)
            if handler.response_streaming
            else (_wrap_unary, grpc.unary_unary_rpc_method_handler)
        )
        return make(
            wrap(handler.unary_stream if handler.response_streaming else handler.unary_unary, details.method),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _wrap_unary(behaviour: Callable[[Any, Any], Any], rpc: str) -> Callable[[Any, Any], Any]:
    def handle(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return behaviour(request, context)
        except Exception as error:
            _abort(error, rpc, context)

    return handle


def _wrap_stream(behaviour: Callable[[Any, Any], Iterator[Any]], rpc: str) -> Callable[[Any, Any], Iterator[Any]]:
    def handle(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            yield from behaviour(request, context)
        except Exception as error:
            _abort(error, rpc, context)

    return handle


def _abort(error: Exception, rpc: str, context: Any) -> None:
    context.abort_with_status(to_status(error, rpc))
