from gradserve.v1 import number_pb2 as _number_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Optimizer(_message.Message):
    __slots__ = ("sgd", "adam", "momentum", "rms_prop", "adam_w", "n_adam")
    SGD_FIELD_NUMBER: _ClassVar[int]
    ADAM_FIELD_NUMBER: _ClassVar[int]
    MOMENTUM_FIELD_NUMBER: _ClassVar[int]
    RMS_PROP_FIELD_NUMBER: _ClassVar[int]
    ADAM_W_FIELD_NUMBER: _ClassVar[int]
    N_ADAM_FIELD_NUMBER: _ClassVar[int]
    sgd: Sgd
    adam: Adam
    momentum: Momentum
    rms_prop: RmsProp
    adam_w: AdamW
    n_adam: NAdam
    def __init__(self, sgd: _Optional[_Union[Sgd, _Mapping]] = ..., adam: _Optional[_Union[Adam, _Mapping]] = ..., momentum: _Optional[_Union[Momentum, _Mapping]] = ..., rms_prop: _Optional[_Union[RmsProp, _Mapping]] = ..., adam_w: _Optional[_Union[AdamW, _Mapping]] = ..., n_adam: _Optional[_Union[NAdam, _Mapping]] = ...) -> None: ...

class Sgd(_message.Message):
    __slots__ = ("learning_rate",)
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    learning_rate: _number_pb2.Schedule
    def __init__(self, learning_rate: _Optional[_Union[_number_pb2.Schedule, _Mapping]] = ...) -> None: ...

class Momentum(_message.Message):
    __slots__ = ("learning_rate", "momentum", "nesterov")
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    MOMENTUM_FIELD_NUMBER: _ClassVar[int]
    NESTEROV_FIELD_NUMBER: _ClassVar[int]
    learning_rate: _number_pb2.Schedule
    momentum: float
    nesterov: bool
    def __init__(self, learning_rate: _Optional[_Union[_number_pb2.Schedule, _Mapping]] = ..., momentum: _Optional[float] = ..., nesterov: bool = ...) -> None: ...

class RmsProp(_message.Message):
    __slots__ = ("learning_rate", "decay", "epsilon")
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    DECAY_FIELD_NUMBER: _ClassVar[int]
    EPSILON_FIELD_NUMBER: _ClassVar[int]
    learning_rate: _number_pb2.Schedule
    decay: float
    epsilon: float
    def __init__(self, learning_rate: _Optional[_Union[_number_pb2.Schedule, _Mapping]] = ..., decay: _Optional[float] = ..., epsilon: _Optional[float] = ...) -> None: ...

class Adam(_message.Message):
    __slots__ = ("learning_rate", "beta1", "beta2", "epsilon", "epsilon_hat")
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    BETA1_FIELD_NUMBER: _ClassVar[int]
    BETA2_FIELD_NUMBER: _ClassVar[int]
    EPSILON_FIELD_NUMBER: _ClassVar[int]
    EPSILON_HAT_FIELD_NUMBER: _ClassVar[int]
    learning_rate: _number_pb2.Schedule
    beta1: float
    beta2: float
    epsilon: float
    epsilon_hat: bool
    def __init__(self, learning_rate: _Optional[_Union[_number_pb2.Schedule, _Mapping]] = ..., beta1: _Optional[float] = ..., beta2: _Optional[float] = ..., epsilon: _Optional[float] = ..., epsilon_hat: bool = ...) -> None: ...

class AdamW(_message.Message):
    __slots__ = ("learning_rate", "beta1", "beta2", "epsilon", "weight_decay")
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    BETA1_FIELD_NUMBER: _ClassVar[int]
    BETA2_FIELD_NUMBER: _ClassVar[int]
    EPSILON_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_DECAY_FIELD_NUMBER: _ClassVar[int]
    learning_rate: _number_pb2.Schedule
    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float
    def __init__(self, learning_rate: _Optional[_Union[_number_pb2.Schedule, _Mapping]] = ..., beta1: _Optional[float] = ..., beta2: _Optional[float] = ..., epsilon: _Optional[float] = ..., weight_decay: _Optional[float] = ...) -> None: ...

class NAdam(_message.Message):
    __slots__ = ("learning_rate", "beta1", "beta2", "epsilon", "momentum_decay")
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    BETA1_FIELD_NUMBER: _ClassVar[int]
    BETA2_FIELD_NUMBER: _ClassVar[int]
    EPSILON_FIELD_NUMBER: _ClassVar[int]
    MOMENTUM_DECAY_FIELD_NUMBER: _ClassVar[int]
    learning_rate: _number_pb2.Schedule
    beta1: float
    beta2: float
    epsilon: float
    momentum_decay: float
    def __init__(self, learning_rate: _Optional[_Union[_number_pb2.Schedule, _Mapping]] = ..., beta1: _Optional[float] = ..., beta2: _Optional[float] = ..., epsilon: _Optional[float] = ..., momentum_decay: _Optional[float] = ...) -> None: ...
