"""Stopping at each stage: nothing that was begun is lost, nothing new begins, and the process exits in time, with 0."""

import signal
import socket
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support import golden
from support.onnx_models import build, save
from support.paths import MODELS
from support.served import Served, serving
from support.waiting import WAIT, wait_for

import gradserve
from gradserve import StopReason, errors
from gradserve import objectives as O

IMAGE = {"image": golden.digits()}
UNIT = O.unit("logits", 7)
ENDLESS = 1_000_000
"""Steps of an ascent that takes half an hour."""
SLOW = 4_000
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
    with serving(repository, drain_seconds=60) as served, gradserve.Client(served.address) as client:
        before = seconds_of(served)
        running = threads.submit(client.infer, "slow", slow())
        wait_until_in_work(served, before)
        served.send(signal.SIGTERM)
        with pytest.raises(errors.ServerUnavailable, match="shutting down"):
            client.infer("digits", IMAGE)
        with gradserve.Client(served.address) as other, pytest.raises(errors.ServerUnavailable, match="shutting down"):
            other.inspect("digits")
        assert "gradserve_calls_total" in metrics_of(served)
        assert running.result(WAIT)["y"].shape == (16, 512)
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
    with serving(repository, drain_seconds=60) as served, gradserve.Client(served.address) as client:
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
    with serving(repository, drain_seconds=2) as served, gradserve.Client(served.address) as client:
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
    with serving(repository, drain_seconds=600) as served, gradserve.Client(served.address) as client:
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
