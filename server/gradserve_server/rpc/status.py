"""Which gRPC status each error is, and how it travels: the one table, and what turns an exception into a status."""

import logging
from typing import NamedTuple

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from gradserve import errors
from gradserve_server.rpc.call import REQUEST_ID, request_id

_log = logging.getLogger(__name__)

STATUS: dict[type[errors.GradserveError], grpc.StatusCode] = {
    errors.InvalidTensor: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnknownInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnknownLayer: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidObjective: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidAscent: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidParameter: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidMessage: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ModelNotFound: grpc.StatusCode.NOT_FOUND,
    errors.InvalidModel: grpc.StatusCode.FAILED_PRECONDITION,
    errors.RunFailed: grpc.StatusCode.FAILED_PRECONDITION,
    errors.UnsupportedGradient: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotDifferentiable: grpc.StatusCode.FAILED_PRECONDITION,
    errors.RegionNotFound: grpc.StatusCode.NOT_FOUND,
    errors.RegionExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.NotSupported: grpc.StatusCode.UNIMPLEMENTED,
    errors.ControlDisabled: grpc.StatusCode.FAILED_PRECONDITION,
    errors.BackendMissing: grpc.StatusCode.UNIMPLEMENTED,
    errors.LimitExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.TooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.InternalError: grpc.StatusCode.INTERNAL,
    errors.ServerUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.CallCancelled: grpc.StatusCode.CANCELLED,
}
"""Every error that travels (each class with a `reason`)."""

OIP_STATUS: dict[type[errors.GradserveError], grpc.StatusCode] = {
    errors.ControlDisabled: grpc.StatusCode.UNAVAILABLE,
    errors.InvalidModel: grpc.StatusCode.INTERNAL,
    errors.RunFailed: grpc.StatusCode.INTERNAL,
    errors.LimitExceeded: grpc.StatusCode.UNAVAILABLE,
    errors.TooLarge: grpc.StatusCode.INVALID_ARGUMENT,
}
"""Where the Open Inference Protocol differs: what Triton answers, and its clients wait for."""

_OIP = "/inference."
"""How the names of its RPCs begin."""

MAX_TEXT_BYTES = 1000
"""Of a message: it travels twice in headers that gRPC limits to 8 KiB, once with up to three characters for a byte."""


class RpcStatus(NamedTuple):
    """A status as `ServicerContext.abort_with_status` takes it. Grpc checks the fields, not the class."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


def to_status(error: Exception, rpc: str) -> RpcStatus:
    """The status that an exception becomes.

    Each has the request id of its call. An unexpected exception becomes INTERNAL; what it was stays in the server's log.
    """
    request = request_id()
    if not isinstance(error, tuple(STATUS)):
        _log.error("%s: request %s failed", rpc, request, exc_info=error)
        error = errors.InternalError(f"internal error; request id {request}")
    kind = next(cls for cls in type(error).__mro__ if cls in STATUS)
    code = OIP_STATUS.get(kind, STATUS[kind]) if rpc.startswith(_OIP) else STATUS[kind]
    text = _shortened(str(error))
    info = any_pb2.Any()
    metadata = {errors.REQUEST_ID: request}
    info.Pack(error_details_pb2.ErrorInfo(reason=kind.reason, domain=errors.DOMAIN, metadata=metadata))
    status = status_pb2.Status(code=code.value[0], message=text, details=[info])
    return RpcStatus(code, text, (("grpc-status-details-bin", status.SerializeToString()), (REQUEST_ID, request)))


def _shortened(text: str) -> str:
    encoded = text.encode()
    if len(encoded) <= MAX_TEXT_BYTES:
        return text
    return encoded[:MAX_TEXT_BYTES].decode(errors="ignore") + " ..."
