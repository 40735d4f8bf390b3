from gradserve.v1 import number_pb2 as _number_pb2
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
    __slots__ = ("scale", "scale_schedule", "layer", "unit", "neuron", "channel", "channel_energy", "layer_energy", "direction", "cotangent", "direction_neuron", "matching", "style", "caricature", "alignment", "diversity", "interpolated_channel", "l1", "l2", "total_variation", "boundary_complexity", "blur_input_each_step")
    SCALE_FIELD_NUMBER: _ClassVar[int]
    SCALE_SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    NEURON_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_ENERGY_FIELD_NUMBER: _ClassVar[int]
    LAYER_ENERGY_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    COTANGENT_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_NEURON_FIELD_NUMBER: _ClassVar[int]
    MATCHING_FIELD_NUMBER: _ClassVar[int]
    STYLE_FIELD_NUMBER: _ClassVar[int]
    CARICATURE_FIELD_NUMBER: _ClassVar[int]
    ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
    DIVERSITY_FIELD_NUMBER: _ClassVar[int]
    INTERPOLATED_CHANNEL_FIELD_NUMBER: _ClassVar[int]
    L1_FIELD_NUMBER: _ClassVar[int]
    L2_FIELD_NUMBER: _ClassVar[int]
    TOTAL_VARIATION_FIELD_NUMBER: _ClassVar[int]
    BOUNDARY_COMPLEXITY_FIELD_NUMBER: _ClassVar[int]
    BLUR_INPUT_EACH_STEP_FIELD_NUMBER: _ClassVar[int]
    scale: float
    scale_schedule: _number_pb2.Linear
    layer: str
    unit: Unit
    neuron: Neuron
    channel: Channel
    channel_energy: Channel
    layer_energy: LayerEnergy
    direction: Direction
    cotangent: Cotangent
    direction_neuron: DirectionNeuron
    matching: Matching
    style: Style
    caricature: Caricature
    alignment: BatchAlignment
    diversity: BatchDiversity
    interpolated_channel: InterpolatedChannel
    l1: L1
    l2: L2
    total_variation: TotalVariation
    boundary_complexity: BoundaryComplexity
    blur_input_each_step: BlurInputEachStep
    def __init__(self, scale: _Optional[float] = ..., scale_schedule: _Optional[_Union[_number_pb2.Linear, _Mapping]] = ..., layer: _Optional[str] = ..., unit: _Optional[_Union[Unit, _Mapping]] = ..., neuron: _Optional[_Union[Neuron, _Mapping]] = ..., channel: _Optional[_Union[Channel, _Mapping]] = ..., channel_energy: _Optional[_Union[Channel, _Mapping]] = ..., layer_energy: _Optional[_Union[LayerEnergy, _Mapping]] = ..., direction: _Optional[_Union[Direction, _Mapping]] = ..., cotangent: _Optional[_Union[Cotangent, _Mapping]] = ..., direction_neuron: _Optional[_Union[DirectionNeuron, _Mapping]] = ..., matching: _Optional[_Union[Matching, _Mapping]] = ..., style: _Optional[_Union[Style, _Mapping]] = ..., caricature: _Optional[_Union[Caricature, _Mapping]] = ..., alignment: _Optional[_Union[BatchAlignment, _Mapping]] = ..., diversity: _Optional[_Union[BatchDiversity, _Mapping]] = ..., interpolated_channel: _Optional[_Union[InterpolatedChannel, _Mapping]] = ..., l1: _Optional[_Union[L1, _Mapping]] = ..., l2: _Optional[_Union[L2, _Mapping]] = ..., total_variation: _Optional[_Union[TotalVariation, _Mapping]] = ..., boundary_complexity: _Optional[_Union[BoundaryComplexity, _Mapping]] = ..., blur_input_each_step: _Optional[_Union[BlurInputEachStep, _Mapping]] = ...) -> None: ...

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
    __slots__ = ("vector", "cosine_power", "axis")
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    COSINE_POWER_FIELD_NUMBER: _ClassVar[int]
    AXIS_FIELD_NUMBER: _ClassVar[int]
    vector: _tensor_pb2.Tensor
    cosine_power: float
    axis: int
    def __init__(self, vector: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., cosine_power: _Optional[float] = ..., axis: _Optional[int] = ...) -> None: ...

class Cotangent(_message.Message):
    __slots__ = ("array",)
    ARRAY_FIELD_NUMBER: _ClassVar[int]
    array: _tensor_pb2.Tensor
    def __init__(self, array: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class DirectionNeuron(_message.Message):
    __slots__ = ("vector", "position", "cosine_power", "axis")
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    COSINE_POWER_FIELD_NUMBER: _ClassVar[int]
    AXIS_FIELD_NUMBER: _ClassVar[int]
    vector: _tensor_pb2.Tensor
    position: _containers.RepeatedScalarFieldContainer[int]
    cosine_power: float
    axis: int
    def __init__(self, vector: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., position: _Optional[_Iterable[int]] = ..., cosine_power: _Optional[float] = ..., axis: _Optional[int] = ...) -> None: ...

class Matching(_message.Message):
    __slots__ = ("array",)
    ARRAY_FIELD_NUMBER: _ClassVar[int]
    array: _tensor_pb2.Tensor
    def __init__(self, array: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class Style(_message.Message):
    __slots__ = ("array", "axis")
    ARRAY_FIELD_NUMBER: _ClassVar[int]
    AXIS_FIELD_NUMBER: _ClassVar[int]
    array: _tensor_pb2.Tensor
    axis: int
    def __init__(self, array: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., axis: _Optional[int] = ...) -> None: ...

class Caricature(_message.Message):
    __slots__ = ("array", "cosine_power")
    ARRAY_FIELD_NUMBER: _ClassVar[int]
    COSINE_POWER_FIELD_NUMBER: _ClassVar[int]
    array: _tensor_pb2.Tensor
    cosine_power: float
    def __init__(self, array: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., cosine_power: _Optional[float] = ...) -> None: ...

class BatchAlignment(_message.Message):
    __slots__ = ("decay",)
    DECAY_FIELD_NUMBER: _ClassVar[int]
    decay: float
    def __init__(self, decay: _Optional[float] = ...) -> None: ...

class BatchDiversity(_message.Message):
    __slots__ = ("axis",)
    AXIS_FIELD_NUMBER: _ClassVar[int]
    axis: int
    def __init__(self, axis: _Optional[int] = ...) -> None: ...

class InterpolatedChannel(_message.Message):
    __slots__ = ("channel", "axis", "falling")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    AXIS_FIELD_NUMBER: _ClassVar[int]
    FALLING_FIELD_NUMBER: _ClassVar[int]
    channel: int
    axis: int
    falling: bool
    def __init__(self, channel: _Optional[int] = ..., axis: _Optional[int] = ..., falling: bool = ...) -> None: ...

class L1(_message.Message):
    __slots__ = ("constant",)
    CONSTANT_FIELD_NUMBER: _ClassVar[int]
    constant: float
    def __init__(self, constant: _Optional[float] = ...) -> None: ...

class L2(_message.Message):
    __slots__ = ("constant", "epsilon")
    CONSTANT_FIELD_NUMBER: _ClassVar[int]
    EPSILON_FIELD_NUMBER: _ClassVar[int]
    constant: float
    epsilon: float
    def __init__(self, constant: _Optional[float] = ..., epsilon: _Optional[float] = ...) -> None: ...

class TotalVariation(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BoundaryComplexity(_message.Message):
    __slots__ = ("width", "constant")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    CONSTANT_FIELD_NUMBER: _ClassVar[int]
    width: int
    constant: float
    def __init__(self, width: _Optional[int] = ..., constant: _Optional[float] = ...) -> None: ...

class BlurInputEachStep(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
