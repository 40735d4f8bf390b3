"""Attempts: which calls are made again, how often, and which never are."""

import asyncio
import contextlib
import socket
import threading
import time
from concurrent import futures

import grpc
import numpy as np
import pytest
from support import golden
from support.waiting import WAIT, wait_for

import gradserve
from gradserve import errors
from gradserve import objectives as O
from gradserve.tensors import add_named
from gradserve.v1 import gradient_service_pb2 as pb
from gradserve_server import ServerConfig
from gradserve_server.rpc.app import Server
from gradserve_server.rpc.status import to_status

IMAGE = {"image": golden.digits()}
UNIT = O.unit("logits", 7)
LARGE = {"image": np.zeros((1000, 1, 28, 28), np.float32)}
"""3 MB: more than gRPC keeps of a request by default, 256 KiB."""


class Moody:
    """A gRPC server that fails as often as it is told to, and counts."""

    def __init__(self, fails, error, *, messages=0, wait=0.0):
        self.seen = []
        self._fails, self._error, self._messages, self._wait = fails, error, messages, wait
        self._server = grpc.server(
            futures.ThreadPoolExecutor(4), handlers=[self], options=[("grpc.max_receive_message_length", -1)]
        )
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def service(self, details):
        self.seen.append(details.method)
        if details.method.endswith("/Ascend"):
            return grpc.unary_stream_rpc_method_handler(self._stream)
        return grpc.unary_unary_rpc_method_handler(self._unary)

    def _fail(self, context):
        time.sleep(self._wait)
        if len(self.seen) <= self._fails:
            if isinstance(self._error, grpc.StatusCode):
                context.abort(self._error, "a text")
            context.abort_with_status(to_status(self._error, "/rpc"))

    def _unary(self, request, context):  # noqa: ARG002
        self._fail(context)
        response = pb.InferResponse()
        add_named(response.outputs, {"y": np.float32([1])})
        return response.SerializeToString()

    def _stream(self, request, context):  # noqa: ARG002
        for _ in range(self._messages):
            yield pb.AscendResponse(index=1).SerializeToString()
        self._fail(context)
        yield pb.AscendResponse(index=2).SerializeToString()

    def __enter__(self):
        self._server.start()
        return self

    def __exit__(self, *_):
        self._server.stop(0).wait()


BUSY = errors.ServerUnavailable("stopping")


def infer(client, inputs=IMAGE):
    return client.infer("m", inputs)["y"].tolist()


# ---- made again --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", [IMAGE, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("error", [BUSY, grpc.StatusCode.UNAVAILABLE], ids=["ours", "a proxy's"])
def test_two_failures_are_nothing_that_a_caller_sees(error, inputs):
    with Moody(2, error) as server, gradserve.Client(server.address) as client:
        assert infer(client, inputs) == [1]
        assert len(server.seen) == 3


def test_the_asynchronous_client():
    async def call(address):
        async with gradserve.aio.Client(address) as client:
            return await client.infer("m", LARGE)

    with Moody(2, BUSY) as server:
        assert asyncio.run(call(server.address))["y"].tolist() == [1]
        assert len(server.seen) == 3


@pytest.mark.parametrize("retries", [0, 1, 2, 4])
def test_a_server_that_always_fails(retries):
    with Moody(99, BUSY) as server, gradserve.Client(server.address, retries=retries) as client:
        with pytest.raises(errors.ServerUnavailable, match="^stopping$"):
            infer(client)
        assert len(server.seen) == 1 + retries


def test_an_ascent_that_has_not_begun():
    with Moody(2, BUSY) as server, gradserve.Client(server.address) as client:
        assert [step.index for step in client.ascend("m", UNIT)] == [2]
        assert len(server.seen) == 3


def test_a_server_that_comes_up_meanwhile(engine):
    with Server(engine, ServerConfig(port=0)) as server:
        port = server.port
    started = []
    later = threading.Timer(0.3, lambda: started.append(Server(engine, ServerConfig(port=port, drain_seconds=0))))
    with gradserve.Client(f"127.0.0.1:{port}", retries=4) as client:
        later.start()
        try:
            assert client.infer("digits", IMAGE)["logits"].shape == (4, 10)
        finally:
            later.join()
            started[0].stop()


def test_a_server_that_is_started_again_between_two_calls(engine):
    server = Server(engine, ServerConfig(port=0, drain_seconds=0))
    with gradserve.Client(server.address) as client:
        before = client.infer("digits", IMAGE)["logits"]
        server.stop()
        with Server(engine, ServerConfig(port=server.port, drain_seconds=0)):
            assert client.infer("digits", IMAGE)["logits"].tobytes() == before.tobytes()


class Cut:
    """A way to a server, on which the first connection is cut once a request has gone through."""

    def __init__(self, server):
        self._server = server
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self.connections = 0
        self._thread = threading.Thread(target=self._accept)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                self._carry(self._listening.accept()[0], cut=self.connections == 0)

    def _carry(self, client, *, cut):
        self.connections += 1
        host, _, port = self._server.address.rpartition(":")
        server = socket.create_connection((host, int(port)))
        threads = [threading.Thread(target=_copy, args=pair, daemon=True) for pair in ((client, server), (server, client))]
        for thread in threads:
            thread.start()
        if cut:
            wait_for(lambda: self._server.seen)
            client.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()


def _copy(source, target):
    with source, contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("retries", [0, 2])
def test_a_connection_that_breaks_while_the_server_works(retries):
    """Nobody knows how far the call came; but no call changes anything, so it is made again."""
    with Moody(0, BUSY, wait=0.5) as server, Cut(server) as way:
        with gradserve.Client(way.address, retries=retries) as client:
            if retries:
                assert infer(client) == [1]
            else:
                with pytest.raises(errors.ServerUnavailable):
                    infer(client)
        assert len(server.seen) == (2 if retries else 1)


# ---- never made again --------------------------------------------------------------------------------------------------

FINAL = [
    errors.LimitExceeded("text"),
    errors.InternalError("text"),
    errors.InvalidTensor("text"),
    errors.Unauthenticated("text"),
    errors.PermissionDenied("text"),
    errors.DeadlineExceeded("text"),
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.ABORTED,
]


@pytest.mark.parametrize("error", FINAL, ids=str)
def test_every_other_error_is_an_answer(error):
    expected = type(error) if isinstance(error, Exception) else errors.CallError
    with Moody(99, error) as server, gradserve.Client(server.address, retries=4) as client:
        with pytest.raises(expected):
            infer(client)
        with pytest.raises(expected):
            list(client.ascend("m", UNIT))
        assert len(server.seen) == 2


def test_an_ascent_that_has_begun():
    with Moody(99, BUSY, messages=1) as server, gradserve.Client(server.address, retries=4) as client:
        steps = client.ascend("m", UNIT)
        assert next(steps).index == 1
        with pytest.raises(errors.ServerUnavailable):
            next(steps)
        assert len(server.seen) == 1


@pytest.mark.parametrize("verb", [lambda client: client.load("m"), lambda client: client.unload("m")])
def test_what_changes_something(verb):
    with Moody(99, BUSY) as server, gradserve.Client(server.address, retries=4) as client:
        with pytest.raises(errors.ServerUnavailable):
            verb(client)
        assert len(server.seen) == 1


def test_services_that_are_not_ours_are_not_called_again():
    """Of ours, every call may be made twice; of others nobody knows."""
    with Moody(99, BUSY) as server, gradserve.Client(server.address, retries=4) as client:
        with pytest.raises(grpc.RpcError):
            client._channel.unary_unary("/inference.GRPCInferenceService/RepositoryModelLoad")(b"", timeout=WAIT)
        assert len(server.seen) == 1


# ---- deadlines ---------------------------------------------------------------------------------------------------------


def test_a_deadline_is_for_all_attempts_together():
    with Moody(99, BUSY, wait=0.4) as server, gradserve.Client(server.address, timeout=1, retries=4) as client:
        with pytest.raises(errors.DeadlineExceeded):
            infer(client)
        assert 2 <= len(server.seen) <= 3


# ---- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("retries", [-1, 5, 10])
@pytest.mark.parametrize("client", [gradserve.Client, gradserve.aio.Client])
def test_a_number_that_grpc_does_not_do(client, retries):
    with pytest.raises(errors.InvalidParameter, match=f"^retries: expected a whole number from 0 to 4, got {retries}$"):
        client(retries=retries)


def test_a_setting_that_does_not_exist():
    with pytest.raises(TypeError, match="expected settings among tls, .*, got retrys"):
        gradserve.Client(retrys=3)
