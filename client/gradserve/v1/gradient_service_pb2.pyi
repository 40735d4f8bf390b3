from gradserve.v1 import checkpoint_pb2 as _checkpoint_pb2
from gradserve.v1 import objective_pb2 as _objective_pb2
from gradserve.v1 import optimizer_pb2 as _optimizer_pb2
from gradserve.v1 import parameterization_pb2 as _parameterization_pb2
from gradserve.v1 import projection_pb2 as _projection_pb2
from gradserve.v1 import regularizer_pb2 as _regularizer_pb2
from gradserve.v1 import stopping_pb2 as _stopping_pb2
from gradserve.v1 import tensor_pb2 as _tensor_pb2
from gradserve.v1 import transform_pb2 as _transform_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GradientNormalization(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GRADIENT_NORMALIZATION_UNSPECIFIED: _ClassVar[GradientNormalization]
    GRADIENT_NORMALIZATION_NONE: _ClassVar[GradientNormalization]
    GRADIENT_NORMALIZATION_STD: _ClassVar[GradientNormalization]
    GRADIENT_NORMALIZATION_RMS: _ClassVar[GradientNormalization]
    GRADIENT_NORMALIZATION_L2: _ClassVar[GradientNormalization]
    GRADIENT_NORMALIZATION_MEAN_ABS: _ClassVar[GradientNormalization]
    GRADIENT_NORMALIZATION_SIGN: _ClassVar[GradientNormalization]
    GRADIENT_NORMALIZATION_MIN_MAX: _ClassVar[GradientNormalization]

class StopReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STOP_REASON_UNSPECIFIED: _ClassVar[StopReason]
    STOP_REASON_FINISHED: _ClassVar[StopReason]
    STOP_REASON_NON_FINITE: _ClassVar[StopReason]
    STOP_REASON_INTERRUPTED: _ClassVar[StopReason]
    STOP_REASON_REACHED: _ClassVar[StopReason]
    STOP_REASON_DEAD: _ClassVar[StopReason]
GRADIENT_NORMALIZATION_UNSPECIFIED: GradientNormalization
GRADIENT_NORMALIZATION_NONE: GradientNormalization
GRADIENT_NORMALIZATION_STD: GradientNormalization
GRADIENT_NORMALIZATION_RMS: GradientNormalization
GRADIENT_NORMALIZATION_L2: GradientNormalization
GRADIENT_NORMALIZATION_MEAN_ABS: GradientNormalization
GRADIENT_NORMALIZATION_SIGN: GradientNormalization
GRADIENT_NORMALIZATION_MIN_MAX: GradientNormalization
STOP_REASON_UNSPECIFIED: StopReason
STOP_REASON_FINISHED: StopReason
STOP_REASON_NON_FINITE: StopReason
STOP_REASON_INTERRUPTED: StopReason
STOP_REASON_REACHED: StopReason
STOP_REASON_DEAD: StopReason

class ModelRef(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class InferRequest(_message.Message):
    __slots__ = ("model", "inputs", "outputs")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    inputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.NamedTensor]
    outputs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[_tensor_pb2.NamedTensor, _Mapping]]] = ..., outputs: _Optional[_Iterable[str]] = ...) -> None: ...

class InferResponse(_message.Message):
    __slots__ = ("outputs",)
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    outputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.NamedTensor]
    def __init__(self, outputs: _Optional[_Iterable[_Union[_tensor_pb2.NamedTensor, _Mapping]]] = ...) -> None: ...

class GradientRequest(_message.Message):
    __slots__ = ("model", "inputs", "objective", "wrt")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    WRT_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    inputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.NamedTensor]
    objective: _objective_pb2.Objective
    wrt: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[_tensor_pb2.NamedTensor, _Mapping]]] = ..., objective: _Optional[_Union[_objective_pb2.Objective, _Mapping]] = ..., wrt: _Optional[_Iterable[str]] = ...) -> None: ...

class GradientResponse(_message.Message):
    __slots__ = ("values", "gradients")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    values: _tensor_pb2.Tensor
    gradients: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.NamedTensor]
    def __init__(self, values: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., gradients: _Optional[_Iterable[_Union[_tensor_pb2.NamedTensor, _Mapping]]] = ...) -> None: ...

class VectorJacobianProductRequest(_message.Message):
    __slots__ = ("model", "inputs", "cotangents", "wrt")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    COTANGENTS_FIELD_NUMBER: _ClassVar[int]
    WRT_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    inputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.NamedTensor]
    cotangents: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.NamedTensor]
    wrt: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[_tensor_pb2.NamedTensor, _Mapping]]] = ..., cotangents: _Optional[_Iterable[_Union[_tensor_pb2.NamedTensor, _Mapping]]] = ..., wrt: _Optional[_Iterable[str]] = ...) -> None: ...

class VectorJacobianProductResponse(_message.Message):
    __slots__ = ("outputs", "gradients")
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    outputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.NamedTensor]
    gradients: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.NamedTensor]
    def __init__(self, outputs: _Optional[_Iterable[_Union[_tensor_pb2.NamedTensor, _Mapping]]] = ..., gradients: _Optional[_Iterable[_Union[_tensor_pb2.NamedTensor, _Mapping]]] = ...) -> None: ...

class JacobianVectorProductRequest(_message.Message):
    __slots__ = ("model", "inputs", "tangents", "outputs")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    TANGENTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    inputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.NamedTensor]
    tangents: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.NamedTensor]
    outputs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[_tensor_pb2.NamedTensor, _Mapping]]] = ..., tangents: _Optional[_Iterable[_Union[_tensor_pb2.NamedTensor, _Mapping]]] = ..., outputs: _Optional[_Iterable[str]] = ...) -> None: ...

class JacobianVectorProductResponse(_message.Message):
    __slots__ = ("outputs", "tangents")
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    TANGENTS_FIELD_NUMBER: _ClassVar[int]
    outputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.NamedTensor]
    tangents: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.NamedTensor]
    def __init__(self, outputs: _Optional[_Iterable[_Union[_tensor_pb2.NamedTensor, _Mapping]]] = ..., tangents: _Optional[_Iterable[_Union[_tensor_pb2.NamedTensor, _Mapping]]] = ...) -> None: ...

class HessianVectorProductRequest(_message.Message):
    __slots__ = ("model", "inputs", "objective", "tangents")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    TANGENTS_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    inputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.NamedTensor]
    objective: _objective_pb2.Objective
    tangents: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.NamedTensor]
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[_tensor_pb2.NamedTensor, _Mapping]]] = ..., objective: _Optional[_Union[_objective_pb2.Objective, _Mapping]] = ..., tangents: _Optional[_Iterable[_Union[_tensor_pb2.NamedTensor, _Mapping]]] = ...) -> None: ...

class HessianVectorProductResponse(_message.Message):
    __slots__ = ("values", "gradients", "products")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    PRODUCTS_FIELD_NUMBER: _ClassVar[int]
    values: _tensor_pb2.Tensor
    gradients: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.NamedTensor]
    products: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.NamedTensor]
    def __init__(self, values: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., gradients: _Optional[_Iterable[_Union[_tensor_pb2.NamedTensor, _Mapping]]] = ..., products: _Optional[_Iterable[_Union[_tensor_pb2.NamedTensor, _Mapping]]] = ...) -> None: ...

class ActivationsRequest(_message.Message):
    __slots__ = ("model", "inputs", "layers")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    inputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.NamedTensor]
    layers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[_tensor_pb2.NamedTensor, _Mapping]]] = ..., layers: _Optional[_Iterable[str]] = ...) -> None: ...

class ActivationsResponse(_message.Message):
    __slots__ = ("activations",)
    ACTIVATIONS_FIELD_NUMBER: _ClassVar[int]
    activations: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.NamedTensor]
    def __init__(self, activations: _Optional[_Iterable[_Union[_tensor_pb2.NamedTensor, _Mapping]]] = ...) -> None: ...

class AscendRequest(_message.Message):
    __slots__ = ("model", "objective", "input", "inputs", "steps", "seed", "count", "shape", "start", "optimizer", "gradient_normalization", "weight_decay", "jitter", "bounds", "report_every", "image_every", "resume", "checkpoint_every", "parameterization", "transforms", "resample_each", "image_size", "projection", "stop_at", "keep", "redirect_relu_steps", "alpha", "shared", "regularizers")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_NORMALIZATION_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_DECAY_FIELD_NUMBER: _ClassVar[int]
    JITTER_FIELD_NUMBER: _ClassVar[int]
    BOUNDS_FIELD_NUMBER: _ClassVar[int]
    REPORT_EVERY_FIELD_NUMBER: _ClassVar[int]
    IMAGE_EVERY_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_EVERY_FIELD_NUMBER: _ClassVar[int]
    PARAMETERIZATION_FIELD_NUMBER: _ClassVar[int]
    TRANSFORMS_FIELD_NUMBER: _ClassVar[int]
    RESAMPLE_EACH_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PROJECTION_FIELD_NUMBER: _ClassVar[int]
    STOP_AT_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    REDIRECT_RELU_STEPS_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    REGULARIZERS_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    objective: _objective_pb2.Objective
    input: str
    inputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.NamedTensor]
    steps: int
    seed: int
    count: int
    shape: _containers.RepeatedScalarFieldContainer[int]
    start: Start
    optimizer: _optimizer_pb2.Optimizer
    gradient_normalization: GradientNormalization
    weight_decay: float
    jitter: int
    bounds: Bounds
    report_every: int
    image_every: int
    resume: _checkpoint_pb2.Checkpoint
    checkpoint_every: int
    parameterization: _parameterization_pb2.Parameterization
    transforms: _containers.RepeatedCompositeFieldContainer[_transform_pb2.Transform]
    resample_each: bool
    image_size: ImageSize
    projection: _projection_pb2.Projection
    stop_at: _stopping_pb2.StopAt
    keep: _stopping_pb2.Keep
    redirect_relu_steps: int
    alpha: _parameterization_pb2.Alpha
    shared: _containers.RepeatedCompositeFieldContainer[_parameterization_pb2.Shared]
    regularizers: _containers.RepeatedCompositeFieldContainer[_regularizer_pb2.Regularizer]
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., objective: _Optional[_Union[_objective_pb2.Objective, _Mapping]] = ..., input: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[_tensor_pb2.NamedTensor, _Mapping]]] = ..., steps: _Optional[int] = ..., seed: _Optional[int] = ..., count: _Optional[int] = ..., shape: _Optional[_Iterable[int]] = ..., start: _Optional[_Union[Start, _Mapping]] = ..., optimizer: _Optional[_Union[_optimizer_pb2.Optimizer, _Mapping]] = ..., gradient_normalization: _Optional[_Union[GradientNormalization, str]] = ..., weight_decay: _Optional[float] = ..., jitter: _Optional[int] = ..., bounds: _Optional[_Union[Bounds, _Mapping]] = ..., report_every: _Optional[int] = ..., image_every: _Optional[int] = ..., resume: _Optional[_Union[_checkpoint_pb2.Checkpoint, _Mapping]] = ..., checkpoint_every: _Optional[int] = ..., parameterization: _Optional[_Union[_parameterization_pb2.Parameterization, _Mapping]] = ..., transforms: _Optional[_Iterable[_Union[_transform_pb2.Transform, _Mapping]]] = ..., resample_each: bool = ..., image_size: _Optional[_Union[ImageSize, _Mapping]] = ..., projection: _Optional[_Union[_projection_pb2.Projection, _Mapping]] = ..., stop_at: _Optional[_Union[_stopping_pb2.StopAt, _Mapping]] = ..., keep: _Optional[_Union[_stopping_pb2.Keep, str]] = ..., redirect_relu_steps: _Optional[int] = ..., alpha: _Optional[_Union[_parameterization_pb2.Alpha, _Mapping]] = ..., shared: _Optional[_Iterable[_Union[_parameterization_pb2.Shared, _Mapping]]] = ..., regularizers: _Optional[_Iterable[_Union[_regularizer_pb2.Regularizer, _Mapping]]] = ...) -> None: ...

class ImageSize(_message.Message):
    __slots__ = ("height", "width")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ...) -> None: ...

class Start(_message.Message):
    __slots__ = ("constant", "noise", "image")
    CONSTANT_FIELD_NUMBER: _ClassVar[int]
    NOISE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    constant: float
    noise: Noise
    image: _tensor_pb2.Tensor
    def __init__(self, constant: _Optional[float] = ..., noise: _Optional[_Union[Noise, _Mapping]] = ..., image: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class Noise(_message.Message):
    __slots__ = ("standard_deviation",)
    STANDARD_DEVIATION_FIELD_NUMBER: _ClassVar[int]
    standard_deviation: float
    def __init__(self, standard_deviation: _Optional[float] = ...) -> None: ...

class Bounds(_message.Message):
    __slots__ = ("low", "high", "lows", "highs")
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    LOWS_FIELD_NUMBER: _ClassVar[int]
    HIGHS_FIELD_NUMBER: _ClassVar[int]
    low: float
    high: float
    lows: _tensor_pb2.Tensor
    highs: _tensor_pb2.Tensor
    def __init__(self, low: _Optional[float] = ..., high: _Optional[float] = ..., lows: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., highs: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class AscendResponse(_message.Message):
    __slots__ = ("index", "values", "gradient_norms", "image", "stop_reason", "checkpoint", "reached", "measured", "dead", "image_indices", "alpha")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_NORMS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    STOP_REASON_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    REACHED_FIELD_NUMBER: _ClassVar[int]
    MEASURED_FIELD_NUMBER: _ClassVar[int]
    DEAD_FIELD_NUMBER: _ClassVar[int]
    IMAGE_INDICES_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    index: int
    values: _containers.RepeatedScalarFieldContainer[float]
    gradient_norms: _containers.RepeatedScalarFieldContainer[float]
    image: _tensor_pb2.Tensor
    stop_reason: StopReason
    checkpoint: _checkpoint_pb2.Checkpoint
    reached: _containers.RepeatedScalarFieldContainer[bool]
    measured: _containers.RepeatedScalarFieldContainer[float]
    dead: _containers.RepeatedScalarFieldContainer[bool]
    image_indices: _containers.RepeatedScalarFieldContainer[int]
    alpha: _tensor_pb2.Tensor
    def __init__(self, index: _Optional[int] = ..., values: _Optional[_Iterable[float]] = ..., gradient_norms: _Optional[_Iterable[float]] = ..., image: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., stop_reason: _Optional[_Union[StopReason, str]] = ..., checkpoint: _Optional[_Union[_checkpoint_pb2.Checkpoint, _Mapping]] = ..., reached: _Optional[_Iterable[bool]] = ..., measured: _Optional[_Iterable[float]] = ..., dead: _Optional[_Iterable[bool]] = ..., image_indices: _Optional[_Iterable[int]] = ..., alpha: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...
