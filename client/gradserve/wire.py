"""Messages to and from values, both ways side by side: the client's requests are the server's inputs.

Sans I/O. Tensors are in `gradserve.tensors`. `x_to_wire` makes a message, `x_from_wire` reads one; what only one side can
know to be wrong (a layer that does not exist) is not checked here.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import numpy as np

from gradserve import mirror
from gradserve.ascents import AscentSettings, GradientNormalization, Noise, Step, StopReason
from gradserve.checkpoints import Checkpoint, checkpoint_from_wire, checkpoint_to_wire
from gradserve.descriptions import (
    Dimension,
    ImageDescription,
    Layer,
    ModelDescription,
    ModelState,
    ModelStatus,
    TensorDescription,
)
from gradserve.errors import InvalidAscent
from gradserve.objective_wire import objective_to_wire
from gradserve.objectives import Objective
from gradserve.optimizers import Optimizer
from gradserve.parameterizations import Alpha, Parameterization, Shared
from gradserve.projections import Projection
from gradserve.regularizers import Regularizer
from gradserve.stopping import Keep, StopAt
from gradserve.tensors import add_named, from_wire, named_from_wire, to_wire
from gradserve.transforms import Transform
from gradserve.v1 import gradient_service_pb2 as pb
from gradserve.v1 import model_service_pb2, parameterization_pb2, regularizer_pb2, transform_pb2

# ---- ascents ---------------------------------------------------------------------------------------------------------

_PLAIN_SETTINGS = (
    "input",
    "steps",
    "seed",
    "count",
    "weight_decay",
    "jitter",
    "report_every",
    "image_every",
    "checkpoint_every",
    "resample_each",
    "redirect_relu_steps",
)
_STOP_PREFIX = "STOP_REASON_"


def ascent_to_wire(model: str, objective: Objective, settings: AscentSettings) -> pb.AscendRequest:
    """An ascent wanted, as a message. Settings left out stay unset, but for `steps` (256).

    Raises:
        InvalidAscent: A setting that no message can hold.
    """
    check_settings(settings)
    request = pb.AscendRequest(
        model=pb.ModelRef(name=model, version=settings.get("version", "")),
        objective=objective_to_wire(objective),
        steps=256,
    )
    add_named(request.inputs, settings.get("inputs", {}))
    for name, value in cast("Mapping[str, Any]", settings).items():
        try:
            if name in _SETTING_TO_WIRE:
                _SETTING_TO_WIRE[name](request, value)
            elif name in _PLAIN_SETTINGS:
                setattr(request, name, value)
        except (TypeError, ValueError, IndexError) as error:
            kind = type(getattr(request, name)).__name__ if name in _PLAIN_SETTINGS else "what AscentSettings says,"
            msg = f"{name}: expected {kind} in the range of the wire, got {value!r}"
            raise InvalidAscent(msg) from error
    return request


def check_settings(settings: AscentSettings) -> None:
    """Makes sure that every setting exists.

    Raises:
        InvalidAscent: One does not.
    """
    for name in settings:
        if name not in AscentSettings.__annotations__:
            msg = f"{name}: expected one of the settings {', '.join(AscentSettings.__annotations__)}"
            raise InvalidAscent(msg)


def ascent_from_wire(request: pb.AscendRequest) -> AscentSettings:
    """The settings of a message; what is unset is left out.

    Raises:
        InvalidAscent: An unknown gradient normalization.
        InvalidTensor: A start image, an input or a checkpoint that cannot be read.
    """
    settings: dict[str, Any] = {
        name: getattr(request, name) for name in _PLAIN_SETTINGS if getattr(request, name) or name == "steps"
    }
    settings["version"] = request.model.version
    settings["inputs"] = named_from_wire(request.inputs)
    if request.shape:
        settings["shape"] = tuple(request.shape)
    match request.start.WhichOneof("kind"):
        case "constant":
            settings["start"] = request.start.constant
        case "noise":
            settings["start"] = Noise(request.start.noise.standard_deviation)
        case "image":
            settings["start"] = from_wire(request.start.image, what="start image")
    for name, read in _SETTING_FROM_WIRE.items():
        if request.HasField(name):
            settings[name] = read(getattr(request, name))
    if request.keep:
        settings["keep"] = mirror.read_enum(request, "keep", Keep)
    if request.transforms:
        settings["transforms"] = tuple(mirror.read_kind(Transform, transform) for transform in request.transforms)
    if request.regularizers:
        settings["regularizers"] = tuple(mirror.read_kind(Regularizer, one) for one in request.regularizers)
    if request.shared:
        settings["shared"] = tuple(mirror.read(Shared, shared) for shared in request.shared)
    if request.gradient_normalization:
        settings["gradient_normalization"] = mirror.read_enum(request, "gradient_normalization", GradientNormalization)
    return cast("AscentSettings", settings)


_PER_IMAGE = {"reached": np.bool_, "measured": np.float64, "dead": np.bool_, "image_indices": np.int64}
"""Fields of reports that have a number for each image, or are not there."""


def step_to_wire(step: Step) -> pb.AscendResponse:
    """A report as a message."""
    return pb.AscendResponse(
        index=step.index,
        values=step.values.tolist(),
        gradient_norms=step.gradient_norms.tolist(),
        image=None if step.image is None else to_wire(step.image),
        stop_reason=None if step.stop_reason is None else _STOP_PREFIX + step.stop_reason.name,
        checkpoint=None if step.checkpoint is None else checkpoint_to_wire(step.checkpoint),
        alpha=None if step.alpha is None else to_wire(step.alpha),
        **{name: array.tolist() for name in _PER_IMAGE if (array := getattr(step, name)) is not None},
    )


def step_from_wire(message: pb.AscendResponse) -> Step:
    """A message as a report."""
    known = message.stop_reason in pb.StopReason.values()  # a newer server may have reasons of its own
    reason = pb.StopReason.Name(message.stop_reason).removeprefix(_STOP_PREFIX) if message.stop_reason and known else None
    return Step(
        index=message.index,
        values=np.array(message.values),
        gradient_norms=np.array(message.gradient_norms),
        image=from_wire(message.image, what="image") if message.HasField("image") else None,
        stop_reason=None if reason is None else StopReason[reason],
        checkpoint=checkpoint_from_wire(message.checkpoint) if message.HasField("checkpoint") else None,
        alpha=from_wire(message.alpha, what="alpha") if message.HasField("alpha") else None,
        **{name: np.array(got, dtype) for name, dtype in _PER_IMAGE.items() if (got := getattr(message, name))},
    )


def _start_to_wire(start: Any) -> pb.Start:
    if isinstance(start, Noise):
        return pb.Start(noise=pb.Noise(standard_deviation=start.standard_deviation))
    if np.ndim(start) == 0:
        return pb.Start(constant=float(start))
    return pb.Start(image=to_wire(np.asarray(start, np.float32), what="start image"))


def _transform_to_wire(transform: Transform) -> transform_pb2.Transform:
    message = transform_pb2.Transform()
    mirror.fill_kind(message, transform)
    return message


def _regularizer_to_wire(regularizer: Regularizer) -> regularizer_pb2.Regularizer:
    message = regularizer_pb2.Regularizer()
    mirror.fill_kind(message, regularizer)
    return message


def _fill_alpha(message: Any, alpha: Alpha) -> None:
    message.SetInParent()
    mirror.fill(message, alpha)


def _shared_to_wire(shared: Shared) -> parameterization_pb2.Shared:
    message = parameterization_pb2.Shared()
    mirror.fill(message, shared)
    return message


def _bounds_to_wire(bounds: tuple[Any, Any] | None) -> pb.Bounds | None:
    if bounds is None:
        return None
    message = pb.Bounds()
    for name, bound in zip(("low", "high"), bounds, strict=True):
        if np.ndim(bound) == 0:
            setattr(message, name, bound)
        else:
            getattr(message, name + "s").CopyFrom(to_wire(np.asarray(bound, np.float32), what=f"bounds: {name}"))
    return message


def _bounds_from_wire(message: pb.Bounds) -> tuple[Any, Any]:
    low, high = (
        from_wire(getattr(message, name + "s"), what=f"bounds: {name}")
        if message.HasField(name + "s")
        else getattr(message, name)
        for name in ("low", "high")
    )
    return low, high


def _resume_to_wire(checkpoint: Checkpoint | None) -> Any:
    if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
        msg = f"resume: expected a Checkpoint, got {type(checkpoint).__name__}"
        raise InvalidAscent(msg)
    return None if checkpoint is None else checkpoint_to_wire(checkpoint)


_SETTING_TO_WIRE: dict[str, Callable[[pb.AscendRequest, Any], object]] = {
    "shape": lambda request, value: request.shape.extend(value),
    "start": lambda request, value: request.start.CopyFrom(_start_to_wire(value)),
    "optimizer": lambda request, value: mirror.fill_kind(request.optimizer, value),
    "parameterization": lambda request, value: mirror.fill_kind(request.parameterization, value),
    "projection": lambda request, value: None if value is None else mirror.fill_kind(request.projection, value),
    "stop_at": lambda request, value: None if value is None else mirror.fill_kind(request.stop_at, value),
    "shared": lambda request, value: request.shared.extend(map(_shared_to_wire, value)),
    "alpha": lambda request, value: None if value is None else _fill_alpha(request.alpha, value),
    "keep": lambda request, value: mirror.put_enum(request, "keep", Keep, value),
    "transforms": lambda request, value: request.transforms.extend(map(_transform_to_wire, value)),
    "regularizers": lambda request, value: request.regularizers.extend(map(_regularizer_to_wire, value)),
    "image_size": lambda request, value: request.image_size.MergeFrom(pb.ImageSize(height=value[0], width=value[1])),
    "gradient_normalization": lambda request, value: mirror.put_enum(
        request, "gradient_normalization", GradientNormalization, value
    ),
    "bounds": lambda request, value: request.MergeFrom(pb.AscendRequest(bounds=_bounds_to_wire(value))),
    "resume": lambda request, value: request.MergeFrom(pb.AscendRequest(resume=_resume_to_wire(value))),
}
"""Settings that are messages of their own; `_PLAIN_SETTINGS` are fields."""

_SETTING_FROM_WIRE: dict[str, Callable[[Any], Any]] = {
    "optimizer": partial(mirror.read_kind, Optimizer),
    "parameterization": partial(mirror.read_kind, Parameterization),
    "projection": partial(mirror.read_kind, Projection),
    "stop_at": partial(mirror.read_kind, StopAt),
    "alpha": partial(mirror.read, Alpha),
    "image_size": lambda size: (size.height, size.width),
    "bounds": _bounds_from_wire,
    "resume": checkpoint_from_wire,
}
"""The same back, where a message is there."""


# ---- descriptions ----------------------------------------------------------------------------------------------------


def _shape_to_wire(shape: tuple[Dimension, ...]) -> list[str]:
    return ["" if size is None else str(size) for size in shape]


def _shape_from_wire(shape: Any) -> tuple[Dimension, ...]:
    return tuple(int(size) if size.isdecimal() else size or None for size in shape)


def layer_to_wire(layer: Layer) -> model_service_pb2.Layer:
    """A layer as a message."""
    return model_service_pb2.Layer(**{**vars(layer), "shape": _shape_to_wire(layer.shape)})


def layer_from_wire(message: model_service_pb2.Layer) -> Layer:
    """A message as a layer."""
    return Layer(
        name=message.name,
        op=message.op,
        dtype=message.dtype,
        shape=_shape_from_wire(message.shape),
        differentiable=message.differentiable,
        reason=message.reason,
        backend=message.backend,
        backend_reason=message.backend_reason,
    )


def description_to_wire(description: ModelDescription) -> model_service_pb2.InspectResponse:
    """A model description as a message."""
    tensors = {side: [_tensor_to_wire(t) for t in getattr(description, side)] for side in ("inputs", "outputs")}
    return model_service_pb2.InspectResponse(**{**vars(description), **tensors})


def description_from_wire(message: model_service_pb2.InspectResponse) -> ModelDescription:
    """A message as a model description."""
    return ModelDescription(
        name=message.name,
        version=message.version,
        sha256=message.sha256,
        opset=message.opset,
        inputs=tuple(_tensor_from_wire(t) for t in message.inputs),
        outputs=tuple(_tensor_from_wire(t) for t in message.outputs),
        rewrites=tuple(message.rewrites),
        rewrite_error=message.rewrite_error,
        backend=message.backend,
        backend_reason=message.backend_reason,
    )


def status_to_wire(status: ModelStatus) -> model_service_pb2.ModelStatus:
    """What became of a version as a message."""
    state = model_service_pb2.ModelState.Value(_STATE + status.state)
    return model_service_pb2.ModelStatus(**vars(status) | {"state": state})


def status_from_wire(message: model_service_pb2.ModelStatus) -> ModelStatus:
    """The opposite of `status_to_wire`. A state that this client does not know is one that it knows nothing of."""
    names = {number: name for name, number in model_service_pb2.ModelState.items()}
    state = ModelState(names.get(message.state, _STATE + ModelState.UNKNOWN).removeprefix(_STATE))
    return ModelStatus(message.name, message.version, state, message.reason, message.memory_bytes)


_STATE = "MODEL_STATE_"


def _tensor_to_wire(tensor: TensorDescription) -> model_service_pb2.TensorDescription:
    image = None if tensor.image is None else model_service_pb2.InputDescription(**vars(tensor.image))
    return model_service_pb2.TensorDescription(**{**vars(tensor), "shape": _shape_to_wire(tensor.shape), "image": image})


def _tensor_from_wire(message: model_service_pb2.TensorDescription) -> TensorDescription:
    image = message.image
    return TensorDescription(
        name=message.name,
        dtype=message.dtype,
        shape=_shape_from_wire(message.shape),
        image=ImageDescription(
            layout=image.layout,
            channels=image.channels,
            low=image.low,
            high=image.high,
            mean=tuple(image.mean),
            std=tuple(image.std),
        )
        if message.HasField("image")
        else None,
        labels=tuple(message.labels),
    )
