"""Every limit, reached: the answer is the documented status and names the limit, and below the limit all goes on."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields
from queue import Queue

import grpc
import numpy as np
import pytest
from support import golden, oip
from support.fuzz.rpcs import RPCS, call
from support.fuzz.seeds import valid
from support.jobs import Crowd
from support.paths import MODELS
from support.purity import Purity
from support.server_process import ServerProcess
from support.waiting import WAIT, wait_for

import gradserve
from gradserve import _calls
from gradserve import objectives as O
from gradserve.joined import serialized
from gradserve_server import Engine, EngineConfig, ServerConfig
from gradserve_server.rpc.app import Server

IMAGE = {"image": golden.digits()}
OURS, OIP = "/gradserve.v1.GradientService", "/inference.GRPCInferenceService"
ASCEND, STREAM, INFER = f"{OURS}/Ascend", f"{OIP}/ModelStreamInfer", f"{OIP}/ModelInfer"
UNARY = [path for path, rpc in RPCS.items() if path.startswith(OURS) and not rpc.gives_stream]
MIB = 2**20
EXHAUSTED, UNAVAILABLE = grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE


@contextmanager
def serving(**settings):
    """A server with some limits, its engine, a channel; afterwards it answers as before."""
    engine_names = {field.name for field in fields(EngineConfig)}
    engine_config = EngineConfig(**{name: value for name, value in settings.items() if name in engine_names})
    server_settings = {name: value for name, value in settings.items() if name not in engine_names}
    with (
        Engine(MODELS, config=engine_config) as engine,
        Server(engine, ServerConfig(port=0, drain_seconds=2, **server_settings)) as server,
        grpc.insecure_channel(server.address, options=[("grpc.max_receive_message_length", -1)]) as channel,
    ):
        before = Purity(server.address)
        yield server, engine, channel
        before.check()
        before.close()


def refused(channel, path, request=None):
    """The status and text that a valid request is answered with."""
    rpc = RPCS[path]
    data = serialized(valid(rpc)[0] if request is None else request)
    outcome = call(channel, rpc, [data], linger=WAIT)
    return outcome.code, outcome.details


def answered(channel, path):
    assert refused(channel, path)[0] is grpc.StatusCode.OK


# ---- at most so many at a time ---------------------------------------------------------------------------------------


def max_ascents():
    with serving(max_ascents=2) as (server, _, channel), gradserve.Client(server.address) as client:
        running = [client.ascend("digits", O.unit("logits", 7), steps=10**6) for _ in range(2)]
        for ascent in running:
            next(ascent)
        yield refused(channel, ASCEND), EXHAUSTED, "ascents: at most 2 run at a time on this server (max_ascents)"
        running[0].close()
        wait_for(lambda: server.running_ascents == 1)
        answered(channel, ASCEND)
        running[1].close()


def max_streams():
    with serving(max_streams=2) as (server, _, channel):
        requests = Queue()
        open_ = [oip.stub(channel).ModelStreamInfer(iter(requests.get, None)) for _ in range(2)]
        for _ in open_:
            requests.put(oip.request("digits", IMAGE))
        streams = "gradserve_open_streams"
        wait_for(lambda: server.metrics.registry.get_sample_value(streams) == 2)
        yield refused(channel, STREAM), UNAVAILABLE, "streams: at most 2 run at a time on this server (max_streams)"
        for _ in open_:
            requests.put(None)
        wait_for(lambda: server.metrics.registry.get_sample_value(streams) == 0)
        answered(channel, STREAM)


def max_queue():
    with serving(max_queue=2) as (server, engine, channel), gradserve.Client(server.address) as client:
        for path in (*UNARY, INFER, ASCEND):  # those that need a plan have it
            answered(channel, path)
        with Crowd(engine._scheduler) as crowd:
            waiting = [crowd.join(client.infer, "digits", IMAGE) for _ in range(2)]
            for path in (*UNARY, ASCEND):
                yield refused(channel, path), EXHAUSTED, "queue: at most 2 runs wait at a time (max_queue)"
            yield refused(channel, INFER), UNAVAILABLE, "queue: at most 2 runs wait at a time (max_queue)"
            crowd.let_go()
            for one in waiting:
                one.result(WAIT)
        for path in (*UNARY, INFER, ASCEND):
            answered(channel, path)


def max_queue_per_caller():
    """A caller without a token or a certificate is its connection."""
    with serving(max_queue_per_caller=1) as (server, engine, channel), gradserve.Client(server.address) as client:
        client.infer("digits", IMAGE)
        with Crowd(engine._scheduler) as crowd, ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(answered, channel, INFER), crowd.join(client.infer, "digits", IMAGE)]
            wait_for(lambda: crowd.scheduler.waiting == 2)
            text = "queue: at most 1 runs of one caller wait at a time (max_queue_per_caller)"
            yield refused(channel, f"{OURS}/Infer"), EXHAUSTED, text
            yield refused(channel, INFER), UNAVAILABLE, text
            crowd.let_go()
            for one in waiting:
                one.result(WAIT)
        answered(channel, INFER)


# ---- at most so large ------------------------------------------------------------------------------------------------


def max_message_mib():
    with serving(max_message_mib=1) as (_, _, channel):
        for path, rpc in RPCS.items():
            outcome = call(channel, rpc, [bytes(2 * MIB)])
            yield (outcome.code, f"{path}: {outcome.details}"), EXHAUSTED, f"larger than max ({2 * MIB} vs. {MIB})"
        # Requests below 1 MiB whose answers are above.
        values = _calls.activations("digits", {"image": np.zeros((100, 1, 28, 28), np.float32)}, ["relu1"], "")
        yield refused(channel, f"{OURS}/Activations", values.request), EXHAUSTED, "(max_message_mib)"
        yield refused(channel, ASCEND, ascent(count=400).request), EXHAUSTED, "(--max-message-mib)"


def ascent(**settings):
    return _calls.ascend("digits", O.unit("logits", 7), {"steps": 1} | settings)


def refused_ascent(limit, most, asked):
    """An ascent that asks for more than there may be."""
    with serving(**{limit: most}) as (_, _, channel):
        more, enough = (ascent(**{asked: number}).request for number in (most + 1, most))
        yield refused(channel, ASCEND, more), EXHAUSTED, f"at most {most} ({limit})"
        assert refused(channel, ASCEND, enough)[0] is grpc.StatusCode.OK


def max_steps():
    yield from refused_ascent("max_steps", 3, "steps")


def max_images():
    yield from refused_ascent("max_images", 3, "count")


def max_ascent_mib():
    with serving(max_ascent_mib=1) as (_, _, channel):
        yield refused(channel, ASCEND, ascent(count=400).request), EXHAUSTED, "1 MiB for all images (max_ascent_mib)"


def max_inputs():
    with serving(max_inputs=1) as (_, _, channel):
        more = _calls.infer("digits", IMAGE | {"other": IMAGE["image"]}, [], "")
        yield refused(channel, f"{OURS}/Infer", more.request), EXHAUSTED, "inputs: expected at most 1 (--max-inputs)"


def max_layers():
    with serving(max_layers=2) as (_, _, channel):
        more = _calls.activations("digits", IMAGE, ["relu1", "relu3", "relu6"], "")
        yield refused(channel, f"{OURS}/Activations", more.request), EXHAUSTED, "layers: expected at most 2 (--max-layers)"


def max_shared_memory_mib():
    with serving(allow_shared_memory=True, max_shared_memory_mib=1) as (_, _, channel):
        path = f"{OIP}/SystemSharedMemoryRegister"
        more = RPCS[path].request(name="r", key="/nowhere", byte_size=2 * MIB)
        yield (
            refused(channel, path, more),
            UNAVAILABLE,
            f"at most {MIB} bytes of regions on this server (max_shared_memory_mib)",
        )


AT_A_TIME = (max_ascents, max_streams, max_queue, max_queue_per_caller)
SO_LARGE = (max_message_mib, max_steps, max_images, max_ascent_mib, max_inputs, max_layers, max_shared_memory_mib)
LIMITS = {limit.__name__: limit for limit in (*AT_A_TIME, *SO_LARGE)}

NONE_IS_REFUSED = {
    "max_model_mib": "of model files",
    "max_nodes": "of model files",
    "max_load_mib": "of model files",
    "max_plans": "the one unused for longest goes",
    "max_batch": "what does not fit runs in another batch",
    "max_calls": "more wait",
    "max_connection_age_seconds": "its client opens another",
    "max_connection_age_grace_seconds": "it may be the longest ascent's",
    "max_connection_idle_seconds": "its client opens another",
}
"""Limits that no request meets, and why, or where their tests are."""


@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_that_is_reached(limit):
    for (code, details), expected, text in LIMITS[limit]():
        assert (code, text in details) == (expected, True), details


def test_every_limit_has_its_test():
    limits = {
        field.name for config in (EngineConfig, ServerConfig) for field in fields(config) if field.name.startswith("max_")
    }
    assert limits == LIMITS.keys() | NONE_IS_REFUSED.keys()


# ---- what is larger than it looks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_message_that_unpacks_to_more_than_it_may(algorithm):
    """64 MiB of zeros travel as 64 kB: the server stops unpacking at its limit."""
    unlimited = [("grpc.max_send_message_length", -1)]
    with ServerProcess("--max-message-mib", "4") as served, Purity(served.address) as watched:
        with grpc.insecure_channel(served.address, options=unlimited, compression=algorithm) as channel:
            before = served.os.memory_info().rss
            for path, rpc in RPCS.items():
                if path.startswith((OURS, OIP)) and not rpc.takes_stream:
                    outcome = call(channel, rpc, [bytes(64 * MIB if path == INFER else 5 * MIB)])
                    assert outcome.code is EXHAUSTED, (path, outcome.details)
            assert served.os.memory_info().rss < before + 32 * MIB
            data = valid(RPCS[INFER])[0].SerializeToString()
            assert call(channel, RPCS[INFER], [data]).code is grpc.StatusCode.OK  # packed, and small enough
        watched.check()
