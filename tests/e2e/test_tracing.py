"""OpenTelemetry spans of a real server, in memory; and the way from a client's trace into ours."""

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry import propagate, trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from support import golden, oip
from support.jobs import Crowd
from support.waiting import WAIT, wait_for
from tritonclient.grpc import InferenceServerClient

import gradserve
from gradserve import errors
from gradserve import objectives as O
from gradserve_server import Engine, ServerConfig
from gradserve_server.rpc.app import Server
from gradserve_server.rpc.tracing import SERVER_ERRORS, provider_from_environment

X = {"image": golden.digits()}
UNIT = O.unit("logits", 7)
SERVICE = "gradserve.v1.GradientService"


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


@pytest.fixture
def server(engine, provider):
    with Server(engine, ServerConfig(port=0), tracer_provider=provider) as server:
        yield server


@pytest.fixture
def client(server):
    with gradserve.Client(server.address) as client:
        yield client


def call_spans(exporter, count=1):
    """The spans of so many calls; a client may have its answer before its span has ended."""
    spans = lambda: [span for span in exporter.get_finished_spans() if span.kind is trace.SpanKind.SERVER]  # noqa: E731
    wait_for(lambda: len(spans()) >= count)
    return spans()


def children(exporter, span):
    return {
        child.name: child
        for child in exporter.get_finished_spans()
        if child.parent is not None and child.parent.span_id == span.context.span_id
    }


def test_a_gradient(exporter, client):
    with gradserve.metadata({"x-request-id": "order-42"}):
        client.gradient("digits", X, UNIT)
    (span,) = call_spans(exporter)
    told = dict(span.attributes)
    assert span.name == f"{SERVICE}/Gradient"
    assert told.pop("gradserve.queue_seconds") >= 0
    assert told.pop("network.peer.port") > 0
    assert told == {
        "rpc.system.name": "grpc",
        "rpc.method": f"{SERVICE}/Gradient",
        "rpc.response.status_code": "OK",
        "network.peer.address": "127.0.0.1",
        "gradserve.request_id": "order-42",
        "gradserve.model.name": "digits",
        "gradserve.model.version": "1",
    }
    assert span.parent is None
    assert span.status.is_unset
    run = children(exporter, span)["run"]
    assert dict(run.attributes) == {"gradserve.samples": 4, "gradserve.batch.samples": 4}
    assert span.start_time <= run.start_time < run.end_time <= span.end_time


def test_a_plan_is_built_in_the_call_that_needs_it(tmp_path, exporter, provider):
    oip.echo_repository(tmp_path)
    with (
        Engine(tmp_path) as engine,
        Server(engine, ServerConfig(port=0), tracer_provider=provider) as server,
        gradserve.Client(server.address) as client,
    ):
        for _ in range(2):
            client.gradient("echo_float32", {"x": np.ones((1, 2), np.float32)}, O.unit("y", 0))
    first, second = call_spans(exporter, 2)
    plan = children(exporter, first)["plan"]
    assert plan.attributes["gradserve.verb"] == "gradient"
    assert first.start_time <= plan.start_time < plan.end_time <= children(exporter, first)["run"].start_time
    assert children(exporter, second).keys() == {"run"}


def test_waiting_and_batches(exporter, client, engine):
    client.gradient("digits", X, UNIT)  # the plan is there
    with Crowd(engine._scheduler) as crowd:
        answers = [crowd.join(client.gradient, "digits", X, UNIT) for _ in range(2)]
        crowd.let_go()
        for answer in answers:
            answer.result(WAIT)
    for span in call_spans(exporter, 3)[1:]:
        made = children(exporter, span)
        assert made["queue"].attributes["gradserve.class"] == "gradient"
        assert made["queue"].end_time == pytest.approx(made["run"].start_time, abs=1e6)  # clocks are read apart
        assert made["run"].attributes["gradserve.samples"] == 4


def test_an_ascent_counts_its_steps(exporter, client):
    list(client.ascend("digits", UNIT, steps=5))
    (span,) = call_spans(exporter)
    assert span.attributes["gradserve.ascent.runs"] == 6
    assert span.attributes["gradserve.ascent.run_seconds"] > 0
    assert not children(exporter, span).keys() - {"plan"}


@pytest.mark.parametrize(("defect", "code"), [(False, "NOT_FOUND"), (True, "INTERNAL")])
def test_errors(exporter, client, engine, monkeypatch, defect, code):
    if defect:
        monkeypatch.setattr(engine, "infer_with", lambda *_args, **_kwargs: 1 // 0)
    with pytest.raises(errors.GradserveError):
        client.infer("digits" if defect else "nowhere", X)
    (span,) = call_spans(exporter)
    assert span.attributes["rpc.response.status_code"] == code
    assert (code in SERVER_ERRORS) == defect
    assert (span.status.status_code is trace.StatusCode.ERROR) == defect
    assert span.attributes.get("error.type") == (code if defect else None)
    assert not span.events  # nothing of the exception


def test_streams_but_not_probes(exporter, server):
    with grpc.insecure_channel(server.address) as channel:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    with InferenceServerClient(server.address) as triton:
        answers = []
        triton.start_stream(lambda result, error: answers.append((result, error)))
        for _ in range(2):
            triton.async_stream_infer("digits", [oip.infer_input("image", X["image"])])
        wait_for(lambda: len(answers) == 2)
        triton.stop_stream()
        triton.is_server_live()
    spans = call_spans(exporter, 2)
    assert [span.name.rpartition("/")[2] for span in spans] == ["ModelStreamInfer", "ServerLive"]
    runs = [span for span in exporter.get_finished_spans() if span.name == "run"]
    assert [run.parent.span_id for run in runs] == [spans[0].context.span_id] * 2


# ---- from the client -------------------------------------------------------------------------------------------------


def test_a_trace_goes_on_from_the_client(exporter, client, provider):
    with provider.get_tracer("test").start_as_current_span("mine") as mine:
        carrier = {}
        propagate.inject(carrier)
        with gradserve.metadata(carrier):
            client.infer("digits", X)
    (span,) = call_spans(exporter)
    assert span.context.trace_id == mine.get_span_context().trace_id
    assert span.parent.span_id == mine.get_span_context().span_id
    assert span.parent.is_remote


PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"


@pytest.mark.parametrize("chosen", [True, False])
def test_the_stock_client_decides_what_is_traced(exporter, engine, provider, chosen):
    with (
        Server(engine, ServerConfig(port=0, trace_rate=1000), tracer_provider=provider) as server,
        InferenceServerClient(server.address) as triton,
    ):
        triton.is_server_live()  # the first of 1000
        headers = {"traceparent": f"{PARENT}-0{int(chosen)}"}
        triton.infer("digits", [oip.infer_input("image", X["image"])], headers=headers)
    named = {span.name.rpartition("/")[2]: span for span in call_spans(exporter)}
    assert ("ModelInfer" in named) == chosen
    if chosen:
        assert f"{named['ModelInfer'].context.trace_id:032x}" == PARENT.split("-")[1]


@pytest.mark.parametrize("nonsense", ["", "00-00-00-01", "x" * 100])
def test_a_trace_that_is_none_does_no_harm(exporter, client, nonsense):
    with gradserve.metadata({"traceparent": nonsense}):
        client.infer("digits", X)
    (span,) = call_spans(exporter)
    assert span.parent is None


def test_settings_of_a_model(exporter, server, client):
    with InferenceServerClient(server.address) as triton:
        triton.update_trace_settings("digits", {"trace_level": "OFF"})
        client.infer("digits", X)
        client.infer("digits_batchnorm", X)
    names = [span.attributes.get("gradserve.model.name") for span in call_spans(exporter, 2)]
    assert names == ["digits", "digits_batchnorm"]
    assert [span.name.rpartition("/")[2] for span in call_spans(exporter)][1:] == ["Infer"]


# ---- where they go -----------------------------------------------------------------------------------------------------


class Collector(TraceServiceServicer):
    """Of OTLP over gRPC: keeps the names of the spans that come."""

    def __init__(self):
        self.spans = []

    def Export(self, request, context):  # noqa: ARG002, N802
        for of_resource in request.resource_spans:
            (name,) = [each.value.string_value for each in of_resource.resource.attributes if each.key == "service.name"]
            self.spans += [(name, span.name) for of_scope in of_resource.scope_spans for span in of_scope.spans]
        return ExportTraceServiceResponse()


def test_spans_are_sent_before_the_server_has_stopped(engine, monkeypatch):
    collector, collecting = Collector(), grpc.server(ThreadPoolExecutor(1))
    add_TraceServiceServicer_to_server(collector, collecting)
    port = collecting.add_insecure_port("127.0.0.1:0")
    collecting.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    try:
        with Server(engine, ServerConfig(port=0, trace=True)) as server, gradserve.Client(server.address) as client:
            client.infer("digits", X)
    finally:
        collecting.stop(None).wait()
    assert collector.spans == [("mine", "run"), ("mine", f"{SERVICE}/Infer")]


def test_the_environment_says_how(monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    provider = provider_from_environment()
    try:
        assert provider.resource.attributes["service.name"] == "mine"
        assert not provider.get_tracer("t").start_span("s").is_recording()
    finally:
        provider.shutdown()


def test_by_default_the_service_is_named_after_us(monkeypatch):
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    provider = provider_from_environment()
    try:
        assert provider.resource.attributes["service.name"] == "gradserve"
    finally:
        provider.shutdown()


def test_without_the_extra_tracing_is_refused_in_words(engine, monkeypatch):
    monkeypatch.delitem(sys.modules, "gradserve_server.rpc.tracing", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(errors.NotSupported, match=r"install gradserve-server\[tracing\]"):
        Server(engine, ServerConfig(port=0, trace=True))
