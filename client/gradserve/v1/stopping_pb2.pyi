from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Keep(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KEEP_UNSPECIFIED: _ClassVar[Keep]
    KEEP_LAST: _ClassVar[Keep]
    KEEP_BEST: _ClassVar[Keep]
KEEP_UNSPECIFIED: Keep
KEEP_LAST: Keep
KEEP_BEST: Keep

class StopAt(_message.Message):
    __slots__ = ("value", "probability")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    value: Value
    probability: Probability
    def __init__(self, value: _Optional[_Union[Value, _Mapping]] = ..., probability: _Optional[_Union[Probability, _Mapping]] = ...) -> None: ...

class Value(_message.Message):
    __slots__ = ("at_least", "every")
    AT_LEAST_FIELD_NUMBER: _ClassVar[int]
    EVERY_FIELD_NUMBER: _ClassVar[int]
    at_least: float
    every: int
    def __init__(self, at_least: _Optional[float] = ..., every: _Optional[int] = ...) -> None: ...

class Probability(_message.Message):
    __slots__ = ("at_least", "layer", "index", "softmax", "every")
    AT_LEAST_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SOFTMAX_FIELD_NUMBER: _ClassVar[int]
    EVERY_FIELD_NUMBER: _ClassVar[int]
    at_least: float
    layer: str
    index: int
    softmax: bool
    every: int
    def __init__(self, at_least: _Optional[float] = ..., layer: _Optional[str] = ..., index: _Optional[int] = ..., softmax: bool = ..., every: _Optional[int] = ...) -> None: ...
