from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class ErrorReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_REASON_UNSPECIFIED: _ClassVar[ErrorReason]
    ERROR_REASON_INVALID_TENSOR: _ClassVar[ErrorReason]
    ERROR_REASON_UNKNOWN_INPUT: _ClassVar[ErrorReason]
    ERROR_REASON_UNKNOWN_LAYER: _ClassVar[ErrorReason]
    ERROR_REASON_INVALID_OBJECTIVE: _ClassVar[ErrorReason]
    ERROR_REASON_INVALID_ASCENT: _ClassVar[ErrorReason]
    ERROR_REASON_INVALID_MODEL: _ClassVar[ErrorReason]
    ERROR_REASON_MODEL_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_UNSUPPORTED_GRADIENT: _ClassVar[ErrorReason]
    ERROR_REASON_NOT_DIFFERENTIABLE: _ClassVar[ErrorReason]
    ERROR_REASON_BACKEND_MISSING: _ClassVar[ErrorReason]
    ERROR_REASON_LIMIT_EXCEEDED: _ClassVar[ErrorReason]
    ERROR_REASON_RUN_FAILED: _ClassVar[ErrorReason]
    ERROR_REASON_INVALID_PARAMETER: _ClassVar[ErrorReason]
    ERROR_REASON_INVALID_MESSAGE: _ClassVar[ErrorReason]
    ERROR_REASON_NOT_SUPPORTED: _ClassVar[ErrorReason]
    ERROR_REASON_INTERNAL: _ClassVar[ErrorReason]
    ERROR_REASON_SERVER_UNAVAILABLE: _ClassVar[ErrorReason]
    ERROR_REASON_DEADLINE_EXCEEDED: _ClassVar[ErrorReason]
    ERROR_REASON_CALL_CANCELLED: _ClassVar[ErrorReason]
ERROR_REASON_UNSPECIFIED: ErrorReason
ERROR_REASON_INVALID_TENSOR: ErrorReason
ERROR_REASON_UNKNOWN_INPUT: ErrorReason
ERROR_REASON_UNKNOWN_LAYER: ErrorReason
ERROR_REASON_INVALID_OBJECTIVE: ErrorReason
ERROR_REASON_INVALID_ASCENT: ErrorReason
ERROR_REASON_INVALID_MODEL: ErrorReason
ERROR_REASON_MODEL_NOT_FOUND: ErrorReason
ERROR_REASON_UNSUPPORTED_GRADIENT: ErrorReason
ERROR_REASON_NOT_DIFFERENTIABLE: ErrorReason
ERROR_REASON_BACKEND_MISSING: ErrorReason
ERROR_REASON_LIMIT_EXCEEDED: ErrorReason
ERROR_REASON_RUN_FAILED: ErrorReason
ERROR_REASON_INVALID_PARAMETER: ErrorReason
ERROR_REASON_INVALID_MESSAGE: ErrorReason
ERROR_REASON_NOT_SUPPORTED: ErrorReason
ERROR_REASON_INTERNAL: ErrorReason
ERROR_REASON_SERVER_UNAVAILABLE: ErrorReason
ERROR_REASON_DEADLINE_EXCEEDED: ErrorReason
ERROR_REASON_CALL_CANCELLED: ErrorReason
