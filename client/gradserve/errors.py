"""What can go wrong, as exceptions: the same from a server and from an `Engine` in process.

    GradserveError
    ├── InvalidRequest           the request does not fit the model; fix it
    │   ├── InvalidTensor        a tensor is missing, or of another dtype or shape
    │   ├── UnknownInput         the model has no input of that name
    │   ├── UnknownLayer         the model has no layer or output of that name
    │   ├── InvalidObjective     the objective does not fit the layer
    │   ├── InvalidAscent        an ascent setting is out of range
    │   ├── InvalidParameter     a named parameter of the request has a value that it cannot have
    │   └── InvalidMessage       the bytes sent are no request of that RPC
    ├── ModelError               the model cannot do it
    │   ├── ModelNotFound        no such model or version
    │   ├── InvalidModel         the file cannot be served
    │   ├── RunFailed            the model broke off while it ran
    │   ├── UnsupportedGradient  an operator on the path has no gradient
    │   └── NotDifferentiable    the target does not depend on the input, or the input is of integers
    ├── RegionNotFound           no such region of shared memory is registered
    ├── RegionExists             a region of shared memory of that name is registered already
    ├── NotSupported             the server does not do this
    ├── ControlDisabled          the server does not load and unload models on request
    ├── BackendMissing           the installed onnxruntime cannot do it
    ├── LimitExceeded            a limit of the server is reached; the text names it
    ├── TooLarge                 a request, or the answer to it, is larger than the server allows
    ├── AccessRefused            the server does not do this for this caller
    │   ├── Unauthenticated      no token, or one that the server does not know
    │   └── PermissionDenied     the token does not allow this
    ├── InternalError            a defect of the server; report the request id
    └── CallError                the call itself failed
        ├── ServerUnavailable    nobody answers at that address, or it is shutting down
        ├── DeadlineExceeded     the timeout that the caller set has passed
        └── CallCancelled        the caller cancelled

Free of grpc: the server maps these to status codes in one table, the client maps back by `reason`.
"""

from typing import ClassVar

__all__ = [
    "AccessRefused",
    "BackendMissing",
    "CallCancelled",
    "CallError",
    "ControlDisabled",
    "DeadlineExceeded",
    "GradserveError",
    "InternalError",
    "InvalidAscent",
    "InvalidMessage",
    "InvalidModel",
    "InvalidObjective",
    "InvalidParameter",
    "InvalidRequest",
    "InvalidTensor",
    "LimitExceeded",
    "ModelError",
    "ModelNotFound",
    "NotDifferentiable",
    "NotSupported",
    "PermissionDenied",
    "RegionExists",
    "RegionNotFound",
    "RunFailed",
    "ServerUnavailable",
    "TooLarge",
    "Unauthenticated",
    "UnknownInput",
    "UnknownLayer",
    "UnsupportedGradient",
    "by_reason",
]

DOMAIN = "gradserve"
"""The domain of `google.rpc.ErrorInfo` on the wire."""

REQUEST_ID = "request_id"
"""The key of its metadata under which the request id is."""


class GradserveError(Exception):
    """Base of all; its text says what, where, expected, got."""

    reason: ClassVar[str | None] = None
    """Stable name on the wire (`ErrorReason` without its prefix); None for a class that is never sent."""
    request_id: str | None = None
    """Under which the server's log has it; None where no server answered."""


class InvalidRequest(GradserveError):
    """The request does not fit the model."""


class InvalidTensor(InvalidRequest):
    """A tensor is missing, or of another dtype or shape than the model takes."""

    reason = "INVALID_TENSOR"


class UnknownInput(InvalidRequest):
    """The model has no input of that name."""

    reason = "UNKNOWN_INPUT"


class UnknownLayer(InvalidRequest):
    """The model has no layer or output of that name."""

    reason = "UNKNOWN_LAYER"


class InvalidObjective(InvalidRequest):
    """The objective does not fit the layer: an index outside it, a vector of another length."""

    reason = "INVALID_OBJECTIVE"


class InvalidAscent(InvalidRequest):
    """An ascent setting is out of range."""

    reason = "INVALID_ASCENT"


class InvalidParameter(InvalidRequest):
    """A named parameter of the request has a value that it cannot have."""

    reason = "INVALID_PARAMETER"


class InvalidMessage(InvalidRequest):
    """The bytes sent are no request of that RPC."""

    reason = "INVALID_MESSAGE"


class ModelError(GradserveError):
    """The model cannot do what was asked."""


class ModelNotFound(ModelError):
    """No such model or version in the repository."""

    reason = "MODEL_NOT_FOUND"


class InvalidModel(ModelError):
    """The model file cannot be served; the text names the node."""

    reason = "INVALID_MODEL"


class RunFailed(ModelError):
    """The model broke off while it ran: sizes that its own operators refuse, for example."""

    reason = "RUN_FAILED"


class UnsupportedGradient(ModelError):
    """An operator on the path has no gradient; the text names each node, op and opset."""

    reason = "UNSUPPORTED_GRADIENT"


class NotDifferentiable(ModelError):
    """The target does not depend on the input, or the input has no derivative."""

    reason = "NOT_DIFFERENTIABLE"


class RegionNotFound(GradserveError):
    """No region of shared memory of that name is registered."""

    reason = "REGION_NOT_FOUND"


class RegionExists(GradserveError):
    """A region of shared memory of that name is registered already."""

    reason = "REGION_EXISTS"


class NotSupported(GradserveError):
    """The server does not do this: a part of a protocol that is optional, or to come."""

    reason = "NOT_SUPPORTED"


class ControlDisabled(GradserveError):
    """The server does not load and unload models on request: it was started in another mode."""

    reason = "CONTROL_DISABLED"


class BackendMissing(GradserveError):
    """The installed onnxruntime cannot do it; the text says which wheel to install."""

    reason = "BACKEND_MISSING"


class LimitExceeded(GradserveError):
    """A limit of the server is reached; the text names it."""

    reason = "LIMIT_EXCEEDED"


class TooLarge(GradserveError):
    """A request, or the answer to it, is larger than the server allows; ask for less at a time."""

    reason = "TOO_LARGE"


class AccessRefused(GradserveError):
    """The server does not do this for this caller."""


class Unauthenticated(AccessRefused):
    """No token, or one that the server does not know."""

    reason = "UNAUTHENTICATED"


class PermissionDenied(AccessRefused):
    """The token does not allow this; the text names the permission."""

    reason = "PERMISSION_DENIED"


class InternalError(GradserveError):
    """A defect of the server; the text has the request id to report."""

    reason = "INTERNAL"


class CallError(GradserveError):
    """The call itself failed."""


class ServerUnavailable(CallError):
    """Nobody answers at that address, or the server is shutting down."""

    reason = "SERVER_UNAVAILABLE"


class DeadlineExceeded(CallError):
    """The timeout that the caller set has passed."""

    reason = "DEADLINE_EXCEEDED"


class CallCancelled(CallError):
    """The caller cancelled."""

    reason = "CALL_CANCELLED"


def by_reason() -> dict[str, type[GradserveError]]:
    """Every class that travels, by its `reason`."""

    def walk(cls: type[GradserveError]) -> list[type[GradserveError]]:
        return [cls, *(below for child in cls.__subclasses__() for below in walk(child))]

    return {cls.reason: cls for cls in walk(GradserveError) if cls.reason is not None and "reason" in vars(cls)}
