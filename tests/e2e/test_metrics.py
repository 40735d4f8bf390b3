"""Metrics as Prometheus scrapes them, by HTTP, and health of each model."""

import urllib.request

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from support import golden, metrics
from support.waiting import wait_for

import gradserve
from gradserve import errors
from gradserve import objectives as O
from gradserve_server import ServerConfig
from gradserve_server.__main__ import _parser
from gradserve_server.rpc.app import Server
from gradserve_server.rpc.metrics import FAILURES, PREDICTIONS

X = {"image": golden.digits()}
TRITONS = {
    "nv_inference_request_success",
    "nv_inference_request_failure",
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
    assert PREDICTIONS.keys() | {FAILURES} == TRITONS


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
