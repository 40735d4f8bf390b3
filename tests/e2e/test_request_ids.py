"""The request id: given or made, in every answer, in every error, in the client's hands."""

import asyncio
import re

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support import golden, oip

import gradserve
from gradserve import errors
from gradserve import objectives as O
from gradserve.v1 import gradient_service_pb2 as pb
from gradserve.v1.gradient_service_pb2_grpc import GradientServiceStub
from gradserve_server import ServerConfig
from gradserve_server.rpc.app import Server

X = {"image": golden.digits()}
GIVEN = (("x-request-id", "order-42"),)


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.address) as channel:
        yield channel


CALLS = {
    "unary": lambda channel, **options: oip.stub(channel).ModelInfer.with_call(oip.request("digits", X), **options)[1],
    "stream": lambda channel, **options: read(
        GradientServiceStub(channel).Ascend(pb.AscendRequest(model={"name": "digits"}, objective=unit(), steps=1), **options)
    ),
    "stream of requests": lambda channel, **options: read(
        oip.stub(channel).ModelStreamInfer(iter([oip.request("digits", X)]), **options)
    ),
    "health": lambda channel, **options: health_pb2_grpc.HealthStub(channel).Check.with_call(
        health_pb2.HealthCheckRequest(), **options
    )[1],
}


def unit():
    from gradserve.wire import objective_to_wire

    return objective_to_wire(O.unit("logits", 7))


def read(call):
    list(call)
    return call


def request_id(call):
    return dict(call.trailing_metadata())["x-request-id"]


@pytest.mark.parametrize("kind", CALLS)
def test_every_answer_has_one(channel, kind):
    assert request_id(CALLS[kind](channel, metadata=GIVEN)) == "order-42"
    first, second = (request_id(CALLS[kind](channel)) for _ in range(2))
    assert first != second
    assert re.fullmatch(r"[0-9a-f]{32}", first)


def failed(call):
    """The request ids that an error has: in the metadata and in the details."""
    metadata = dict(call.trailing_metadata())
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return metadata["x-request-id"], info.metadata["request_id"]


@pytest.mark.parametrize("data", [b"", b"\xff"])
@pytest.mark.parametrize("rpc", ["/gradserve.v1.GradientService/Infer", "/inference.GRPCInferenceService/ModelInfer"])
def test_every_error_has_one(channel, rpc, data):
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary(rpc)(data, metadata=GIVEN)
    assert failed(error.value) == ("order-42", "order-42")


def test_the_client_has_it(client):
    with pytest.raises(errors.ModelNotFound) as error:
        client.infer("nowhere", X)
    assert re.fullmatch(r"[0-9a-f]{32}", error.value.request_id)


def test_in_process_there_is_none(engine):
    with pytest.raises(errors.ModelNotFound) as error:
        engine.infer("nowhere", X)
    assert error.value.request_id is None


def test_the_client_can_give_it(client):
    with (
        gradserve.metadata({"x-request-id": "order-42"}),
        pytest.raises(errors.ModelNotFound) as unary,
    ):
        client.infer("nowhere", X)
    with (
        gradserve.metadata({"x-request-id": "outer"}),
        gradserve.metadata({"x-request-id": "order-43"}),
        pytest.raises(errors.ModelNotFound) as stream,
    ):
        list(client.ascend("nowhere", O.unit("logits", 7)))
    with pytest.raises(errors.ModelNotFound) as neither:
        client.infer("nowhere", X)
    assert (unary.value.request_id, stream.value.request_id) == ("order-42", "order-43")
    assert re.fullmatch(r"[0-9a-f]{32}", neither.value.request_id)


def test_the_asynchronous_client_too(server):
    async def ask(client, name):
        with gradserve.metadata({"x-request-id": name}):
            try:
                await client.infer("nowhere", X)
            except errors.ModelNotFound as error:
                return error.request_id

    async def ask_all():
        async with gradserve.aio.Client(server.address) as client:
            return await asyncio.gather(*(ask(client, name) for name in ("a", "b")))

    assert asyncio.run(ask_all()) == ["a", "b"]


def test_a_defect_has_it_in_its_text(engine, monkeypatch):
    def fail(*_args, **_kwargs):
        return 1 // 0

    monkeypatch.setattr(engine, "infer_with", fail)
    with (
        Server(engine, ServerConfig(port=0)) as server,
        gradserve.Client(server.address) as client,
        gradserve.metadata({"x-request-id": "order-42"}),
        pytest.raises(errors.InternalError, match=r"^internal error; request id order-42$") as error,
    ):
        client.infer("digits", {"image": np.zeros((1, 1, 28, 28), np.float32)})
    assert error.value.request_id == "order-42"
