"""What gRPC raises, as gradserve's own exceptions."""

from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from gradserve import errors

_BY_CODE: dict[grpc.StatusCode, type[errors.GradserveError]] = {
    grpc.StatusCode.UNAVAILABLE: errors.ServerUnavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.CANCELLED: errors.CallCancelled,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.LimitExceeded,
    grpc.StatusCode.NOT_FOUND: errors.ModelNotFound,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
}
"""For statuses without a reason of ours: of gRPC itself, of a proxy, or of the health service, which knows the models."""

_HINTS = {
    "WRONG_VERSION_NUMBER": "the server does not speak TLS there",
    "CERTIFICATE_VERIFY_FAILED: unable to get local issuer": "no authority that this client trusts has signed the server's "
    "certificate",
    "CERTIFICATE_VERIFY_FAILED: self signed": "the server's certificate is signed by itself",
    "CERTIFICATE_VERIFY_FAILED: certificate has expired": "the server's certificate has expired",
    "Hostname Verification Check failed": "the server's certificate is for another name",
    "failed to connect to all addresses; last error: UNAVAILABLE": "the server hangs up: does it want TLS, or a client "
    "certificate?",
}
"""What gRPC says of a connection that fails, and what it means."""


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
    if cls is errors.ServerUnavailable:
        hint = next((hint for said, hint in _HINTS.items() if said in details), "")
        details = f"{hint} ({details})" if hint else details
    raised = cls(details if cls is not errors.CallError else f"{code.name}: {details}")
    raised.request_id = request_id
    return raised
