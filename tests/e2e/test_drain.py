"""Stopping at each stage: nothing that was begun is lost, nothing new begins, and the process exits in time, with 0."""

import functools
import itertools
import queue
import signal
import socket
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support import golden, metrics, oip
from support.jobs import Crowd
from support.onnx_models import build, save
from support.paths import MODELS
from support.served import Served, serving
from support.waiting import WAIT, wait_for
from tritonclient.grpc import service_pb2

import gradserve
from gradserve import StopReason, errors
from gradserve import objectives as O
from gradserve_server import Engine, ServerConfig
from gradserve_server.rpc.app import Server

IMAGE = {"image": golden.digits()}
UNIT = O.unit("logits", 7)
connect = functools.partial(gradserve.Client, retries=0)
ENDLESS = 1_000_000
"""Steps of an ascent that takes half an hour."""
SLOW = 15_000
"""Rounds of the slow model, which take seconds."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """The digits, and a model that takes as long as it is asked to."""
    root = tmp_path_factory.mktemp("repository")
    (root / "digits").symlink_to(MODELS / "digits")
    body = """
        yes = Constant<value_int = 1>()
        go = Cast<to = 9>(yes)
        y = Loop(rounds, go, x)<body = once (int64 i, bool on, float[N,512] h) => (bool again, float[N,512] next) {
            again = Identity(on)
            product = MatMul(h, w)
            next = Tanh(product)
        }>
    """
    weights = {"w": np.random.default_rng(0).normal(size=(512, 512)).astype(np.float32)}
    model = build(body, inputs="float[N,512] x, int64 rounds", outputs="float[N,512] y", weights=weights)
    save(model, root / "slow" / "1" / "model.onnx")
    return root


def slow(rounds=SLOW):
    return {"x": np.ones((16, 512), np.float32), "rounds": np.array(rounds)}


@pytest.fixture
def threads():
    with ThreadPoolExecutor(8) as pool:
        yield pool


def closed(address):
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=WAIT).close()
    except ConnectionRefusedError:
        return True
    return False


# ---- the process -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle(repository, number):
    with serving(repository, drain_seconds=600) as served:
        served.send(number)
        assert served.end() == 0
        assert served.output.endswith("stopped\n")
        assert closed(served.address)
        assert closed(served.metrics_address)


def test_a_call_that_runs_is_answered_and_a_new_one_refused(repository, threads):
    with serving(repository, drain_seconds=60) as served, connect(served.address) as client:
        before = seconds_of(served)
        running = threads.submit(client.infer, "slow", slow())
        wait_until_in_work(served, before)
        served.send(signal.SIGTERM)
        wait_for(lambda: refused(client))
        with pytest.raises(errors.ServerUnavailable, match="shutting down"):
            client.infer("digits", IMAGE)
        with connect(served.address) as other, pytest.raises(errors.ServerUnavailable, match="shutting down"):
            other.inspect("digits")
        assert "gradserve_calls_total" in metrics_of(served)
        assert running.result(3 * WAIT)["y"].shape == (16, 512)
        assert served.end() == 0


def wait_until_in_work(served, before):
    """Until it has computed for a while."""
    wait_for(lambda: seconds_of(served) > before + 0.2)


def seconds_of(served):
    """Of processor time."""
    (line,) = [line for line in metrics_of(served).splitlines() if line.startswith("process_cpu_seconds_total")]
    return float(line.split()[1])


def metrics_of(served):
    with urllib.request.urlopen(f"http://{served.metrics_address}/metrics", timeout=WAIT) as answer:
        return answer.read().decode()


def test_an_ascent_that_finishes_in_time(repository, engine):
    settings = {"steps": 300, "seed": 3, "jitter": 2}
    with serving(repository, drain_seconds=60) as served, connect(served.address) as client:
        steps = client.ascend("digits", UNIT, **settings)
        next(steps)
        served.send(signal.SIGTERM)
        *_, last = steps
        assert served.end() == 0
    assert last.stop_reason is StopReason.FINISHED
    *_, expected = engine.ascend("digits", UNIT, **settings)
    assert last.image.tobytes() == expected.image.tobytes()


def test_ascents_that_do_not_finish_go_on_elsewhere(repository, engine, threads):
    settings = {"steps": ENDLESS, "report_every": 50, "jitter": 2, "count": 2}
    with serving(repository, drain_seconds=2) as served, connect(served.address) as client:
        ascents = [client.ascend("digits", UNIT, seed=seed, **settings) for seed in range(3)]
        for ascent in ascents:
            next(ascent)
        reading = [threads.submit(list, ascent) for ascent in ascents]
        served.send(signal.SIGTERM)
        assert served.end() == 0
        ends = [ascent.result(WAIT)[-1] for ascent in reading]
    for seed, end in enumerate(ends):
        assert end.stop_reason is StopReason.INTERRUPTED
        assert end.index == end.checkpoint.index
        settings["steps"] = end.index + 5
        *_, resumed = engine.ascend("digits", UNIT, seed=seed, resume=end.checkpoint, **settings)
        assert resumed.stop_reason is StopReason.FINISHED
        first = next(engine.ascend("digits", UNIT, seed=seed, resume=end.checkpoint, image_every=1, **settings))
        assert first.index == end.index


def test_a_second_signal_ends_at_once(repository):
    with serving(repository, drain_seconds=600) as served, connect(served.address) as client:
        ascent = client.ascend("digits", UNIT, steps=ENDLESS)
        next(ascent)
        served.send(signal.SIGTERM)
        served.process.send_signal(signal.SIGTERM)
        assert served.end() == 128 + signal.SIGTERM
        with pytest.raises(errors.ServerUnavailable):
            list(ascent)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_while_the_models_load(tmp_path, number, code):
    for index in range(100):
        (tmp_path / f"digits{index}").mkdir()
        (tmp_path / f"digits{index}" / "1").symlink_to(MODELS / "digits_batchnorm" / "1")
    served = Served(tmp_path, {"log_level": "info"})
    assert served.process.stderr.readline()  # it works on the first
    served.process.send_signal(number)
    assert served.end() == code
    assert served.output == ""


# ---- the stages ------------------------------------------------------------------------------------------------------


@pytest.fixture
def stopping(threads):
    """Begins to stop a server, and returns what becomes of that."""
    return lambda server: threads.submit(server.stop)


@pytest.fixture
def engine_of_one(repository):
    with Engine(repository) as engine:
        yield engine


@pytest.fixture
def crowd(engine_of_one):
    """The device, taken until it is let go."""
    with Crowd(engine_of_one._scheduler) as crowd:
        yield crowd


def test_health_says_so_first_and_all_is_served_meanwhile(engine, stopping):
    with (
        Server(engine, ServerConfig(port=0, drain_delay_seconds=3)) as server,
        connect(server.address) as client,
        grpc.insecure_channel(server.address) as channel,
    ):
        watcher = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watcher).status == health_pb2.HealthCheckResponse.SERVING
        assert oip.stub(channel).ServerReady(service_pb2.ServerReadyRequest()).ready
        assert oip.stub(channel).ModelReady(service_pb2.ModelReadyRequest(name="digits")).ready
        stopped = stopping(server)
        assert next(watcher).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert client.infer("digits", IMAGE)["logits"].shape == (4, 10)
        assert oip.stub(channel).ServerLive(service_pb2.ServerLiveRequest()).live
        assert not oip.stub(channel).ServerReady(service_pb2.ServerReadyRequest()).ready
        assert not oip.stub(channel).ModelReady(service_pb2.ModelReadyRequest(name="digits")).ready
        assert not stopped.done()
        stopped.result(WAIT)
        with pytest.raises(grpc.RpcError) as ended:
            next(watcher)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE


def test_what_waits_for_the_device_finishes(engine_of_one, crowd, stopping):
    with Server(engine_of_one, ServerConfig(port=0, drain_seconds=60)) as server, connect(server.address) as client:
        calls = [crowd.join(client.infer, "digits", IMAGE), crowd.join(client.gradient, "digits", IMAGE, UNIT)]
        stopped = stopping(server)
        wait_for(lambda: refused(client))
        crowd.let_go()
        for call in calls:
            call.result(WAIT)
        stopped.result(WAIT)


def refused(client):
    try:
        client.inspect("digits")
    except errors.ServerUnavailable:
        return True
    return False


def test_what_waits_for_the_device_too_long_is_unavailable(engine_of_one, crowd, stopping):
    with (
        Server(engine_of_one, ServerConfig(port=0, drain_seconds=0.5)) as server,
        connect(server.address) as client,
    ):
        call = crowd.join(client.infer, "digits", IMAGE)
        stopping(server).result(WAIT)
        with pytest.raises(errors.ServerUnavailable):
            call.result(WAIT)


def test_an_ascent_that_waits_for_the_device_is_interrupted_without_a_run(engine_of_one, crowd, stopping):
    """Even after the last second of draining: one run of a model is waited for."""
    with (
        Server(engine_of_one, ServerConfig(port=0, drain_seconds=0.5)) as server,
        connect(server.address) as client,
    ):
        settings = {"steps": 5, "seed": 2, "count": 2}
        ascent = crowd.join(lambda: list(client.ascend("digits", UNIT, **settings)))
        stopped = stopping(server)
        wait_for(server._gate.hurried.is_set)
        time.sleep(0.5)
        crowd.let_go()
        (only,) = ascent.result(WAIT)
        stopped.result(WAIT)
    assert (only.index, only.stop_reason) == (0, StopReason.INTERRUPTED)
    assert np.isnan(only.values).all()
    whole, resumed = (
        list(engine_of_one.ascend("digits", UNIT, **settings, resume=start))[-1] for start in (None, only.checkpoint)
    )
    assert resumed.image.tobytes() == whole.image.tobytes()


def test_every_answer_that_was_made_arrives(engine, stopping, threads):
    answered = itertools.count()

    def ask():
        with connect(server.address) as client:
            while True:
                try:
                    got = client.infer("digits", IMAGE)
                except errors.ServerUnavailable:
                    return
                assert got["logits"].tobytes() == expected.tobytes()
                next(answered)

    expected = engine.infer("digits", IMAGE)["logits"]
    with Server(engine, ServerConfig(port=0, drain_seconds=60)) as server:
        asking = [threads.submit(ask) for _ in range(7)]
        wait_for(lambda: made(server) > 50)
        stopping(server).result(WAIT)
        for each in asking:
            each.result(WAIT)
        assert made(server) == next(answered)


def made(server):
    rpc = "/gradserve.v1.GradientService/Infer"
    return metrics.value(server, "gradserve_calls_total", rpc=rpc, code="OK")


def test_a_new_ascent_is_refused(engine, stopping):
    with Server(engine, ServerConfig(port=0, drain_seconds=60)) as server, connect(server.address) as client:
        running = client.ascend("digits", UNIT, steps=ENDLESS)
        next(running)
        stopped = stopping(server)
        with pytest.raises(errors.ServerUnavailable, match="shutting down"):
            wait_for(lambda: next(client.ascend("digits", UNIT)) is None)
        assert not stopped.done()
        running.close()
        stopped.result(WAIT)


@pytest.mark.parametrize("settings", [{"count": 150}, {"count": 150, "checkpoint_every": 1}])
def test_a_checkpoint_larger_than_a_message(engine, stopping, settings):
    config = ServerConfig(port=0, drain_seconds=1, max_message_mib=1)
    with Server(engine, config) as server, connect(server.address) as client:
        ascent = client.ascend("digits", UNIT, steps=ENDLESS, report_every=10, **settings)
        if "checkpoint_every" in settings:
            with pytest.raises(errors.TooLarge, match="^checkpoint: a report with one has 1[0-9]{6} bytes, "):
                next(ascent)
            return
        next(ascent)
        stopping(server)
        *_, last = ascent
        assert last.stop_reason is StopReason.INTERRUPTED
        assert last.image.shape == (150, 1, 28, 28)
        assert last.checkpoint is None


# ---- streams ---------------------------------------------------------------------------------------------------------


class Requests:
    """A stream's requests, sent when told."""

    def __init__(self):
        self.queue = queue.Queue()

    def send(self, identity):
        self.queue.put(oip.request("digits", {"image": IMAGE["image"]}, id=str(identity)))

    def __iter__(self):
        return iter(self.queue.get, None)


@pytest.fixture
def requests():
    requests = Requests()
    yield requests
    requests.queue.put(None)


def test_an_idle_stream_is_ended(engine, stopping, requests):
    with Server(engine, ServerConfig(port=0, drain_seconds=600)) as server, grpc.insecure_channel(server.address) as channel:
        answers = oip.stub(channel).ModelStreamInfer(iter(requests))
        requests.send(0)
        assert next(answers).infer_response.id == "0"
        stopping(server).result(WAIT)
        with pytest.raises(grpc.RpcError) as ended:
            next(answers)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE


def test_requests_sent_one_after_the_other_are_all_answered(engine_of_one, crowd, stopping, requests):
    with (
        Server(engine_of_one, ServerConfig(port=0, drain_seconds=600)) as server,
        grpc.insecure_channel(server.address) as channel,
        connect(server.address) as client,
    ):
        answers = oip.stub(channel).ModelStreamInfer(iter(requests))
        for index in range(50):
            requests.send(index)
        wait_for(lambda: crowd.scheduler.waiting == 1)
        stopped = stopping(server)
        wait_for(lambda: refused(client))
        crowd.let_go()
        assert [next(answers).infer_response.id for _ in range(50)] == [str(index) for index in range(50)]
        stopped.result(WAIT)


def test_a_stream_that_never_pauses_is_told_in_the_end(engine, stopping, requests):
    with Server(engine, ServerConfig(port=0, drain_seconds=2)) as server, grpc.insecure_channel(server.address) as channel:
        answers = oip.stub(channel).ModelStreamInfer(iter(requests))
        for index in range(21):
            requests.send(index)
        next(answers)
        stopping(server)

        def go_on():
            for index in itertools.count(1):
                requests.send(index + 20)
                assert next(answers).infer_response.id == str(index)

        with pytest.raises(grpc.RpcError) as ended:
            go_on()
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "shutting down" in ended.value.details()


def test_a_stream_that_its_client_ends_has_ended_well(engine, stopping, requests):
    with Server(engine, ServerConfig(port=0, drain_seconds=600)) as server, grpc.insecure_channel(server.address) as channel:
        answers = oip.stub(channel).ModelStreamInfer(iter(requests))
        for index in range(20):
            requests.send(index)
        next(answers)
        stopped = stopping(server)
        requests.queue.put(None)
        assert len(list(answers)) == 19
        stopped.result(WAIT)
