"""Around every RPC of ours: errors become statuses here and nowhere else, and calls are counted by their status."""

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import grpc

from gradserve_server.rpc.status import to_status

Count = Callable[[str, str], None]
"""Told the path of an RPC and the name of its status, at the end of each call."""


class CallInterceptor(grpc.ServerInterceptor):
    """Turns exceptions of handlers into statuses.

    Args:
        count: Where calls are counted.
    """

    def __init__(self, count: Count) -> None:
        self._count = count

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Wraps the handler of a call."""
        handler = continuation(details)
        # The health service aborts by itself, and its Watch keeps to its own threads only as long as nobody wraps it.
        if handler is None or details.method.startswith("/grpc."):
            return handler
        behaviour, wrap, make = _kind(handler)
        return make(
            wrap(behaviour, details.method, self._count),
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


def _wrap_unary(behaviour: Callable[[Any, Any], Any], rpc: str, count: Count) -> Callable[[Any, Any], Any]:
    def handle(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            response = behaviour(request, context)
        except Exception as error:
            _abort(error, rpc, context, count)
        count(rpc, grpc.StatusCode.OK.name)
        return response

    return handle


def _wrap_stream(
    behaviour: Callable[[Any, Any], Iterator[Any]], rpc: str, count: Count
) -> Callable[[Any, Any], Iterator[Any]]:
    def handle(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            yield from behaviour(request, context)
        except GeneratorExit:
            count(rpc, grpc.StatusCode.CANCELLED.name)
            raise
        except grpc.RpcError:  # from a stream of requests whose client has gone: nobody is there to be told
            count(rpc, grpc.StatusCode.CANCELLED.name)
            return
        except Exception as error:
            _abort(error, rpc, context, count)
        count(rpc, (grpc.StatusCode.OK if context.is_active() else grpc.StatusCode.CANCELLED).name)

    return handle


def _abort(error: Exception, rpc: str, context: Any, count: Count) -> NoReturn:
    status = to_status(error, rpc)
    count(rpc, status.code.name)
    context.abort_with_status(status)
    raise AssertionError(status)  # the line above always raises
