"""Every RPC that the server answers, from the descriptions that it serves by reflection, and raw calls of them."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import grpc
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from gradserve_server.rpc.app import _FILES, SERVICES
from gradserve_server.rpc.reflection import pool_of

PATIENCE = 60
"""Seconds after which a call hangs."""

READ = 8
"""Responses of a stream that are read before the call is cancelled."""

ONE_ONLY = "/grpc.health.v1.Health/Watch"
"""Has nothing more to say until something changes, and that nothing does."""

LINGER = 0.2
"""Seconds after the first response of an endless stream until it is cancelled."""


@dataclass(frozen=True)
class Rpc:
    """One of them."""

    service: str
    name: str
    request: Any
    """The class of its requests, in a descriptor pool of its own."""
    takes_stream: bool
    gives_stream: bool

    @property
    def path(self) -> str:
        """As gRPC has it."""
        return f"/{self.service}/{self.name}"

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True)
class Outcome:
    """How a call ended."""

    code: grpc.StatusCode
    details: str
    responses: list[bytes]


def _rpcs() -> dict[str, Rpc]:
    pool, found = pool_of(_FILES), {}
    for service in (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME):
        for method in pool.FindServiceByName(service).methods:
            request = GetMessageClass(method.input_type)
            rpc = Rpc(service, method.name, request, method.client_streaming, method.server_streaming)
            found[rpc.path] = rpc
    return found


RPCS = _rpcs()
"""By path."""


LOADING = (
    "/gradserve.v1.ModelService/LoadModel",
    "/gradserve.v1.ModelService/UnloadModel",
    "/inference.GRPCInferenceService/RepositoryModelLoad",
    "/inference.GRPCInferenceService/RepositoryModelUnload",
)
"""Those after which a model may not be there any more."""


def call(
    channel: grpc.Channel,
    rpc: Rpc,
    requests: Iterable[bytes],
    metadata: tuple[tuple[str, str], ...] = (),
    linger: float = LINGER,
) -> Outcome:
    """Sends bytes, whatever they are, and says how the call ended. A stream without end is cancelled, and then OK."""
    responses: list[bytes] = []
    timer = None
    try:
        if not rpc.gives_stream:
            (request,) = requests
            responses.append(channel.unary_unary(rpc.path)(request, timeout=PATIENCE, metadata=metadata))
            return Outcome(grpc.StatusCode.OK, "", responses)
        if rpc.takes_stream:
            stream = channel.stream_stream(rpc.path)(iter(requests), timeout=PATIENCE, metadata=metadata)
        else:
            (request,) = requests
            stream = channel.unary_stream(rpc.path)(request, timeout=PATIENCE, metadata=metadata)
        for response in islice(stream, 1 if rpc.path == ONE_ONLY else READ):
            responses.append(response)
            if timer is None and not rpc.takes_stream and rpc.path != ONE_ONLY:
                timer = threading.Timer(linger, stream.cancel)
                timer.start()
        stream.cancel()
    except grpc.RpcError as error:
        if not (responses and error.code() is grpc.StatusCode.CANCELLED and timer is not None):
            return Outcome(error.code(), error.details(), responses)
    finally:
        if timer is not None:
            timer.cancel()
    return Outcome(grpc.StatusCode.OK, "", responses)
