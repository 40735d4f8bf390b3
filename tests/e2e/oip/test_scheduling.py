"""Batches, levels, time-outs and limits of the queue, as config.pbtxt has them, with the stock client."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support import oip
from support.jobs import Crowd
from support.onnx_models import build, random, save
from support.waiting import WAIT, wait_for
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

import gradserve
from gradserve import errors
from gradserve_server import Engine, ServerConfig
from gradserve_server.rpc import app
from gradserve_server.rpc.app import Server
from gradserve_server.rpc.call_pool import CallPool
from gradserve_server.rpc.oip import servicer
from gradserve_server.runtime.events import Run

CONFIG = """
max_batch_size: 8
dynamic_batching {
    priority_levels: 3 default_priority_level: 2
    default_queue_policy { allow_timeout_override: true default_timeout_microseconds: 60000000 }
    priority_queue_policy { key: 3 value { max_queue_size: 1 } }
}
"""
X = random(8, 3)


@pytest.fixture
def server(tmp_path):
    """Of a model whose predictions run together, and one whose do not."""
    for name, config in (("m", CONFIG), ("plain", "max_batch_size: 8")):
        save(build("y = Relu(x)", inputs="float[N,3] x", outputs="float[N,3] y"), tmp_path / name / "1" / "model.onnx")
        (tmp_path / name / "config.pbtxt").write_text(config)
    with Engine(tmp_path) as engine, Server(engine, ServerConfig(port=0, drain_seconds=2)) as server:
        server.engine, server.scheduler = engine, engine._scheduler
        yield server


@pytest.fixture
def triton(server):
    with InferenceServerClient(server.address) as client:
        yield client


def infer(triton, x, model="m", **parameters):
    return triton.infer(model, [oip.infer_input("x", x)], **parameters).as_numpy("y")


def together(server, *calls):
    with Crowd(server.scheduler) as crowd:
        answers = [crowd.join(call) for call in calls]
        crowd.let_go()
        return [answer.result(WAIT) for answer in answers]


def counts(triton, model="m"):
    (stats,) = triton.get_inference_statistics(model).model_stats
    sizes = {batch.batch_size: batch.compute_infer.count for batch in stats.batch_stats}
    return stats.inference_count, stats.execution_count, stats.inference_stats.success.count, sizes


def test_statistics_show_the_batches(server, triton):
    calls = [lambda part=part: infer(triton, part) for part in (X[:1], X[1:3], X[3:6])]
    together(server, *calls)  # the first time they run one by one as well
    assert counts(triton) == (6, 3, 3, {1: 1, 2: 1, 3: 1})
    for expected, got in zip((X[:1], X[1:3], X[3:6]), together(server, *calls), strict=True):
        np.testing.assert_array_equal(got, np.maximum(expected, 0))
    assert counts(triton) == (12, 4, 6, {1: 1, 2: 1, 3: 1, 6: 1})


def test_our_own_client_joins(server, triton):
    with gradserve.Client(server.address) as client:
        calls = [lambda: infer(triton, X[:1]), lambda: client.infer("m", {"x": X[1:2]})]
        for _ in range(2):
            together(server, *calls)
    assert counts(triton)[:2] == (4, 3)


def test_elsewhere_each_runs_alone(server, triton):
    for _ in range(2):
        together(server, *[lambda: infer(triton, X[:1], "plain")] * 3)
    assert counts(triton, "plain") == (6, 6, 6, {1: 6})


@pytest.mark.parametrize("levels", [(1, 2, 3), (1, 0, 3), (1, 99, 3)])
def test_levels(server, triton, levels):
    """0, and a level that there is not, are the default; other shapes than each other's, so that none joins."""
    sizes = dict(zip(levels, (1, 5, 8), strict=True))
    with Crowd(server.scheduler) as crowd:
        for level in reversed(levels):
            crowd.join(infer, triton, np.concatenate([X[: sizes[level]]]), priority=level)
        assert [work.samples() for work in server.scheduler.line] == [1, 5, 8]


def test_a_request_that_waits_longer_than_it_wants(server, triton):
    with Crowd(server.scheduler) as crowd:
        late = crowd.join(infer, triton, X, timeout=20_000)
        with pytest.raises(InferenceServerException, match="Request timeout expired: model 'm', priority 2") as error:
            late.result(WAIT)
        assert error.value.status() == "StatusCode.UNAVAILABLE"
        patient = crowd.join(infer, triton, X, "plain", timeout=1)  # its model does not let it say so
        crowd.let_go()
        np.testing.assert_array_equal(patient.result(WAIT), np.maximum(X, 0))


def test_waiting_for_a_thread_counts(triton, monkeypatch):
    monkeypatch.setattr(servicer, "waited_ns", lambda: 10**9)
    with pytest.raises(InferenceServerException, match="Request timeout expired: model 'm'"):
        infer(triton, X, timeout=999_999)
    infer(triton, X, timeout=30_000_000)
    infer(triton, X)


def test_a_full_queue_of_one_level(server, triton):
    with Crowd(server.scheduler) as crowd:
        waits = crowd.join(infer, triton, X, priority=3)
        with pytest.raises(InferenceServerException, match="Exceeds maximum queue size: model 'm', priority 3") as error:
            infer(triton, X, priority=3)
        assert error.value.status() == "StatusCode.UNAVAILABLE"
        crowd.let_go()
        waits.result(WAIT)


@pytest.fixture
def narrow(server, monkeypatch):
    """A server of four threads, and those who wait for one of them."""
    pools = []
    monkeypatch.setattr(app, "CallPool", lambda *arguments: pools.append(CallPool(*arguments)) or pools[0])
    config = ServerConfig(port=0, drain_seconds=2, max_calls=4, max_ascents=0, max_streams=0)
    with Server(server.engine, config) as narrow:
        narrow.pool = pools[0]
        yield narrow


def test_a_client_with_many_calls_does_not_keep_another_waiting(server, narrow):
    """Neither for a thread, nor for the device."""
    order = []

    def call(client, name):
        client.infer("plain", {"x": X})
        order.append(name)

    with (
        Crowd(server.scheduler) as crowd,
        gradserve.Client(narrow.address) as many,
        InferenceServerClient(narrow.address) as one,
        ThreadPoolExecutor(20) as threads,
    ):
        first = [threads.submit(call, many, "many") for _ in range(20)]
        wait_for(lambda: (crowd.scheduler.waiting, narrow.pool.waiting) == (4, 16))
        other = crowd._threads.submit(infer, one, X, "plain")
        other.add_done_callback(lambda _: order.append("one"))
        wait_for(lambda: narrow.pool.waiting == 17)
        crowd.let_go()
        for each in (*first, other):
            each.result(WAIT)
    # First those four that had a thread, then this one, and perhaps a few whose threads were quicker to say so.
    assert order.index("one") < 10


def test_a_deadline_while_a_call_waits_for_a_thread(server, narrow):
    """gRPC answers in time; once a thread is free, nothing is run for it."""
    with (
        Crowd(server.scheduler) as crowd,
        gradserve.Client(narrow.address) as many,
        gradserve.Client(narrow.address, timeout=1) as client,
    ):
        first = [crowd._threads.submit(many.infer, "plain", {"x": X}) for _ in range(4)]
        wait_for(lambda: crowd.scheduler.waiting == 4)
        ran = []
        server.engine.observers.add(lambda event: ran.append(event) if isinstance(event, Run) else None)
        with pytest.raises(errors.DeadlineExceeded):
            client.infer("plain", {"x": X})
        crowd.let_go()
        for each in first:
            each.result(WAIT)
        wait_for(lambda: narrow.pool.waiting == 0)
    assert len([run for run in ran if run.samples == len(X)]) <= 4
