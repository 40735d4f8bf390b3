"""Around every RPC: errors become statuses here and nowhere else, and calls are counted by their status."""

from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from gradserve.errors import InvalidMessage
from gradserve_server.rpc.status import to_status

Count = Callable[[str, str], None]
"""Told the path of an RPC and the name of its status, at the end of each call."""

Read = Callable[[Any], Any]
"""Makes a request, or an iterator of them, of what came over the wire."""


class CallInterceptor(grpc.ServerInterceptor):
    """Turns exceptions of handlers into statuses.

    Requests are read here, not by grpc, which would call bytes that are none a defect of the server.

    Args:
        count: Where calls are counted.
    """

    def __init__(self, count: Count) -> None:
        self._count = count

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Wraps the handler of a call."""
        handler = continuation(details)
        if handler is None:
            return None
        behaviour, wrap, make = _kind(handler)
        read = partial(_read, handler.request_deserializer, details.method)
        return make(
            wrap(behaviour, partial(map, read) if handler.request_streaming else read, details.method, self._count),
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


def _read(deserialize: Callable[[bytes], Any], rpc: str, data: bytes) -> Any:
    try:
        return deserialize(data)
    except DecodeError as error:
        msg = f"{rpc}: expected its request, got {len(data)} bytes that are no such message"
        raise InvalidMessage(msg) from error


def _wrap_unary(behaviour: Callable[[Any, Any], Any], read: Read, rpc: str, count: Count) -> Callable[[Any, Any], Any]:
    @wraps(behaviour)  # with its attributes, which grpc looks at
    def handle(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            response = behaviour(read(request), context)
        except Exception as error:
            _abort(error, rpc, context, count)
        count(rpc, _status_of(context).name)
        return response

    return handle


def _wrap_stream(
    behaviour: Callable[[Any, Any], Iterator[Any]], read: Read, rpc: str, count: Count
) -> Callable[[Any, Any], Iterator[Any]]:
    @wraps(behaviour)
    def handle(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            yield from behaviour(read(request), context)
        except GeneratorExit:
            count(rpc, grpc.StatusCode.CANCELLED.name)
            raise
        except grpc.RpcError:  # from a stream of requests whose client has gone: nobody is there to be told
            count(rpc, grpc.StatusCode.CANCELLED.name)
            return
        except Exception as error:
            _abort(error, rpc, context, count)
        count(rpc, (_status_of(context) if context.is_active() else grpc.StatusCode.CANCELLED).name)

    return handle


def _status_of(context: Any) -> grpc.StatusCode:
    """Of a call that raised nothing; the health service sets it itself."""
    status: grpc.StatusCode = context.code() or grpc.StatusCode.OK
    return status


def _abort(error: Exception, rpc: str, context: Any, count: Count) -> NoReturn:
    status = to_status(error, rpc)
    count(rpc, status.code.name)
    context.abort_with_status(status)
    raise AssertionError(status)  # the line above always raises
