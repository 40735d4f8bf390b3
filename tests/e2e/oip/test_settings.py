"""LogSettings and TraceSetting, with the stock client."""

import asyncio
import logging

import pytest
import tritonclient.grpc.aio
from opentelemetry.sdk.trace import TracerProvider
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from gradserve_server import ServerConfig
from gradserve_server.rpc import logs
from gradserve_server.rpc.app import Server

LEVELS = {
    "debug": (True, True, True, 1),
    "info": (True, True, True, 0),
    "warning": (True, True, False, 0),
    "error": (True, False, False, 0),
    "critical": (False, False, False, 0),
}
NAMES = ("log_error", "log_warning", "log_info", "log_verbose_level")
OFF = {"trace_level": ["OFF"], "trace_rate": ["1"], "trace_count": ["-1"], "trace_mode": ["opentelemetry"]}


@pytest.fixture(autouse=True)
def _the_level_is_set_back():
    before = logs.OURS.level
    yield
    logs.OURS.setLevel(before)


# ---- logs ------------------------------------------------------------------------------------------------------------


def log_settings(response):
    return {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in response.settings.items()}


@pytest.mark.parametrize("level", LEVELS)
def test_reading(triton, level):
    logs.OURS.setLevel(level.upper())
    flags = dict(zip(NAMES, LEVELS[level], strict=True))
    assert log_settings(triton.get_log_settings()) == flags | {"log_file": "", "log_format": "text"}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("start", ["debug", "critical"])
def test_changing(triton, level, start):
    logs.OURS.setLevel(start.upper())
    flags = dict(zip(NAMES, LEVELS[level], strict=True))
    assert log_settings(triton.update_log_settings(flags)) == flags | {"log_file": "", "log_format": "text"}
    assert logs.OURS.isEnabledFor(getattr(logging, level.upper()))
    assert not logs.OURS.isEnabledFor(getattr(logging, level.upper()) - 1)


def test_what_is_not_named_stays(triton):
    logs.OURS.setLevel(logging.WARNING)
    assert log_settings(triton.update_log_settings({"log_info": True}))["log_warning"]
    assert logs.OURS.level == logging.INFO
    triton.update_log_settings({"log_verbose_level": 3, "log_format": "text", "log_file": ""})
    assert logs.OURS.level == logging.DEBUG


def test_asking_for_nothing_changes_nothing(triton):
    logs.OURS.setLevel(logging.NOTSET)
    triton.get_log_settings()
    assert logs.OURS.level == logging.NOTSET


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"log_file": "x.log"}, "log_file: expected '', because it cannot change while the server runs"),
        ({"log_format": "ISO8601"}, "log_format: expected 'text', because"),
        ({"log_warning": False, "log_info": True}, r"expected none on after one that is off"),
        ({"log_verbose_level": 1, "log_info": False}, r"got \[True, True, False, True\]"),
        ({"log_nothing": True}, "log setting 'log_nothing': expected one of log_file, "),
        ({"log_info": None}, "log setting 'log_info': expected bool_param, got nothing"),
    ],
)
def test_refused(triton, settings, text):
    logs.OURS.setLevel(logging.WARNING)
    with pytest.raises(InferenceServerException, match=text) as error:
        triton.update_log_settings(settings)
    assert error.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert logs.OURS.level == logging.WARNING


# ---- traces ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def tracing(engine):
    with (
        Server(engine, ServerConfig(port=0, trace_rate=5), tracer_provider=TracerProvider()) as server,
        InferenceServerClient(server.address) as client,
    ):
        yield client


def trace_settings(response):
    return {name: list(setting.value) for name, setting in response.settings.items()}


@pytest.mark.parametrize("model", ["", "digits"])
def test_a_server_that_does_not_trace_says_so(triton, model):
    assert trace_settings(triton.get_trace_settings(model)) == OFF
    with pytest.raises(InferenceServerException, match="does not trace; start it with --trace") as error:
        triton.update_trace_settings(model, {"trace_level": "TIMESTAMPS"})
    assert error.value.status() == "StatusCode.UNIMPLEMENTED"


def test_reading_and_changing_what_is_traced(tracing):
    start = OFF | {"trace_level": ["TIMESTAMPS"], "trace_rate": ["5"]}
    assert trace_settings(tracing.get_trace_settings()) == start
    changed = start | {"trace_rate": ["7"]}
    assert trace_settings(tracing.update_trace_settings(settings={"trace_rate": "7"})) == changed
    of_model = changed | {"trace_level": ["OFF"]}
    assert trace_settings(tracing.update_trace_settings("digits", {"trace_level": ["OFF"]})) == of_model
    assert trace_settings(tracing.get_trace_settings("digits")) == of_model
    assert trace_settings(tracing.get_trace_settings("scenario_a")) == changed
    assert trace_settings(tracing.update_trace_settings(settings={"trace_rate": None})) == start
    assert trace_settings(tracing.update_trace_settings("digits", {"trace_level": None})) == start


@pytest.mark.parametrize(
    ("model", "settings", "status", "text"),
    [
        ("", {"trace_level": "TENSORS"}, "INVALID_ARGUMENT", "trace_level: expected OFF or TIMESTAMPS, got TENSORS"),
        ("", {"trace_file": "f"}, "INVALID_ARGUMENT", "trace setting 'trace_file': expected one of"),
        ("digits", {"trace_rate": "0"}, "INVALID_ARGUMENT", "trace_rate: expected one whole number from 1"),
        ("nowhere", {"trace_rate": "1"}, "NOT_FOUND", "model 'nowhere'"),
        ("nowhere", {}, "NOT_FOUND", "model 'nowhere'"),
    ],
)
def test_trace_settings_that_are_refused(tracing, model, settings, status, text):
    with pytest.raises(InferenceServerException, match=text) as error:
        tracing.update_trace_settings(model, settings)
    assert error.value.status() == f"StatusCode.{status}"


def test_asynchronously(server):
    asyncio.run(_ask_asynchronously(server))


async def _ask_asynchronously(server):
    async with tritonclient.grpc.aio.InferenceServerClient(server.address) as client:
        assert trace_settings(await client.get_trace_settings()) == OFF
        assert log_settings(await client.get_log_settings())["log_error"]


def test_metadata_names_both(triton):
    assert {"logging", "trace"} <= set(triton.get_server_metadata().extensions)
