from gradserve.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Squash(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SQUASH_UNSPECIFIED: _ClassVar[Squash]
    SQUASH_CLIP: _ClassVar[Squash]
    SQUASH_SIGMOID: _ClassVar[Squash]
    SQUASH_TANH: _ClassVar[Squash]
SQUASH_UNSPECIFIED: Squash
SQUASH_CLIP: Squash
SQUASH_SIGMOID: Squash
SQUASH_TANH: Squash

class Parameterization(_message.Message):
    __slots__ = ("pixels", "fourier", "laplacian", "phases")
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    FOURIER_FIELD_NUMBER: _ClassVar[int]
    LAPLACIAN_FIELD_NUMBER: _ClassVar[int]
    PHASES_FIELD_NUMBER: _ClassVar[int]
    pixels: Pixels
    fourier: Fourier
    laplacian: Laplacian
    phases: Phases
    def __init__(self, pixels: _Optional[_Union[Pixels, _Mapping]] = ..., fourier: _Optional[_Union[Fourier, _Mapping]] = ..., laplacian: _Optional[_Union[Laplacian, _Mapping]] = ..., phases: _Optional[_Union[Phases, _Mapping]] = ...) -> None: ...

class Shared(_message.Message):
    __slots__ = ("images", "factor")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    FACTOR_FIELD_NUMBER: _ClassVar[int]
    images: int
    factor: int
    def __init__(self, images: _Optional[int] = ..., factor: _Optional[int] = ...) -> None: ...

class Alpha(_message.Message):
    __slots__ = ("background", "standard_deviation", "penalty")
    BACKGROUND_FIELD_NUMBER: _ClassVar[int]
    STANDARD_DEVIATION_FIELD_NUMBER: _ClassVar[int]
    PENALTY_FIELD_NUMBER: _ClassVar[int]
    background: float
    standard_deviation: float
    penalty: float
    def __init__(self, background: _Optional[float] = ..., standard_deviation: _Optional[float] = ..., penalty: _Optional[float] = ...) -> None: ...

class Pixels(_message.Message):
    __slots__ = ("squash", "colours")
    SQUASH_FIELD_NUMBER: _ClassVar[int]
    COLOURS_FIELD_NUMBER: _ClassVar[int]
    squash: Squash
    colours: _tensor_pb2.Tensor
    def __init__(self, squash: _Optional[_Union[Squash, str]] = ..., colours: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class Fourier(_message.Message):
    __slots__ = ("decay", "squash", "colours")
    DECAY_FIELD_NUMBER: _ClassVar[int]
    SQUASH_FIELD_NUMBER: _ClassVar[int]
    COLOURS_FIELD_NUMBER: _ClassVar[int]
    decay: float
    squash: Squash
    colours: _tensor_pb2.Tensor
    def __init__(self, decay: _Optional[float] = ..., squash: _Optional[_Union[Squash, str]] = ..., colours: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class Laplacian(_message.Message):
    __slots__ = ("levels", "squash", "colours")
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    SQUASH_FIELD_NUMBER: _ClassVar[int]
    COLOURS_FIELD_NUMBER: _ClassVar[int]
    levels: int
    squash: Squash
    colours: _tensor_pb2.Tensor
    def __init__(self, levels: _Optional[int] = ..., squash: _Optional[_Union[Squash, str]] = ..., colours: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class Phases(_message.Message):
    __slots__ = ("magnitude", "squash", "colours")
    MAGNITUDE_FIELD_NUMBER: _ClassVar[int]
    SQUASH_FIELD_NUMBER: _ClassVar[int]
    COLOURS_FIELD_NUMBER: _ClassVar[int]
    magnitude: _tensor_pb2.Tensor
    squash: Squash
    colours: _tensor_pb2.Tensor
    def __init__(self, magnitude: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., squash: _Optional[_Union[Squash, str]] = ..., colours: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...
