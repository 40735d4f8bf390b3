from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Projection(_message.Message):
    __slots__ = ("l_inf_ball", "l2_ball")
    L_INF_BALL_FIELD_NUMBER: _ClassVar[int]
    L2_BALL_FIELD_NUMBER: _ClassVar[int]
    l_inf_ball: LInfBall
    l2_ball: L2Ball
    def __init__(self, l_inf_ball: _Optional[_Union[LInfBall, _Mapping]] = ..., l2_ball: _Optional[_Union[L2Ball, _Mapping]] = ...) -> None: ...

class LInfBall(_message.Message):
    __slots__ = ("radius", "random_start")
    RADIUS_FIELD_NUMBER: _ClassVar[int]
    RANDOM_START_FIELD_NUMBER: _ClassVar[int]
    radius: float
    random_start: bool
    def __init__(self, radius: _Optional[float] = ..., random_start: bool = ...) -> None: ...

class L2Ball(_message.Message):
    __slots__ = ("radius", "random_start")
    RADIUS_FIELD_NUMBER: _ClassVar[int]
    RANDOM_START_FIELD_NUMBER: _ClassVar[int]
    radius: float
    random_start: bool
    def __init__(self, radius: _Optional[float] = ..., random_start: bool = ...) -> None: ...
