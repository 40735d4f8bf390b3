"""What becomes of a call: its status, what is counted, what is logged."""

from contextlib import suppress
from functools import partial
from types import SimpleNamespace

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from support.contexts import Aborted, Context

from gradserve import errors
from gradserve_server.rpc import call
from gradserve_server.rpc.interceptor import CallInterceptor

RPC = "/package.Service/Rpc"


class Counting(call.CallWatcher):
    def __init__(self, counted):
        self.counted = counted

    def ended(self, call):
        self.counted.append((call.rpc, call.status))


def write(response):
    return response.SerializeToString() if isinstance(response, ErrorInfo) else str(response).encode()


def wrapped(make, behaviour, counted):
    details = SimpleNamespace(method=RPC)
    interceptor = CallInterceptor(Counting(counted))
    return interceptor.intercept_service(lambda _: make(behaviour, ErrorInfo.FromString, write), details)


@pytest.fixture(autouse=True)
def _no_call_stays():
    """grpc answers each call in a context of its own; here all are in that of the test."""
    yield
    call.current.set(None)


def request(kind, data=b""):
    return iter([data]) if kind == "stream_stream" else data


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
        return [handler.unary_unary(request(kind), context)]

    def generate(request, context):  # noqa: ARG001
        yield behaviour()

    return list(getattr(wrapped(STREAMS[kind], generate, counted), kind)(request(kind), context))


KINDS = ["unary_unary", *STREAMS]


@pytest.mark.parametrize("kind", KINDS)
def test_what_goes_well(kind):
    counted = []
    assert run(kind, lambda: 7, counted, Context()) == [b"7"]
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
    assert run(kind, lambda: fail(grpc.RpcError()), counted, Context(active=False)) == []
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

    answers = getattr(wrapped(STREAMS[kind], generate, counted), kind)(request(kind), Context())
    assert next(answers) == b"0"
    answers.close()
    assert counted == [(RPC, "CANCELLED")]


def echo(request, context):  # noqa: ARG001
    return request


def echo_each(requests, context):  # noqa: ARG001
    yield from requests if isinstance(requests, map) else [requests]


ECHOES = {"unary_unary": (grpc.unary_unary_rpc_method_handler, echo)} | {
    kind: (make, echo_each) for kind, make in STREAMS.items()
}


def ask(kind, data, counted):
    make, behaviour = ECHOES[kind]
    answer = getattr(wrapped(make, behaviour, counted), kind)(request(kind, data), Context())
    return answer if kind == "unary_unary" else next(answer)


@pytest.mark.parametrize("kind", KINDS)
def test_requests_are_read(kind):
    message = ErrorInfo(reason="why")
    assert ask(kind, message.SerializeToString(), []) == message.SerializeToString()


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_that_are_no_request_are_the_callers_mistake(kind):
    counted = []
    with pytest.raises(Aborted, match="INVALID_ARGUMENT"):
        ask(kind, b"\xff", counted)
    assert counted == [(RPC, "INVALID_ARGUMENT")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_status_that_the_handler_sets_itself_is_counted(kind):
    counted = []
    run(kind, lambda: 7, counted, Context(code=grpc.StatusCode.NOT_FOUND))
    assert counted == [(RPC, "NOT_FOUND")]


@pytest.mark.parametrize("kind", KINDS)
def test_what_grpc_wants_to_know_of_a_handler_is_kept(kind):
    make, behaviour = ECHOES[kind]
    marked = partial(behaviour)
    marked.experimental_non_blocking = False
    assert getattr(wrapped(make, marked, []), kind).experimental_non_blocking is False


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", [None, errors.InvalidTensor("text"), KeyError()])
def test_every_answer_has_the_request_id(kind, error):
    context = Context(("x-request-id", "order-42"))
    with suppress(Aborted):
        run(kind, (lambda: 7) if error is None else lambda: fail(error), [], context)
    assert dict(context.trailing)["x-request-id"] == "order-42"


class Recorder(call.CallWatcher):
    def __init__(self):
        self.told = []

    def began(self, call):
        self.told.append(("began", call.bytes_in, call.bytes_out, call.status))

    def ended(self, call):
        self.told.append(("ended", call.bytes_in, call.bytes_out, call.status))
        assert call.seconds >= 0


@pytest.mark.parametrize("kind", KINDS)
def test_watchers_hear_of_the_begin_and_the_end(kind):
    recorder = Recorder()
    make, behaviour = ECHOES[kind]
    handler = CallInterceptor(recorder).intercept_service(
        lambda _: make(behaviour, ErrorInfo.FromString, write), SimpleNamespace(method=RPC)
    )
    data = ErrorInfo(reason="why").SerializeToString()
    answer = getattr(handler, kind)(request(kind, data), Context())
    list(answer) if kind != "unary_unary" else None
    read_before = 0 if kind == "stream_stream" else len(data)
    assert recorder.told == [("began", read_before, 0, ""), ("ended", len(data), len(data), "OK")]


@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_is_closed_before_its_end_is_told(kind):
    told = []

    class Last(call.CallWatcher):
        def ended(self, call):  # noqa: ARG002
            told.append("ended")

    def generate(request, context):  # noqa: ARG001
        try:
            yield 1
            yield 2
        finally:
            told.append("closed")

    handler = CallInterceptor(Last()).intercept_service(
        lambda _: STREAMS[kind](generate, ErrorInfo.FromString, write), SimpleNamespace(method=RPC)
    )
    answers = getattr(handler, kind)(request(kind), Context())
    next(answers)
    answers.close()
    assert told == ["closed", "ended"]
