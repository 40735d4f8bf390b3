from gradserve.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Objective(_message.Message):
    __slots__ = ("terms",)
    TERMS_FIELD_NUMBER: _ClassVar[int]
    terms: _containers.RepeatedCompositeFieldContainer[Term]
    def __init__(self, terms: _Optional[_Iterable[_Union[Term, _Mapping]]] = ...) -> None: ...

class Term(_message.Message):
    __slots__ = ("scale", "layer", "unit", "neuron", "channel", "channel_energy", "layer_energy", "direction", "cotangent")
    SCALE_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    NEURON_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_ENERGY_FIELD_NUMBER: _ClassVar[int]
    LAYER_ENERGY_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    COTANGENT_FIELD_NUMBER: _ClassVar[int]
    scale: float
    layer: str
    unit: Unit
    neuron: Neuron
    channel: Channel
    channel_energy: Channel
    layer_energy: LayerEnergy
    direction: Direction
    cotangent: Cotangent
    def __init__(self, scale: _Optional[float] = ..., layer: _Optional[str] = ..., unit: _Optional[_Union[Unit, _Mapping]] = ..., neuron: _Optional[_Union[Neuron, _Mapping]] = ..., channel: _Optional[_Union[Channel, _Mapping]] = ..., channel_energy: _Optional[_Union[Channel, _Mapping]] = ..., layer_energy: _Optional[_Union[LayerEnergy, _Mapping]] = ..., direction: _Optional[_Union[Direction, _Mapping]] = ..., cotangent: _Optional[_Union[Cotangent, _Mapping]] = ...) -> None: ...

class Unit(_message.Message):
    __slots__ = ("index",)
    INDEX_FIELD_NUMBER: _ClassVar[int]
    index: int
    def __init__(self, index: _Optional[int] = ...) -> None: ...

class Neuron(_message.Message):
    __slots__ = ("channel", "position")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    channel: int
    position: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, channel: _Optional[int] = ..., position: _Optional[_Iterable[int]] = ...) -> None: ...

class Channel(_message.Message):
    __slots__ = ("channel", "axis")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    AXIS_FIELD_NUMBER: _ClassVar[int]
    channel: int
    axis: int
    def __init__(self, channel: _Optional[int] = ..., axis: _Optional[int] = ...) -> None: ...

class LayerEnergy(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Direction(_message.Message):
    __slots__ = ("vector",)
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    vector: _tensor_pb2.Tensor
    def __init__(self, vector: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class Cotangent(_message.Message):
    __slots__ = ("tensor",)
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    tensor: _tensor_pb2.Tensor
    def __init__(self, tensor: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...
