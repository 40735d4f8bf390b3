from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Regularizer(_message.Message):
    __slots__ = ("gaussian_blur", "small_norms", "small_contributions")
    GAUSSIAN_BLUR_FIELD_NUMBER: _ClassVar[int]
    SMALL_NORMS_FIELD_NUMBER: _ClassVar[int]
    SMALL_CONTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    gaussian_blur: GaussianBlur
    small_norms: SmallNorms
    small_contributions: SmallContributions
    def __init__(self, gaussian_blur: _Optional[_Union[GaussianBlur, _Mapping]] = ..., small_norms: _Optional[_Union[SmallNorms, _Mapping]] = ..., small_contributions: _Optional[_Union[SmallContributions, _Mapping]] = ...) -> None: ...

class GaussianBlur(_message.Message):
    __slots__ = ("radius", "every")
    RADIUS_FIELD_NUMBER: _ClassVar[int]
    EVERY_FIELD_NUMBER: _ClassVar[int]
    radius: float
    every: int
    def __init__(self, radius: _Optional[float] = ..., every: _Optional[int] = ...) -> None: ...

class SmallNorms(_message.Message):
    __slots__ = ("percentile",)
    PERCENTILE_FIELD_NUMBER: _ClassVar[int]
    percentile: float
    def __init__(self, percentile: _Optional[float] = ...) -> None: ...

class SmallContributions(_message.Message):
    __slots__ = ("percentile",)
    PERCENTILE_FIELD_NUMBER: _ClassVar[int]
    percentile: float
    def __init__(self, percentile: _Optional[float] = ...) -> None: ...
