"""Lines of the log: what they have, in both formats, and whose they are."""

import json
import logging
from types import SimpleNamespace

import pytest
from support.contexts import Context

from gradserve_server.rpc import call, logs
from gradserve_server.rpc.call import Call

FIELDS = ["rpc", "status", "model", "version", "duration_ms", "queue_ms", "bytes_in", "bytes_out", "peer"]
CALL = Call(
    "/package.Service/Rpc",
    "order-42",
    (("authorization", "secret"),),
    "ipv4:127.0.0.1:4242",
    "digits",
    "1",
    bytes_in=10,
    bytes_out=20,
    waited=0.0015,
    status="OK",
    seconds=0.25,
)


@pytest.fixture(autouse=True)
def _no_call_stays():
    yield
    call.current.set(None)


def formatted(name, record):
    logs._add_call(record)
    return logs._FORMATTERS[name].format(record)


def made(text="text", *values, **extra):
    return logging.getLogger("gradserve_server").makeRecord("logger", logging.INFO, "f", 1, text, values, None, extra=extra)


@pytest.fixture
def access(caplog):
    with caplog.at_level(logging.DEBUG, "gradserve_server.access"):
        logs.AccessLog().ended(CALL)
    (record,) = caplog.records
    return record


def test_a_line_for_each_call(access):
    assert (access.name, access.levelno) == ("gradserve_server.access", logging.INFO)
    line = json.loads(formatted("json", access))
    assert line.pop("timestamp").endswith("+00:00")
    assert line == {
        "level": "INFO",
        "logger": "gradserve_server.access",
        "message": "call",
        "rpc": "/package.Service/Rpc",
        "status": "OK",
        "model": "digits",
        "version": "1",
        "duration_ms": 250,
        "queue_ms": 1.5,
        "bytes_in": 10,
        "bytes_out": 20,
        "peer": "ipv4:127.0.0.1:4242",
        "token": "",
    }


def test_the_same_as_text(access):
    text = formatted("text", access)
    assert " INFO gradserve_server.access: call rpc=/package.Service/Rpc status=OK model=digits " in text
    assert [word.partition("=")[0] for word in text.split("call ")[1].split()] == FIELDS
    assert "secret" not in text


def test_probes_are_for_debugging(caplog):
    probe = Call("/grpc.health.v1.Health/Check", "id", ())
    with caplog.at_level(logging.INFO, "gradserve_server.access"):
        logs.AccessLog().ended(probe)
    assert not caplog.records
    with caplog.at_level(logging.DEBUG, "gradserve_server.access"):
        logs.AccessLog().ended(probe)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("name", ["text", "json"])
def test_a_line_of_a_call_has_its_request_id(name):
    call.begin("/rpc", Context(("x-request-id", "order-42")))
    assert "order-42" in formatted(name, made())
    call.current.set(None)
    assert "request_id" not in formatted(name, made())


@pytest.mark.parametrize("name", ["text", "json"])
def test_a_line_of_a_traced_call_has_its_trace(name):
    span = SimpleNamespace(get_span_context=lambda: SimpleNamespace(trace_id=0xABC))
    call.begin("/rpc", Context()).span = span
    assert f"{0xABC:032x}" in formatted(name, made())


@pytest.mark.parametrize("name", ["text", "json"])
def test_a_stack_trace_is_in_it(name):
    try:
        1 // 0  # noqa: B018
    except ZeroDivisionError:
        record = logging.getLogger("x").makeRecord("x", logging.ERROR, "f", 1, "failed", (), True)
        import sys

        record.exc_info = sys.exc_info()
    call.begin("/rpc", Context(("x-request-id", "order-42")))
    text = formatted(name, record)
    assert "ZeroDivisionError" in text
    assert "order-42" in text.splitlines()[0]


@pytest.mark.parametrize("value", ["two words", "line\nbreak", 'quo"te', "\x1b[31m"])
def test_what_a_client_wrote_stays_one_word_of_one_line(value):
    text = formatted("text", made(model=value))
    assert len(text.splitlines()) == 1
    assert text.endswith(f" model={json.dumps(value)}")
