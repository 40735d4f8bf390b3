"""ModelStatistics: what was asked is what is counted, whatever service was asked."""

import threading
from time import perf_counter, time

import grpc
import numpy as np
import pytest
from support import golden, oip
from support.jobs import Crowd
from support.waiting import WAIT, wait_for
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

import gradserve
from gradserve import errors
from gradserve_server import Engine, ServerConfig
from gradserve_server.rpc.app import Server

X = golden.digits()
PHASES = ("queue", "compute_input", "compute_infer", "compute_output")


@pytest.fixture
def fresh(engine):
    with Server(engine, ServerConfig(port=0)) as server:
        yield server


@pytest.fixture
def triton(fresh):
    with InferenceServerClient(fresh.address) as client:
        yield client


def statistics(triton, name="digits"):
    (stats,) = triton.get_inference_statistics(name).model_stats
    return stats


def infer(triton, samples):
    triton.infer("digits", [oip.infer_input("image", X[:samples])])


def test_before_the_first_request(triton):
    told = triton.get_inference_statistics().model_stats
    assert [(s.name, s.version) for s in told] == [(n, "1") for n in ("digits", "digits_batchnorm", "scenario_a")]
    for stats in told:
        assert (stats.last_inference, stats.inference_count, stats.execution_count) == (0, 0, 0)
        assert stats.inference_stats.success.count == stats.inference_stats.fail.count == 0
        assert not stats.batch_stats


def test_requests_samples_and_batches(triton):
    before = int(time() * 1000)
    for samples in (4, 4, 1):
        infer(triton, samples)
    stats = statistics(triton)
    assert (stats.inference_count, stats.execution_count) == (9, 3)
    assert before <= stats.last_inference <= time() * 1000
    told = stats.inference_stats
    assert told.success.count == 3
    assert told.fail.count == told.fail.ns == 0
    assert told.cache_hit.count == told.cache_miss.count == 0
    for phase in PHASES:
        assert getattr(told, phase).count == 3
        assert getattr(told, phase).ns > 0
    assert sum(getattr(told, phase).ns for phase in PHASES) <= told.success.ns
    assert [(batch.batch_size, batch.compute_infer.count) for batch in stats.batch_stats] == [(1, 1), (4, 2)]
    for phase in PHASES[1:]:
        assert sum(getattr(batch, phase).ns for batch in stats.batch_stats) == getattr(told, phase).ns
    assert statistics(triton, "digits_batchnorm").inference_count == 0


def test_failures(triton):
    with pytest.raises(InferenceServerException):
        triton.infer("digits", [oip.infer_input("image", X[0])])
    with pytest.raises(InferenceServerException):
        triton.infer("nowhere", [oip.infer_input("image", X)])
    stats = statistics(triton)
    assert (stats.inference_count, stats.execution_count, stats.last_inference) == (0, 0, 0)
    assert (stats.inference_stats.success.count, stats.inference_stats.fail.count) == (0, 1)
    assert stats.inference_stats.fail.ns > 0
    assert stats.inference_stats.compute_infer.count == 0


def test_streams_and_our_own_client_count_too(fresh, triton):
    with grpc.insecure_channel(fresh.address) as channel:
        requests = [oip.request("digits", {"image": X[:2]}), oip.request("digits", {"image": X[0]})]
        assert len(list(oip.stub(channel).ModelStreamInfer(iter(requests)))) == 2
    with gradserve.Client(fresh.address) as client:
        client.infer("digits", {"image": X})
        with pytest.raises(errors.InvalidTensor):
            client.infer("digits", {"image": X[0]})
    stats = statistics(triton)
    assert (stats.inference_count, stats.execution_count) == (6, 2)
    assert (stats.inference_stats.success.count, stats.inference_stats.fail.count) == (2, 2)
    assert [batch.batch_size for batch in stats.batch_stats] == [2, 4]


def test_each_version_by_itself(tmp_path):
    with (
        Engine(oip.echo_repository(tmp_path)) as engine,
        Server(engine, ServerConfig(port=0)) as server,
        InferenceServerClient(server.address) as triton,
    ):
        x = [oip.infer_input("x", np.zeros(2, np.float32))]
        triton.infer("two_only", x, model_version="1")
        triton.infer("two_only", x)
        triton.infer("two_only", x)
        told = triton.get_inference_statistics("two_only").model_stats
        assert [(s.version, s.execution_count) for s in told] == [("1", 1), ("7", 2)]
        (latest,) = triton.get_inference_statistics("two_only", "7").model_stats
        assert (latest.version, latest.execution_count) == ("7", 2)
        # Without batches a request is one inference, whatever its first axis means.
        assert [batch.batch_size for batch in latest.batch_stats] == [1]
        (by_version,) = triton.get_inference_statistics(model_version="7").model_stats
        assert by_version.name == "two_only"


def test_nothing_is_lost_when_many_ask_at_once(triton):
    threads = [threading.Thread(target=infer, args=(triton, 2)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = statistics(triton)
    assert (stats.execution_count, stats.inference_count) == (16, 32)
    assert stats.inference_stats.queue.count == 16


HELD = 0.05
"""Seconds for which the device is taken: far more than a request of the digits needs without waiting."""


@pytest.mark.parametrize("protocol", ["triton", "gradserve"])
def test_waiting_for_the_device_is_queueing_and_not_computing(engine, protocol):
    with Server(engine, ServerConfig(port=0)) as server, InferenceServerClient(server.address) as triton:
        with gradserve.Client(server.address) as client, Crowd(engine._scheduler) as crowd:
            ask = {"triton": lambda: infer(triton, 4), "gradserve": lambda: client.infer("digits", {"image": X})}[protocol]
            asked = perf_counter()
            call = crowd.join(ask)
            in_line = perf_counter()
            wait_for(lambda: perf_counter() - in_line > HELD)
            held = perf_counter() - in_line
            crowd.let_go()
            call.result(WAIT)
            answered = perf_counter() - asked
        told = statistics(triton).inference_stats
    assert told.queue.ns >= held * 1e9
    # Counted once: the parts are not more than what the caller saw.
    assert sum(getattr(told, phase).ns for phase in PHASES) <= told.success.ns <= answered * 1e9
