"""Limits: of messages, of requests, of ascents, of connections. Each is an error that names its setting."""

import re
import subprocess
import sys

import grpc
import numpy as np
import pytest
from support import golden
from support.oip import request as oip_request
from support.paths import MODELS
from support.waiting import WAIT, wait_for
from tritonclient.grpc import service_pb2, service_pb2_grpc

import gradserve
from gradserve import errors
from gradserve import objectives as O
from gradserve.tensors import add_named
from gradserve.v1 import gradient_service_pb2 as pb
from gradserve.v1.gradient_service_pb2_grpc import GradientServiceStub
from gradserve_server import Engine, EngineConfig, ServerConfig
from gradserve_server.rpc.app import Server
from gradserve_server.runtime.model import Model

IMAGE = {"image": golden.digits()}
UNIT = O.unit("logits", 7)
MIB = 1024 * 1024
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def listen(engine, **settings):
    return Server(engine, ServerConfig(port=0, drain_seconds=1, **settings))


# ---- the size of a request ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(engine):
    """A server that takes messages of up to 1 MiB."""
    with listen(engine, max_message_mib=1) as server:
        yield server


def zeros(megabytes):
    """Images, as large as that; small once they are compressed."""
    return {"image": np.zeros((int(megabytes * MIB) // (28 * 28 * 4), 1, 28, 28), np.float32)}


def infer_request(inputs, model="digits"):
    request = pb.InferRequest(model=pb.ModelRef(name=model))
    add_named(request.inputs, inputs)
    return request


INFER = {
    "gradserve.v1": lambda channel, inputs, **options: GradientServiceStub(channel).Infer(
        infer_request(inputs), timeout=WAIT, **options
    ),
    "inference": lambda channel, inputs, **options: service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(
        oip_request("digits", inputs), timeout=WAIT, **options
    ),
    "inference, stream": lambda channel, inputs, **options: list(
        service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(
            iter([oip_request("digits", inputs)]), timeout=WAIT, **options
        )
    ),
}
COMPRESSIONS = {"none": grpc.Compression.NoCompression, "gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("protocol", INFER)
def test_a_request_is_measured_after_decompression(small, protocol, compression):
    how = COMPRESSIONS[compression]
    with grpc.insecure_channel(small.address, UNLIMITED) as channel:
        if protocol == "gradserve.v1":  # in the other the model takes 64 samples
            assert INFER[protocol](channel, zeros(0.9), compression=how)
        for megabytes in (1.1, 40):
            with pytest.raises(grpc.RpcError) as error:
                INFER[protocol](channel, zeros(megabytes), compression=how)
            assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "larger than max" in error.value.details()
        assert INFER[protocol](channel, IMAGE, compression=how)


def test_a_bomb_takes_no_memory():
    """1 GiB of zeros is 1 MiB of gzip. In a process of its own, whose largest size is known."""
    program = f"""
import resource, sys
from gradserve_server import Engine, ServerConfig
from gradserve_server.rpc.app import Server
with Engine({str(MODELS)!r}) as engine, Server(engine, ServerConfig(port=0, max_message_mib=2)) as server:
    print(server.address, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)
    sys.stdin.read(1)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        address, before = process.stdout.readline().split()
        with grpc.insecure_channel(address, UNLIMITED) as channel:
            call = channel.unary_unary("/gradserve.v1.GradientService/Infer")
            with pytest.raises(grpc.RpcError) as error:
                call(bytes(512 * MIB), compression=grpc.Compression.Gzip, timeout=60)
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        after, _ = process.communicate("x")
    assert int(after) - int(before) < 64 * 1024  # KiB


def test_our_client_says_so_too(small):
    with gradserve.Client(small.address) as client, pytest.raises(errors.LimitExceeded, match="larger than max"):
        client.infer("digits", zeros(1.1))


def test_metadata_is_limited_by_grpc(server):
    metadata = (("x-long", "x" * 20_000),)
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as error:
        GradientServiceStub(channel).Infer(pb.InferRequest(), metadata=metadata, timeout=WAIT)
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


# ---- the size of an answer ---------------------------------------------------------------------------------------------


def test_activations_that_cannot_be_sent_are_not_computed(small, monkeypatch):
    """24 channels of 28x28 float32, for each of 100 samples."""
    images = {"image": np.zeros((100, 1, 28, 28), np.float32)}
    plans = []
    monkeypatch.setattr(Model, "plan", lambda *arguments: plans.append(arguments))
    with gradserve.Client(small.address) as client:
        limit = r"at most 1048576 bytes of values in an answer \(max_message_mib\)"
        text = rf"^layers: expected {limit}, got 7526400; ask for fewer samples or layers at a time$"
        with pytest.raises(errors.TooLarge, match=text):
            client.activations("digits", images, ["relu1"])
    assert plans == []


def test_activations_that_can(small, engine):
    with gradserve.Client(small.address) as client:
        got = client.activations("digits", IMAGE, ["relu1"])
    assert got["relu1"].tobytes() == engine.activations("digits", IMAGE, ["relu1"])["relu1"].tobytes()


def test_another_answer_that_cannot_be_sent(small):
    images = {"image": np.zeros((100, 1, 28, 28), np.float32)}
    text = r"^answer: expected at most 1 MiB \(--max-message-mib\), got \d{8} bytes; ask for fewer samples or layers"
    with gradserve.Client(small.address) as client:
        with pytest.raises(errors.TooLarge, match=text):
            client.jvp("digits", images, images, outputs=["relu1"])
        assert client.infer("digits", IMAGE)["logits"].shape == (4, 10)


def test_a_streamed_answer_that_cannot_be_sent(small):
    text = r"^answer: expected at most 1 MiB"
    with gradserve.Client(small.address) as client, pytest.raises(errors.TooLarge, match=text):
        list(client.ascend("digits", UNIT, steps=1, count=400))


# ---- how much one request names ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def narrow(engine):
    """A server of narrow limits."""
    with listen(engine, max_inputs=2, max_layers=3) as server:
        yield server


LAYERS = ["relu1", "relu2", "relu3", "relu4"]
SUM = sum((O.unit("logits", k) for k in range(1, 4)), O.unit("logits", 0))
MANY = {f"input{k}": np.zeros(1, np.float32) for k in range(3)}
WORK = {
    ("layers", "max-layers", 3, 4): lambda c: c.activations("digits", IMAGE, LAYERS),
    ("terms", "max-layers", 3, 4): lambda c: c.gradient("digits", IMAGE, SUM),
    ("wrt", "max-layers", 3, 4): lambda c: c.gradient("digits", IMAGE, UNIT, wrt=LAYERS),
    ("outputs", "max-layers", 3, 4): lambda c: c.infer("digits", IMAGE, outputs=LAYERS),
    ("cotangents", "max-layers", 3, 4): lambda c: c.vjp("digits", IMAGE, dict.fromkeys(LAYERS, np.zeros(1))),
    ("tangents", "max-layers", 3, 4): lambda c: c.jvp("digits", IMAGE, dict.fromkeys(LAYERS, np.zeros(1))),
    ("inputs", "max-inputs", 2, 3): lambda c: c.infer("digits", MANY),
}


@pytest.mark.parametrize(("field", "flag", "most", "got"), WORK)
def test_a_request_that_names_too_much(narrow, field, flag, most, got):
    text = rf"^{field}: expected at most {most} \(--{flag}\) in a request, got {got}$"
    with gradserve.Client(narrow.address) as client, pytest.raises(errors.TooLarge, match=text):
        WORK[field, flag, most, got](client)


def test_an_ascent_of_too_many_terms(narrow):
    with gradserve.Client(narrow.address) as client, pytest.raises(errors.TooLarge, match="^terms: "):
        list(client.ascend("digits", SUM, steps=1))


def test_as_much_as_it_may(narrow):
    with gradserve.Client(narrow.address) as client:
        assert client.activations("digits", IMAGE, LAYERS[:3]).keys() == set(LAYERS[:3])


@pytest.mark.parametrize("protocol", ["inference", "inference, stream"])
def test_the_open_inference_protocol(narrow, protocol):
    """A request that its caller can mend."""
    with grpc.insecure_channel(narrow.address) as channel, pytest.raises(grpc.RpcError) as error:
        INFER[protocol](channel, MANY)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details() == "inputs: expected at most 2 (--max-inputs) in a request, got 3"


def test_raw_contents_without_inputs(narrow):
    with grpc.insecure_channel(narrow.address) as channel, pytest.raises(grpc.RpcError) as error:
        service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(
            service_pb2.ModelInferRequest(model_name="digits", raw_input_contents=[b"x"] * 3), timeout=WAIT
        )
    assert re.match("raw_input_contents: expected at most 2", error.value.details())


# ---- ascents -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"steps": 11}, r"^steps: expected at most 10 \(max_steps\) in an ascent, got 11$"),
        ({"steps": 10, "count": 4}, r"^count: expected at most 3 \(max_images\) in an ascent, got 4$"),
    ],
)
def test_an_ascent_that_is_too_much(settings, text):
    with (
        Engine(MODELS, config=EngineConfig(max_steps=10, max_images=3)) as engine,
        listen(engine) as server,
        gradserve.Client(server.address) as client,
    ):
        for verbs in (client, engine):
            with pytest.raises(errors.TooLarge, match=text):
                list(verbs.ascend("digits", UNIT, **settings))
            assert len(list(verbs.ascend("digits", UNIT, steps=10, count=3))) == 11


# ---- connections -------------------------------------------------------------------------------------------------------


def test_a_connection_that_comes_of_age(engine):
    """Its calls finish, and its client connects again without a word."""
    with (
        listen(engine, max_connection_age_seconds=0.2) as server,
        gradserve.Client(server.address, timeout=WAIT) as client,
        grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel,
    ):
        states = []
        channel.subscribe(states.append, try_to_connect=True)
        wait_for(lambda: grpc.ChannelConnectivity.IDLE in states[1:])
        steps = client.ascend("digits", UNIT, steps=2000, report_every=100)
        assert [step.index for step in steps][-1] == 2000
        assert client.infer("digits", IMAGE)["logits"].shape == (4, 10)


def test_an_idle_connection_is_closed(engine):
    with (
        listen(engine, max_connection_idle_seconds=0.2) as server,
        grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel,
    ):
        states = []
        channel.subscribe(states.append, try_to_connect=True)
        wait_for(lambda: grpc.ChannelConnectivity.IDLE in states[1:])
