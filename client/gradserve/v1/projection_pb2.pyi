from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Projection(_message.Message):
    __slots__ = ("l_inf", "l2")
    L_INF_FIELD_NUMBER: _ClassVar[int]
    L2_FIELD_NUMBER: _ClassVar[int]
    l_inf: LInf
    l2: L2
    def __init__(self, l_inf: _Optional[_Union[LInf, _Mapping]] = ..., l2: _Optional[_Union[L2, _Mapping]] = ...) -> None: ...

class LInf(_message.Message):
    __slots__ = ("radius", "random_start")
    RADIUS_FIELD_NUMBER: _ClassVar[int]
    RANDOM_START_FIELD_NUMBER: _ClassVar[int]
    radius: float
    random_start: bool
    def __init__(self, radius: _Optional[float] = ..., random_start: bool = ...) -> None: ...

class L2(_message.Message):
    __slots__ = ("radius", "random_start")
    RADIUS_FIELD_NUMBER: _ClassVar[int]
    RANDOM_START_FIELD_NUMBER: _ClassVar[int]
    radius: float
    random_start: bool
    def __init__(self, radius: _Optional[float] = ..., random_start: bool = ...) -> None: ...
