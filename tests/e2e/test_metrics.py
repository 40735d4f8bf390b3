"""Metrics as Prometheus scrapes them, by HTTP, and health of each model."""

import urllib.request

import grpc
import numpy as np
import onnxruntime
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from support import golden, metrics, oip
from support.jobs import Crowd
from support.paths import MODELS
from support.waiting import wait_for

import gradserve
from gradserve import errors
from gradserve import objectives as O
from gradserve_server import Engine, EngineConfig, ServerConfig
from gradserve_server.__main__ import _parser
from gradserve_server.rpc.app import Server
from gradserve_server.rpc.engine_metrics import PENDING
from gradserve_server.rpc.metrics import FAILURES, PREDICTIONS

X = {"image": golden.digits()}
UNIT = O.unit("logits", 7)
TRITONS = {
    "nv_inference_request_success",
    "nv_inference_request_failure",
    "nv_inference_pending_request_count",
    "nv_inference_count",
    "nv_inference_exec_count",
    "nv_inference_request_duration_us",
    "nv_inference_queue_duration_us",
    "nv_inference_compute_input_duration_us",
    "nv_inference_compute_infer_duration_us",
    "nv_inference_compute_output_duration_us",
}
DIGITS = {"model": "digits", "version": "1"}


@pytest.fixture
def server(engine):
    with Server(engine, ServerConfig(port=0, metrics_port=0)) as server:
        yield server


@pytest.fixture
def client(server):
    with gradserve.Client(server.address) as client:
        yield client


def scrape(server):
    """Samples by name and labels."""
    with urllib.request.urlopen(f"http://{server.metrics_address}/metrics") as response:
        text = response.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def read(samples, name, **labels):
    return samples[name, frozenset(labels.items())]


def test_tritons_names():
    assert PREDICTIONS.keys() | {FAILURES, PENDING} == TRITONS


def test_predictions(server, client):
    client.infer("digits", X)
    client.infer("digits", {"image": X["image"][:1]})
    with pytest.raises(errors.InvalidTensor):
        client.infer("digits", {"image": X["image"][0]})
    samples = scrape(server)
    assert read(samples, "nv_inference_request_success", **DIGITS) == 2
    assert read(samples, "nv_inference_exec_count", **DIGITS) == 2
    assert read(samples, "nv_inference_count", **DIGITS) == 5
    assert read(samples, FAILURES, **DIGITS, reason="OTHER") == 1
    assert read(samples, FAILURES, **DIGITS, reason="REJECTED") == 0
    for name in TRITONS:
        if name.endswith("_us"):
            assert read(samples, name, **DIGITS) > 0
    assert read(samples, "nv_inference_count", model="digits_batchnorm", version="1") == 0


def test_calls_by_status(server, client):
    client.infer("digits", X)
    list(client.ascend("digits", O.unit("logits", 7), steps=3))
    with pytest.raises(errors.ModelNotFound):
        client.infer("nowhere", X)
    service = "/gradserve.v1.GradientService"
    samples = scrape(server)
    assert read(samples, "gradserve_calls_total", rpc=f"{service}/Infer", code="OK") == 1
    assert read(samples, "gradserve_calls_total", rpc=f"{service}/Infer", code="NOT_FOUND") == 1
    wait_for(lambda: metrics.value(server, "gradserve_calls_total", rpc=f"{service}/Ascend", code="OK") == 1)


def test_ascents(server, client):
    ascent = client.ascend("digits", O.unit("logits", 7), steps=1_000_000, report_every=1)
    next(ascent)
    assert read(scrape(server), "gradserve_running_ascents") == 1
    ascent.close()
    wait_for(lambda: read(scrape(server), "gradserve_running_ascents") == 0)
    rpc = {"rpc": "/gradserve.v1.GradientService/Ascend", "code": "CANCELLED"}
    wait_for(lambda: metrics.value(server, "gradserve_calls_total", **rpc) == 1)


def test_gradients(server, client):
    ones = {"image": np.ones_like(X["image"])}
    for _ in range(2):
        client.gradient("digits", X, UNIT)
    client.vjp("digits", X, {"logits": np.ones((4, 10))})
    client.jvp("digits", X, ones)
    client.hvp("digits", {"image": X["image"][:1]}, UNIT, {"image": ones["image"][:1]})
    client.activations("digits", X, ["relu6"])
    samples = scrape(server)
    for verb, count, of in (("gradient", 2, 8), ("vjp", 1, 4), ("jvp", 1, 4), ("hvp", 1, 1)):
        assert read(samples, "gradserve_gradient_duration_seconds_count", **DIGITS, verb=verb) == count
        assert read(samples, "gradserve_gradient_duration_seconds_sum", **DIGITS, verb=verb) > 0
        assert read(samples, "gradserve_gradient_samples_total", **DIGITS, verb=verb) == of
    assert {dict(labels).get("verb") for _, labels in samples} == {None, "gradient", "vjp", "jvp", "hvp"}
    assert read(samples, "gradserve_batch_size_count", **{"class": "gradient"}) == 5
    assert read(samples, "gradserve_batch_size_sum", **{"class": "gradient"}) == 17
    assert read(samples, "gradserve_device_busy_seconds_total") > 0


def test_ascents_and_their_steps(server, client):
    list(client.ascend("digits", UNIT, steps=3))
    ascent = client.ascend("digits", UNIT, steps=1_000_000, report_every=1)
    next(ascent)
    ascent.close()
    wait_for(lambda: metrics.value(server, "gradserve_ascents_ended_total", **DIGITS, reason="CANCELLED") == 1)
    samples = scrape(server)
    assert read(samples, "gradserve_ascents_ended_total", **DIGITS, reason="FINISHED") == 1
    assert read(samples, "gradserve_ascents_started_total", **DIGITS) == 2
    steps = read(samples, "gradserve_ascent_steps_total", **DIGITS)
    assert steps >= 5
    assert read(samples, "gradserve_batch_size_count", **{"class": "ascent"}) == steps
    assert read(samples, "gradserve_queue_seconds_count", **{"class": "ascent"}) == steps


def test_plans(tmp_path):
    oip.echo_repository(tmp_path)
    labels = {"model": "echo_float32", "version": "1"}
    x = {"x": np.ones((1, 2), np.float32)}
    with (
        Engine(tmp_path, config=EngineConfig(max_plans=1)) as engine,
        Server(engine, ServerConfig(port=0, metrics_port=0)) as server,
        gradserve.Client(server.address) as client,
    ):
        for _ in range(3):
            client.gradient("echo_float32", x, O.unit("y", 0))
        client.vjp("echo_float32", x, {"y": np.ones((1, 2), np.float32)})
        samples = scrape(server)
    assert read(samples, "gradserve_plan_build_seconds_count", **labels) == 2
    assert read(samples, "gradserve_plan_build_seconds_sum", **labels) > 0
    assert read(samples, "gradserve_plan_hits_total", **labels) == 2
    assert read(samples, "gradserve_plan_evictions_total", **labels) == 1


def test_what_waits(server, client, engine):
    with Crowd(engine._scheduler) as crowd:
        crowd.join(client.infer, "digits", X)
        crowd.join(client.gradient, "digits", X, UNIT)
        samples = scrape(server)
        assert [read(samples, "gradserve_queue_length", **{"class": c}) for c in ("prediction", "gradient", "ascent")] == [
            1,
            1,
            0,
        ]
        assert read(samples, PENDING, **DIGITS) == 1
        assert read(samples, PENDING, model="digits_batchnorm", version="1") == 0
        crowd.let_go()
    wait_for(lambda: metrics.value(server, "gradserve_queue_seconds_count", **{"class": "gradient"}) == 1)
    assert read(scrape(server), "gradserve_queue_seconds_sum", **{"class": "prediction"}) > 0


def test_failures_have_a_reason(server, engine, monkeypatch):
    raised = {
        errors.LimitExceeded: "REJECTED",
        errors.DeadlineExceeded: "REJECTED",
        errors.CallCancelled: "CANCELED",
        errors.RunFailed: "BACKEND",
        errors.InvalidTensor: "OTHER",
    }
    for error, reason in raised.items():
        before = metrics.value(server, FAILURES, **DIGITS, reason=reason)
        monkeypatch.setattr(
            engine, "infer_with", lambda *_args, error=error, **_kwargs: (_ for _ in ()).throw(error("text"))
        )
        with gradserve.Client(server.address) as client, pytest.raises(error):
            client.infer("digits", X)
        assert metrics.value(server, FAILURES, **DIGITS, reason=reason) == before + 1


def test_a_model_that_has_gone_takes_its_metrics_with_it():
    with (
        Engine(MODELS, config=EngineConfig(model_control_mode="explicit", load_model=("*",))) as engine,
        Server(engine, ServerConfig(port=0, metrics_port=0)) as server,
        gradserve.Client(server.address) as client,
    ):
        client.infer("digits", X)
        client.gradient("digits", X, UNIT)
        client.gradient("digits_batchnorm", X, UNIT)
        assert "digits" in {dict(labels).get("model") for _, labels in scrape(server)}
        client.unload("digits")
        assert {dict(labels).get("model") for _, labels in scrape(server)} == {None, "digits_batchnorm", "scenario_a"}
        client.load("digits")
        client.gradient("digits", X, UNIT)
        samples = scrape(server)
    assert read(samples, "nv_inference_count", **DIGITS) == 0
    assert read(samples, "gradserve_gradient_duration_seconds_count", **DIGITS, verb="gradient") == 1
    other = {"model": "digits_batchnorm", "version": "1"}
    assert read(samples, "gradserve_gradient_duration_seconds_count", **other, verb="gradient") == 1


def test_what_this_is(server):
    (build,) = [dict(labels) for name, labels in scrape(server) if name == "gradserve_build_info"]
    assert build["version"] == gradserve.__version__
    assert build["onnxruntime"] == onnxruntime.__version__
    assert read(scrape(server), "gradserve_model_loaded", **DIGITS) == 1


def test_a_server_that_has_stopped_counts_no_more(engine):
    before = engine.observers._observers
    with Server(engine, ServerConfig(port=0)):
        assert len(engine.observers._observers) > len(before)
    assert engine.observers._observers == before


def test_none_unless_asked_for(engine):
    with Server(engine, ServerConfig(port=0)) as server:
        assert server.metrics_address == ""


def test_they_end_with_the_server(engine):
    with Server(engine, ServerConfig(port=0, metrics_port=0)) as server:
        address = server.metrics_address
        assert address.startswith("127.0.0.1:")
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://{address}/metrics")


def test_a_port_that_is_taken(server, engine):
    port = int(server.metrics_address.rpartition(":")[2])
    with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{port} for metrics"):
        Server(engine, ServerConfig(port=0, metrics_port=port))


@pytest.mark.parametrize(("arguments", "port"), [([], 8002), (["--metrics-port", "0"], 0), (["--no-metrics"], None)])
def test_options(arguments, port):
    options = _parser("serve").parse_args(["models", *arguments])
    assert (options.metrics_host, options.metrics_port) == ("127.0.0.1", port)


@pytest.mark.parametrize("name", ["digits", "digits/1", "scenario_a"])
def test_health_of_each_model(server, name):
    with grpc.insecure_channel(server.address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
