"""An examination that nobody waits for any more ends: its process is gone, and the next one begins."""

import os
import signal
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest
from support.onnx_models import build, save
from support.paths import WITH_TESTS
from support.server_process import ServerProcess
from support.small_network import healthy
from support.waiting import wait_for

import gradserve
from gradserve.errors import CallCancelled, DeadlineExceeded
from gradserve.v1 import gradient_service_pb2, model_service_pb2
from gradserve.v1.model_service_pb2_grpc import ModelServiceStub
from gradserve_server import Engine, EngineConfig
from gradserve_server.runtime.caller import Caller

BODY = "body (int64 i, bool c, float[N,12] s) => (bool d, float[N,12] t) { d = Identity(c) t = Neg(s) }"
ENDLESS = model_service_pb2.DoctorRequest(model=gradient_service_pb2.ModelRef(name="endless"))
START = 120.0
"""Seconds that its process may take to begin, where others keep the machine busy."""
UNLOADED = {"model_control_mode": "explicit"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A model that runs without end, and one that does not."""
    root = tmp_path_factory.mktemp("repository")
    weights = {"many": np.array(2**62, np.int64), "yes": np.array(True)}
    endless = build(
        f"y = Loop<body = {BODY}>(many, yes, x)", inputs="float[N,12] x", outputs="float[N,12] y", weights=weights
    )
    save(endless, root / "endless/1/model.onnx")
    save(healthy(), root / "healthy/1/model.onnx")
    return root


@pytest.fixture(scope="module")
def server(repository):
    with ServerProcess("--model-control-mode", "explicit", repository=repository) as process:
        yield process


def examining(server) -> bool:
    """Whether there is a process that has begun to run the model."""
    return any(child.cpu_times().user > 1.5 for child in server.os.children())


def check_that_the_place_is_free(server):
    wait_for(lambda: not server.os.children(), START)
    with gradserve.Client(server.address) as client:
        assert client.doctor("healthy").findings == ()
    wait_for(lambda: not server.os.children(), START)


def test_a_client_cancels(server):
    with grpc.insecure_channel(server.address) as channel:
        call = ModelServiceStub(channel).Doctor.future(ENDLESS)
        wait_for(lambda: examining(server), START)
        call.cancel()
        check_that_the_place_is_free(server)


def test_a_deadline_passes(server):
    with gradserve.Client(server.address, timeout=2) as client, pytest.raises(DeadlineExceeded):
        client.doctor("endless")
    check_that_the_place_is_free(server)


def test_one_that_waits_for_its_place_goes_away(server):
    with grpc.insecure_channel(server.address) as channel:
        call = ModelServiceStub(channel).Doctor.future(ENDLESS)
        wait_for(lambda: examining(server), START)
        with gradserve.Client(server.address, timeout=1) as client, pytest.raises(DeadlineExceeded):
            client.doctor("healthy")
        call.cancel()
    check_that_the_place_is_free(server)


def test_ctrl_c_of_the_command(server):
    command = [sys.executable, "-c", "import sys; from gradserve.cli import main; sys.exit(main())"]
    command += ["doctor", "endless", "--server", server.address]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=os.environ | WITH_TESTS
    ) as process:
        wait_for(lambda: examining(server), START)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    check_that_the_place_is_free(server)


@pytest.mark.parametrize("end", ["the caller goes", "the engine is closed"])
def test_in_process(end, repository):
    config = EngineConfig(trial=True, threads=1, **UNLOADED)
    gone, raised = threading.Event(), []
    with Engine(repository, config=config) as engine:

        def examine():
            try:
                engine.doctor("endless", caller=Caller(gone.is_set))
            except CallCancelled as error:
                raised.append(error)

        thread = threading.Thread(target=examine)
        thread.start()
        time.sleep(0.5)
        assert thread.is_alive()
        gone.set() if end == "the caller goes" else engine.close()
        thread.join(20)
        assert len(raised) == 1


def test_without_a_trial_process_it_ends_at_the_next_run(repository):
    asked = []

    def stop():
        asked.append(True)
        return len(asked) > 2

    with Engine(repository, config=EngineConfig(threads=1, **UNLOADED)) as engine, pytest.raises(CallCancelled):
        engine.doctor("healthy", caller=Caller(stop))
    assert len(asked) < 8
