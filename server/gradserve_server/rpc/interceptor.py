"""Around every RPC of ours: errors become statuses here and nowhere else."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc

from gradserve_server.rpc.status import to_status


class ErrorInterceptor(grpc.ServerInterceptor):
    """Turns exceptions of handlers into statuses."""

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Wraps the handler of a call."""
        handler = continuation(details)
        # The health service aborts by itself, and its Watch keeps to its own threads only as long as nobody wraps it.
        if handler is None or details.method.startswith("/grpc."):
            return handler
        behaviour, wrap, make = _kind(handler)
        return make(
            wrap(behaviour, details.method),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _kind(handler: Any) -> tuple[Any, Callable[..., Any], Callable[..., Any]]:
    """What a handler calls, how to wrap it, and how to make a handler of that."""
    match handler.request_streaming, handler.response_streaming:
        case False, False:
            return handler.unary_unary, _wrap_unary, grpc.unary_unary_rpc_method_handler
        case False, True:
            return handler.unary_stream, _wrap_stream, grpc.unary_stream_rpc_method_handler
        case _:  # no RPC of ours takes a stream and answers once
            return handler.stream_stream, _wrap_stream, grpc.stream_stream_rpc_method_handler


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
