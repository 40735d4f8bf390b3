"""Around every RPC: calls begin and end here, and errors become statuses here and nowhere else."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import partial, wraps
from time import monotonic
from typing import Any, cast

import grpc
from google.protobuf.message import DecodeError

from gradserve.errors import InvalidMessage
from gradserve_server.rpc.call import Call, CallWatcher, asked_model, begin
from gradserve_server.rpc.status import to_status

CANCELLED = grpc.StatusCode.CANCELLED.name


class CallInterceptor(grpc.ServerInterceptor):
    """Gives every call its request id, turns exceptions of handlers into statuses, and tells of calls.

    Requests are read here, not by grpc, which would call bytes that are none a defect of the server; and answers are written
    here, so that a call is over when its watchers hear so.

    Args:
        watchers: Told of calls.
    """

    def __init__(self, *watchers: CallWatcher) -> None:
        self._watchers = watchers

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Wraps the handler of a call."""
        handler = continuation(details)
        if handler is None:
            return None
        behaviour, wrap, make = _kind(handler)
        return make(wrap(self, behaviour, handler, details.method))

    def begins(self, call: Call) -> None:
        """Tells that a call is about to be answered."""
        for watcher in self._watchers:
            watcher.began(call)

    def ended(self, call: Call, status: str) -> None:
        """Tells that a call has been answered."""
        call.status, call.seconds = status, monotonic() - call.arrived
        for watcher in self._watchers:
            watcher.ended(call)


class _Answering:
    """The call that is answered inside."""

    __slots__ = ("_call", "_context", "_interceptor")

    def __init__(self, interceptor: CallInterceptor, rpc: str, context: grpc.ServicerContext) -> None:
        self._interceptor, self._context = interceptor, context
        self._call = begin(rpc, context)

    def __enter__(self) -> Call:
        return self._call

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> bool:
        match error:
            case None:
                self._interceptor.ended(self._call, _status_of(self._context))
            case grpc.RpcError() if (
                not self._context.is_active()
            ):  # from a stream of requests whose client has gone: nobody is there to be told
                self._interceptor.ended(self._call, CANCELLED)
                return True
            case Exception():
                status = to_status(error, self._call.rpc)
                self._interceptor.ended(self._call, status.code.name)
                self._context.abort_with_status(cast(grpc.Status, status))  # grpc asks for the fields only
            case _:  # a stream that nobody reads any more
                self._interceptor.ended(self._call, CANCELLED)
        return False


def _kind(handler: Any) -> tuple[Any, Callable[..., Any], Callable[..., Any]]:
    """What a handler calls, how to wrap it, and how to make a handler of that."""
    match handler.request_streaming, handler.response_streaming:
        case False, False:
            return handler.unary_unary, _wrap_unary, grpc.unary_unary_rpc_method_handler
        case False, True:
            return handler.unary_stream, _wrap_stream, grpc.unary_stream_rpc_method_handler
        case _:  # no RPC of ours takes a stream and answers once
            return handler.stream_stream, _wrap_stream, grpc.stream_stream_rpc_method_handler


def _wrap_unary(
    interceptor: CallInterceptor, behaviour: Callable[[Any, Any], Any], handler: Any, rpc: str
) -> Callable[[bytes, Any], bytes]:
    @wraps(behaviour)  # with its attributes, which grpc looks at
    def handle(data: bytes, context: grpc.ServicerContext) -> bytes:
        with _Answering(interceptor, rpc, context) as call:
            request = _read(handler, call, data)
            call.model, call.version = asked_model(request)
            interceptor.begins(call)
            return _write(handler, call, behaviour(request, context))
        return b""  # nobody is there to be told

    return handle


def _wrap_stream(
    interceptor: CallInterceptor, behaviour: Callable[[Any, Any], Generator[Any]], handler: Any, rpc: str
) -> Callable[[Any, Any], Iterator[bytes]]:
    @wraps(behaviour)
    def handle(data: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
        with _Answering(interceptor, rpc, context) as call:
            if handler.request_streaming:
                request: Any = map(partial(_read, handler, call), data)
            else:
                request = _read(handler, call, data)
                call.model, call.version = asked_model(request)
            interceptor.begins(call)
            with closing(behaviour(request, context)) as responses:
                yield from map(partial(_write, handler, call), responses)

    return handle


def _read(handler: Any, call: Call, data: bytes) -> Any:
    call.bytes_in += len(data)
    try:
        return handler.request_deserializer(data)
    except DecodeError as error:
        msg = f"{call.rpc}: expected its request, got {len(data)} bytes that are no such message"
        raise InvalidMessage(msg) from error


def _write(handler: Any, call: Call, response: Any) -> bytes:
    data: bytes = handler.response_serializer(response)
    call.bytes_out += len(data)
    return data


def _status_of(context: Any) -> str:
    """Of a call that raised nothing; the health service sets it itself."""
    if not context.is_active():
        return CANCELLED
    status: grpc.StatusCode = context.code() or grpc.StatusCode.OK
    return status.name
