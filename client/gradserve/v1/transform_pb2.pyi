from gradserve.v1 import number_pb2 as _number_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Border(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BORDER_UNSPECIFIED: _ClassVar[Border]
    BORDER_FILL: _ClassVar[Border]
    BORDER_WRAP: _ClassVar[Border]
    BORDER_EDGE: _ClassVar[Border]
    BORDER_REFLECT: _ClassVar[Border]

class Alignment(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ALIGNMENT_UNSPECIFIED: _ClassVar[Alignment]
    ALIGNMENT_HALF_PIXEL: _ClassVar[Alignment]
    ALIGNMENT_CORNERS: _ClassVar[Alignment]
    ALIGNMENT_ASYMMETRIC: _ClassVar[Alignment]

class JitterKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JITTER_KIND_UNSPECIFIED: _ClassVar[JitterKind]
    JITTER_KIND_ROLL: _ClassVar[JitterKind]
    JITTER_KIND_CROP: _ClassVar[JitterKind]
    JITTER_KIND_TRANSLATE: _ClassVar[JitterKind]
BORDER_UNSPECIFIED: Border
BORDER_FILL: Border
BORDER_WRAP: Border
BORDER_EDGE: Border
BORDER_REFLECT: Border
ALIGNMENT_UNSPECIFIED: Alignment
ALIGNMENT_HALF_PIXEL: Alignment
ALIGNMENT_CORNERS: Alignment
ALIGNMENT_ASYMMETRIC: Alignment
JITTER_KIND_UNSPECIFIED: JitterKind
JITTER_KIND_ROLL: JitterKind
JITTER_KIND_CROP: JitterKind
JITTER_KIND_TRANSLATE: JitterKind

class Transform(_message.Message):
    __slots__ = ("pad", "jitter", "scale", "rotate", "affine", "crop", "random_crop", "resize", "flip", "blur", "noisy")
    PAD_FIELD_NUMBER: _ClassVar[int]
    JITTER_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    ROTATE_FIELD_NUMBER: _ClassVar[int]
    AFFINE_FIELD_NUMBER: _ClassVar[int]
    CROP_FIELD_NUMBER: _ClassVar[int]
    RANDOM_CROP_FIELD_NUMBER: _ClassVar[int]
    RESIZE_FIELD_NUMBER: _ClassVar[int]
    FLIP_FIELD_NUMBER: _ClassVar[int]
    BLUR_FIELD_NUMBER: _ClassVar[int]
    NOISY_FIELD_NUMBER: _ClassVar[int]
    pad: Pad
    jitter: Jitter
    scale: Scale
    rotate: Rotate
    affine: Affine
    crop: Crop
    random_crop: RandomCrop
    resize: Resize
    flip: Flip
    blur: Blur
    noisy: Noisy
    def __init__(self, pad: _Optional[_Union[Pad, _Mapping]] = ..., jitter: _Optional[_Union[Jitter, _Mapping]] = ..., scale: _Optional[_Union[Scale, _Mapping]] = ..., rotate: _Optional[_Union[Rotate, _Mapping]] = ..., affine: _Optional[_Union[Affine, _Mapping]] = ..., crop: _Optional[_Union[Crop, _Mapping]] = ..., random_crop: _Optional[_Union[RandomCrop, _Mapping]] = ..., resize: _Optional[_Union[Resize, _Mapping]] = ..., flip: _Optional[_Union[Flip, _Mapping]] = ..., blur: _Optional[_Union[Blur, _Mapping]] = ..., noisy: _Optional[_Union[Noisy, _Mapping]] = ...) -> None: ...

class Pad(_message.Message):
    __slots__ = ("size", "border", "fill")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    BORDER_FIELD_NUMBER: _ClassVar[int]
    FILL_FIELD_NUMBER: _ClassVar[int]
    size: int
    border: Border
    fill: float
    def __init__(self, size: _Optional[int] = ..., border: _Optional[_Union[Border, str]] = ..., fill: _Optional[float] = ...) -> None: ...

class Jitter(_message.Message):
    __slots__ = ("size", "kind", "fill")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    FILL_FIELD_NUMBER: _ClassVar[int]
    size: int
    kind: JitterKind
    fill: float
    def __init__(self, size: _Optional[int] = ..., kind: _Optional[_Union[JitterKind, str]] = ..., fill: _Optional[float] = ...) -> None: ...

class Scale(_message.Message):
    __slots__ = ("factor", "alignment")
    FACTOR_FIELD_NUMBER: _ClassVar[int]
    ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
    factor: _number_pb2.Spread
    alignment: Alignment
    def __init__(self, factor: _Optional[_Union[_number_pb2.Spread, _Mapping]] = ..., alignment: _Optional[_Union[Alignment, str]] = ...) -> None: ...

class Rotate(_message.Message):
    __slots__ = ("degrees", "fill")
    DEGREES_FIELD_NUMBER: _ClassVar[int]
    FILL_FIELD_NUMBER: _ClassVar[int]
    degrees: _number_pb2.Spread
    fill: float
    def __init__(self, degrees: _Optional[_Union[_number_pb2.Spread, _Mapping]] = ..., fill: _Optional[float] = ...) -> None: ...

class Affine(_message.Message):
    __slots__ = ("scale", "shear", "degrees", "down", "right", "border", "fill")
    SCALE_FIELD_NUMBER: _ClassVar[int]
    SHEAR_FIELD_NUMBER: _ClassVar[int]
    DEGREES_FIELD_NUMBER: _ClassVar[int]
    DOWN_FIELD_NUMBER: _ClassVar[int]
    RIGHT_FIELD_NUMBER: _ClassVar[int]
    BORDER_FIELD_NUMBER: _ClassVar[int]
    FILL_FIELD_NUMBER: _ClassVar[int]
    scale: _number_pb2.Spread
    shear: _number_pb2.Spread
    degrees: _number_pb2.Spread
    down: _number_pb2.Spread
    right: _number_pb2.Spread
    border: Border
    fill: float
    def __init__(self, scale: _Optional[_Union[_number_pb2.Spread, _Mapping]] = ..., shear: _Optional[_Union[_number_pb2.Spread, _Mapping]] = ..., degrees: _Optional[_Union[_number_pb2.Spread, _Mapping]] = ..., down: _Optional[_Union[_number_pb2.Spread, _Mapping]] = ..., right: _Optional[_Union[_number_pb2.Spread, _Mapping]] = ..., border: _Optional[_Union[Border, str]] = ..., fill: _Optional[float] = ...) -> None: ...

class Crop(_message.Message):
    __slots__ = ("height", "width", "fill")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    FILL_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    fill: float
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., fill: _Optional[float] = ...) -> None: ...

class RandomCrop(_message.Message):
    __slots__ = ("size", "centre", "fill")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    CENTRE_FIELD_NUMBER: _ClassVar[int]
    FILL_FIELD_NUMBER: _ClassVar[int]
    size: _number_pb2.Spread
    centre: _number_pb2.Spread
    fill: float
    def __init__(self, size: _Optional[_Union[_number_pb2.Spread, _Mapping]] = ..., centre: _Optional[_Union[_number_pb2.Spread, _Mapping]] = ..., fill: _Optional[float] = ...) -> None: ...

class Resize(_message.Message):
    __slots__ = ("height", "width", "alignment")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    alignment: Alignment
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., alignment: _Optional[_Union[Alignment, str]] = ...) -> None: ...

class Flip(_message.Message):
    __slots__ = ("probability",)
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    probability: float
    def __init__(self, probability: _Optional[float] = ...) -> None: ...

class Blur(_message.Message):
    __slots__ = ("sigma", "radius", "border")
    SIGMA_FIELD_NUMBER: _ClassVar[int]
    RADIUS_FIELD_NUMBER: _ClassVar[int]
    BORDER_FIELD_NUMBER: _ClassVar[int]
    sigma: _number_pb2.Spread
    radius: int
    border: Border
    def __init__(self, sigma: _Optional[_Union[_number_pb2.Spread, _Mapping]] = ..., radius: _Optional[int] = ..., border: _Optional[_Union[Border, str]] = ...) -> None: ...

class Noisy(_message.Message):
    __slots__ = ("standard_deviation", "half_width")
    STANDARD_DEVIATION_FIELD_NUMBER: _ClassVar[int]
    HALF_WIDTH_FIELD_NUMBER: _ClassVar[int]
    standard_deviation: float
    half_width: float
    def __init__(self, standard_deviation: _Optional[float] = ..., half_width: _Optional[float] = ...) -> None: ...
