"""The service as gRPC takes it: a handler for each RPC of the protocol."""

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message_factory import GetMessageClass

from gradserve.errors import NotSupported
from gradserve_server.rpc.oip.messages import NAME, service
from gradserve_server.rpc.oip.servicer import InferenceServicer

_CUDA_SHARED_MEMORY = "this server does not do CUDA shared memory; send tensors in the message or in system shared memory"

UNIMPLEMENTED = {
    "CudaSharedMemoryStatus": _CUDA_SHARED_MEMORY,
    "CudaSharedMemoryRegister": _CUDA_SHARED_MEMORY,
    "CudaSharedMemoryUnregister": _CUDA_SHARED_MEMORY,
}
"""RPCs that are not done, and what they answer. Every other one is a method of `InferenceServicer`."""


def handlers(servicer: InferenceServicer) -> grpc.GenericRpcHandler:
    """A handler for each RPC."""
    made = {}
    for method in service().methods:
        behaviour = _refuse(method.name) if method.name in UNIMPLEMENTED else getattr(servicer, method.name)
        streams = method.client_streaming and method.server_streaming
        make = grpc.stream_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
        made[method.name] = make(
            behaviour,
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=_serialize,
        )
    return grpc.method_handlers_generic_handler(NAME, made)


def _serialize(response: Any) -> bytes:
    """Of messages; predictions are bytes already."""
    return response if isinstance(response, bytes) else bytes(response.SerializeToString())


def _refuse(rpc: str) -> Callable[[Any, grpc.ServicerContext], Any]:
    def refuse(request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ARG001
        msg = f"{rpc}: {UNIMPLEMENTED[rpc]}"
        raise NotSupported(msg)

    return refuse
