"""The service as gRPC takes it: a handler for each RPC of the protocol."""

from collections.abc import Callable
from typing import Any

import grpc

from gradserve.errors import NotSupported
from gradserve_server.rpc.handlers import handlers_of
from gradserve_server.rpc.oip.messages import service
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
    return handlers_of(service(), lambda rpc: _refuse(rpc) if rpc in UNIMPLEMENTED else getattr(servicer, rpc))


def _refuse(rpc: str) -> Callable[[Any, grpc.ServicerContext], Any]:
    def refuse(request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ARG001
        msg = f"{rpc}: {UNIMPLEMENTED[rpc]}"
        raise NotSupported(msg)

    return refuse
