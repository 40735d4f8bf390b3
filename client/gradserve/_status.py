"""What gRPC raises, as gradserve's own exceptions."""

from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from gradserve import errors

MAX_MESSAGE_BYTES = 256 * 1024 * 1024
"""Default limit of one message, both ways; the server's default is the same."""

_BY_CODE: dict[grpc.StatusCode, type[errors.GradserveError]] = {
    grpc.StatusCode.UNAVAILABLE: errors.ServerUnavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.CANCELLED: errors.CallCancelled,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.LimitExceeded,
    grpc.StatusCode.NOT_FOUND: errors.ModelNotFound,
}
"""For statuses without a reason of ours: gRPC itself makes them, or the health service, which knows a server's models."""


def channel_options(max_message_bytes: int) -> list[tuple[str, int]]:
    """Options of a channel (or of a server) that lets messages of that size through."""
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
    ]


def from_rpc_error(error: Any) -> errors.GradserveError:
    """The exception that a failed call (`grpc.RpcError`) stands for: by its `ErrorInfo.reason`, else by its status code."""
    code, details = error.code(), error.details() or ""
    cls, request_id = _BY_CODE.get(code, errors.CallError), None
    try:
        status = rpc_status.from_call(error)
    except ValueError:  # something on the way has changed the status, and it no longer fits its details
        status = None
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Is(info.DESCRIPTOR) and detail.Unpack(info) and info.domain == errors.DOMAIN:
            cls, request_id = errors.by_reason().get(info.reason, cls), info.metadata.get(errors.REQUEST_ID)
    raised = cls(details if cls is not errors.CallError else f"{code.name}: {details}")
    raised.request_id = request_id
    return raised
