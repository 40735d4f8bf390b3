"""The model repository through our own client and command: list, load, unload, poll; health and metrics follow."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.repositories import answer, explicit, put, spoil, states
from support.waiting import wait_for

import gradserve
from gradserve import ModelState, errors
from gradserve.cli import main
from gradserve_server import Engine, ServerConfig
from gradserve_server.rpc.app import Server

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def root(tmp_path):
    return put(put(tmp_path, "a", 1), "b", 2)


@pytest.fixture
def server(root):
    with explicit(root) as engine, Server(engine, ServerConfig(port=0, metrics_port=0)) as server:
        yield server


@pytest.fixture
def client(server):
    with gradserve.Client(server.address) as client:
        yield client


# ---- the client ------------------------------------------------------------------------------------------------------


def test_a_life(client, root):
    assert states(client) == [("a", "", "UNKNOWN"), ("b", "", "UNKNOWN")]
    (loaded,) = client.load("a")
    assert (loaded.name, loaded.version, loaded.state, loaded.reason) == ("a", "1", ModelState.READY, "")
    assert loaded.memory_bytes >= 16
    assert answer(client, "a") == 1
    put(root, "a", 3)
    client.load("a")
    assert answer(client, "a") == 3
    (unloaded,) = client.unload("a")
    assert (unloaded.state, unloaded.reason) == (ModelState.UNAVAILABLE, "unloaded")
    with pytest.raises(errors.ModelNotFound):
        answer(client, "a")
    assert states(client) == [("a", "1", "UNAVAILABLE"), ("b", "", "UNKNOWN")]


def test_what_can_go_wrong(client, root):
    for change in (client.load, client.unload):
        with pytest.raises(errors.ModelNotFound, match=r"^model 'x': expected one in the repository \('a', 'b'\)$"):
            change("x")
    spoil(root, "a")
    with pytest.raises(errors.InvalidModel, match="expected a readable ONNX model"):
        client.load("a")
    assert client.models()[0].state is ModelState.UNAVAILABLE
    assert "expected a readable ONNX model" in client.models()[0].reason


def test_other_modes_refuse(root):
    with (
        Engine(root) as engine,
        Server(engine, ServerConfig(port=0)) as server,
        gradserve.Client(server.address) as client,
    ):
        for change in (client.load, client.unload):
            with pytest.raises(errors.ControlDisabled, match="model_control_mode 'explicit', got 'none'$"):
                change("a")


def test_the_asynchronous_client_does_the_same(server):
    async def ask():
        async with gradserve.aio.Client(server.address) as client:
            loaded = await client.load("a")
            listed = await client.models()
            unloaded = await client.unload("a")
            return loaded, listed, unloaded

    (loaded,), listed, (unloaded,) = asyncio.run(ask())
    assert listed[0] == loaded
    assert [status.state for status in listed] == ["READY", "UNKNOWN"]
    assert unloaded.state is ModelState.UNAVAILABLE


# ---- health and metrics ----------------------------------------------------------------------------------------------


def test_health_follows(server, client, root):
    with grpc.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        def health(service):
            return stub.Check(health_pb2.HealthCheckRequest(service=service)).status

        with pytest.raises(grpc.RpcError) as error:
            health("a")
        assert error.value.code() is grpc.StatusCode.NOT_FOUND
        client.load("a")
        assert health("a") == health("a/1") == SERVING
        put(root, "a", 2, version=2)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="a/1"))
        assert next(watch).status == SERVING
        client.load("a")
        assert next(watch).status == NOT_SERVING
        watch.cancel()
        assert (health("a"), health("a/2")) == (SERVING, SERVING)
        client.unload("a")
        assert health("a") == health("a/2") == NOT_SERVING
        assert health("") == SERVING
        spoil(root, "b")
        with pytest.raises(errors.InvalidModel):
            client.load("b")
        assert health("") == NOT_SERVING
        assert health("gradserve.v1.GradientService") == SERVING
        client.unload("b")
        assert health("") == SERVING


def test_metrics_go_on_through_a_load_and_end_with_an_unload(server, client):
    def count():
        with urllib.request.urlopen(f"http://{server.metrics_address}/metrics") as answered:
            text = answered.read().decode()
        return re.findall(r'nv_inference_count\{model="(\w)",version="(\d)"\} ([\d.]+)', text)

    assert count() == []
    client.load("a")
    assert count() == [("a", "1", "0.0")]
    answer(client, "a")
    client.load("a")
    answer(client, "a")
    assert count() == [("a", "1", "2.0")]
    client.unload("a")
    assert count() == []
    client.load("a")
    assert count() == [("a", "1", "0.0")]


def test_a_server_that_has_stopped_hears_of_nothing(root):
    with explicit(root) as engine:
        with Server(engine, ServerConfig(port=0)):
            pass
        assert engine._registry._listeners == []
        engine.load("a")


# ---- the command -----------------------------------------------------------------------------------------------------


def run(capsys, *arguments, code=0):
    assert main(["models", *arguments]) == code
    return capsys.readouterr()


def test_the_command(server, root, capsys):
    where = ("--server", server.address)
    out = run(capsys, "list", *where).out
    assert [line.split() for line in out.splitlines()][-2:] == [["a", "UNKNOWN"], ["b", "UNKNOWN"]]
    out = run(capsys, "load", "a", *where).out
    assert out.splitlines()[-1].split()[:3] == ["a", "1", "READY"]
    listed = json.loads(run(capsys, "list", "--json", *where).out)
    assert [(status["name"], status["version"], status["state"]) for status in listed] == [
        ("a", "1", "READY"),
        ("b", "", "UNKNOWN"),
    ]
    out = run(capsys, "unload", "a", *where).out
    assert out.splitlines()[-1].split() == ["a", "1", "UNAVAILABLE", "unloaded"]
    spoil(root, "b")
    failed = run(capsys, "load", "b", *where, code=1)
    assert failed.err.startswith("gradserve: error: model file 'model.onnx': expected a readable ONNX model")


def test_the_command_without_a_server(capsys):
    assert "no server answers at 127.0.0.1:1" in run(capsys, "list", "--server", "127.0.0.1:1", code=3).err


def serve(root, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "gradserve.cli", "serve", root, "--port", "0", "--no-metrics", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )


def address_of(process):
    for line in process.stdout:
        if line.startswith("listening on "):
            return line.split()[-1]
    raise AssertionError(process.stderr.read())


def ended(process):
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err


def test_serve_with_a_model_that_cannot_be_loaded(root):
    spoil(root, "b")
    with serve(root) as process:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "gradserve: error: model file 'model.onnx': expected a readable ONNX model" in err
    with serve(root, "--no-exit-on-error") as process:
        with gradserve.Client(address_of(process)) as client:
            assert states(client) == [("a", "1", "READY"), ("b", "1", "UNAVAILABLE")]
            assert answer(client, "a") == 1
        ended(process)


def test_serve_on_request(root):
    with serve(root, "--model-control-mode", "explicit", "--load-model", "a", "--memory-limit-mib", "1") as process:
        with gradserve.Client(address_of(process)) as client:
            assert states(client) == [("a", "1", "READY"), ("b", "", "UNKNOWN")]
            client.load("b")
            assert answer(client, "b") == 2
            put(root, "large", 1, size=1024)
            with pytest.raises(
                errors.LimitExceeded, match=r"^model 'large' version 1: needs 8\.0 MiB, but 0\.0 MiB of 1\.0"
            ):
                client.load("large")
        ended(process)


def test_serve_what_the_repository_has(root):
    with serve(root, "--model-control-mode", "poll", "--repository-poll-seconds", "0.1") as process:
        with gradserve.Client(address_of(process)) as client:
            put(root, "c", 3)
            wait_for(lambda: ("c", "1", "READY") in states(client))
            assert answer(client, "c") == 3
            put(root, "a", 4)
            wait_for(lambda: answer(client, "a") == 4)
            (root / "b/1/model.onnx").unlink()
            (root / "b/1").rmdir()
            (root / "b").rmdir()
            wait_for(lambda: [name for name, _, _ in states(client)] == ["a", "c"])
        ended(process)
