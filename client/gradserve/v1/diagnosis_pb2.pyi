from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Severity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEVERITY_UNSPECIFIED: _ClassVar[Severity]
    SEVERITY_ERROR: _ClassVar[Severity]
    SEVERITY_WARNING: _ClassVar[Severity]
    SEVERITY_INFO: _ClassVar[Severity]
SEVERITY_UNSPECIFIED: Severity
SEVERITY_ERROR: Severity
SEVERITY_WARNING: Severity
SEVERITY_INFO: Severity

class Finding(_message.Message):
    __slots__ = ("code", "severity", "node", "effect", "detail", "repair")
    CODE_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    REPAIR_FIELD_NUMBER: _ClassVar[int]
    code: str
    severity: Severity
    node: str
    effect: str
    detail: str
    repair: str
    def __init__(self, code: _Optional[str] = ..., severity: _Optional[_Union[Severity, str]] = ..., node: _Optional[str] = ..., effect: _Optional[str] = ..., detail: _Optional[str] = ..., repair: _Optional[str] = ...) -> None: ...

class ChannelStatistics(_message.Message):
    __slots__ = ("node", "channels", "running_mean", "running_variance", "observed_mean", "observed_variance", "conflict")
    NODE_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_MEAN_FIELD_NUMBER: _ClassVar[int]
    RUNNING_VARIANCE_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_MEAN_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_VARIANCE_FIELD_NUMBER: _ClassVar[int]
    CONFLICT_FIELD_NUMBER: _ClassVar[int]
    node: str
    channels: _containers.RepeatedScalarFieldContainer[int]
    running_mean: _containers.RepeatedScalarFieldContainer[float]
    running_variance: _containers.RepeatedScalarFieldContainer[float]
    observed_mean: _containers.RepeatedScalarFieldContainer[float]
    observed_variance: _containers.RepeatedScalarFieldContainer[float]
    conflict: float
    def __init__(self, node: _Optional[str] = ..., channels: _Optional[_Iterable[int]] = ..., running_mean: _Optional[_Iterable[float]] = ..., running_variance: _Optional[_Iterable[float]] = ..., observed_mean: _Optional[_Iterable[float]] = ..., observed_variance: _Optional[_Iterable[float]] = ..., conflict: _Optional[float] = ...) -> None: ...

class Activity(_message.Message):
    __slots__ = ("node", "units", "dead", "zero")
    NODE_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    DEAD_FIELD_NUMBER: _ClassVar[int]
    ZERO_FIELD_NUMBER: _ClassVar[int]
    node: str
    units: int
    dead: float
    zero: float
    def __init__(self, node: _Optional[str] = ..., units: _Optional[int] = ..., dead: _Optional[float] = ..., zero: _Optional[float] = ...) -> None: ...

class Diagnosis(_message.Message):
    __slots__ = ("model", "version", "sha256", "samples", "given", "findings", "statistics", "activity", "notes")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    GIVEN_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    ACTIVITY_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    sha256: str
    samples: int
    given: bool
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    statistics: _containers.RepeatedCompositeFieldContainer[ChannelStatistics]
    activity: _containers.RepeatedCompositeFieldContainer[Activity]
    notes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., sha256: _Optional[str] = ..., samples: _Optional[int] = ..., given: bool = ..., findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ..., statistics: _Optional[_Iterable[_Union[ChannelStatistics, _Mapping]]] = ..., activity: _Optional[_Iterable[_Union[Activity, _Mapping]]] = ..., notes: _Optional[_Iterable[str]] = ...) -> None: ...
