"""What becomes of a call: its status, what is counted, what is logged."""

from types import SimpleNamespace

import grpc
import pytest

from gradserve import errors
from gradserve_server.rpc.interceptor import CallInterceptor

RPC = "/package.Service/Rpc"


class Aborted(Exception):
    """As `ServicerContext.abort_with_status` raises."""


class Context:
    def __init__(self, *, active=True):
        self._active = active

    def is_active(self):
        return self._active

    def abort_with_status(self, status):
        raise Aborted(status.code)


def wrapped(make, behaviour, counted):
    details = SimpleNamespace(method=RPC)
    interceptor = CallInterceptor(lambda rpc, code: counted.append((rpc, code)))
    return interceptor.intercept_service(lambda _: make(behaviour), details)


def fail(error):
    raise error


STREAMS = {
    "unary_stream": grpc.unary_stream_rpc_method_handler,
    "stream_stream": grpc.stream_stream_rpc_method_handler,
}


def run(kind, behaviour, counted, context):
    """What the handler answers, as a list."""
    if kind == "unary_unary":
        handler = wrapped(grpc.unary_unary_rpc_method_handler, lambda request, context: behaviour(), counted)  # noqa: ARG005
        return [handler.unary_unary("request", context)]

    def generate(request, context):  # noqa: ARG001
        yield behaviour()

    return list(getattr(wrapped(STREAMS[kind], generate, counted), kind)("request", context))


KINDS = ["unary_unary", *STREAMS]


@pytest.mark.parametrize("kind", KINDS)
def test_what_goes_well(kind):
    counted = []
    assert run(kind, lambda: 7, counted, Context()) == [7]
    assert counted == [(RPC, "OK")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("error", "code"), [(errors.InvalidTensor("text"), "INVALID_ARGUMENT"), (KeyError(), "INTERNAL")])
def test_what_fails(kind, error, code):
    counted = []
    with pytest.raises(Aborted, match=code):
        run(kind, lambda: fail(error), counted, Context())
    assert counted == [(RPC, code)]


@pytest.mark.parametrize("kind", STREAMS)
def test_a_client_that_has_gone_is_no_defect(kind, caplog):
    counted = []
    assert run(kind, lambda: fail(grpc.RpcError()), counted, Context()) == []
    assert counted == [(RPC, "CANCELLED")]
    assert not caplog.records


@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_that_ends_because_its_client_has_gone(kind):
    counted = []
    run(kind, lambda: 7, counted, Context(active=False))
    assert counted == [(RPC, "CANCELLED")]


@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_that_is_not_read_to_its_end(kind):
    counted = []

    def generate(request, context):  # noqa: ARG001
        yield from range(5)

    answers = getattr(wrapped(STREAMS[kind], generate, counted), kind)("request", Context())
    assert next(answers) == 0
    answers.close()
    assert counted == [(RPC, "CANCELLED")]


def test_health_and_reflection_are_left_alone():
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: 7)  # noqa: ARG005
    details = SimpleNamespace(method="/grpc.health.v1.Health/Check")
    assert CallInterceptor(lambda *_: None).intercept_service(lambda _: handler, details) is handler
