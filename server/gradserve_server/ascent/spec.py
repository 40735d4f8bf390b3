"""What an ascent was asked to do, checked against the model, with every default filled in."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

import numpy as np
import numpy.typing as npt

from gradserve import (
    Adam,
    AscentSettings,
    Checkpoint,
    GradientNormalization,
    Noise,
    TensorDescription,
)
from gradserve.errors import InvalidAscent, NotDifferentiable, TooLarge, UnknownInput
from gradserve.numbers import Linear, Schedule, scheduled
from gradserve.objectives import Penalty
from gradserve.optimizers import AdamW, Optimizer
from gradserve.parameterizations import Alpha, Parameterization, Pixels, Shared, Squash
from gradserve.projections import Projection
from gradserve.regularizers import Regularizer
from gradserve.stopping import Keep, StopAt
from gradserve.transforms import Transform
from gradserve.wire import check_settings
from gradserve_server.ascent.alpha import check_alpha
from gradserve_server.ascent.bounds import Bounds, checked_bounds
from gradserve_server.ascent.pixels import PixelSpace
from gradserve_server.ascent.projection import check_projection
from gradserve_server.ascent.ranges import LARGEST, LARGEST_COUNT, limited, number, whole
from gradserve_server.ascent.regularizers import check_regularizers
from gradserve_server.ascent.shared import check_shared
from gradserve_server.ascent.stopping import check_keep, check_stop_at
from gradserve_server.ascent.transforms.checks import check_transforms
from gradserve_server.ascent.transforms.draws import STEPS_DRAWN, stream
from gradserve_server.ascent.transforms.geometry import Range
from gradserve_server.config import EngineConfig
from gradserve_server.kernels import Ascender

NOISE, JITTER, BALL = range(3)
"""The streams of random numbers that each image has, beside those of its transforms."""


@dataclass(frozen=True, eq=False)
class AscentSpec:
    """An ascent, ready to run."""

    input: str
    """The model input that changes."""
    feeds: Mapping[str, npt.NDArray[Any]]
    """Every input of the model, each with `count` samples; that of `input` is a buffer yet to be filled."""
    pixels: PixelSpace
    """Of the model's input."""
    image: PixelSpace
    """Of what is made, which may have another size."""
    start: npt.NDArray[np.float32]
    """[count, C, H, W], within the bounds."""
    origin: float | Noise | npt.NDArray[np.float32]
    """What `start` was made of."""
    steps: int
    count: int
    jitter: int
    """Largest shift, each way."""
    seed: int
    optimizer: Optimizer
    parameterization: Parameterization
    transforms: tuple[Transform, ...]
    max_pixels: int
    """Of an image on its way through the transforms."""
    resample_each: bool
    gradient_normalization: GradientNormalization
    weight_decay: float
    regularizers: tuple[Regularizer, ...]
    bounds: Bounds
    """Lower and upper: numbers, or [C, H, W]."""
    projection: Projection | None
    shared: tuple[Shared, ...]
    alpha: Alpha | None
    stop_at: StopAt | None
    keep: Keep
    redirect_relu_steps: int
    report_every: int
    image_every: int
    checkpoint_every: int
    resume: Checkpoint | None
    """Where to go on; not checked yet."""
    penalties: tuple[tuple[Schedule, Penalty], ...] = ()
    """The terms of the objective that are of the image itself."""

    @property
    def is_transformed(self) -> bool:
        """Whether the model sees anything but the image as it is, in its size."""
        return bool(self.transforms or self.jitter)

    @property
    def is_steady(self) -> bool:
        """Whether an image has the same value in each step: as it is, over no drawn background, by constant penalties."""
        is_over_another = self.alpha is not None and self.alpha.background is None
        is_scheduled = any(isinstance(scale, Linear) for scale, _ in self.penalties)
        return not (self.is_transformed or is_over_another or is_scheduled)

    def progress(self, index: int) -> float:
        """The share of the steps that a step begins with: 0 at the first, 1 at the last, and after it."""
        return min(index / max(self.steps - 1, 1), 1.0)

    def learning_rate(self, index: int) -> float:
        """Of a step."""
        return scheduled(self.optimizer.learning_rate, self.progress(index))

    def offsets(self, first: int = 0) -> Iterator[npt.NDArray[np.int32] | None]:
        """The jitter of each step without end, [count, 2] (rows, columns); None where there is none.

        Args:
            first: The step to begin with. Each `STEPS_DRAWN` steps have a part of the stream of their own, so that it takes
                no longer to begin late.
        """
        if not self.jitter:
            yield from itertools.repeat(None)
        streams = [np.random.Philox(stream(self.seed, image, JITTER)) for image in range(self.count)]
        block, skip = divmod(first, STEPS_DRAWN)
        while True:
            generators = [np.random.Generator(stream.jumped(block)) for stream in streams]
            drawn = [g.integers(-self.jitter, self.jitter + 1, (STEPS_DRAWN, 2), np.int32) for g in generators]
            yield from np.stack(drawn, axis=1)[skip:]
            block, skip = block + 1, 0


def resolve(
    settings: AscentSettings,
    inputs: Sequence[TensorDescription],
    float_inputs: Sequence[str],
    limits: EngineConfig,
) -> AscentSpec:
    """Checks settings and fills in what they leave out.

    Args:
        settings: As the caller gave them.
        inputs: What the model takes.
        float_inputs: The inputs that can change.
        limits: How much one ascent may be.

    Raises:
        TooLarge: It asks for more steps, images or memory than that.
        InvalidAscent: A setting is out of its range, or does not fit the model.
        UnknownInput: The model has no such input.
        NotDifferentiable: The input is not of floats.
    """
    check_settings(settings)
    tensor = _changing_input(settings.get("input", ""), inputs, float_inputs)
    steps = limited("steps", whole("steps", settings.get("steps", 256), 1, LARGEST_COUNT), limits.max_steps)
    seed = whole("seed", settings.get("seed", 0), 0, 2**64 - 1)
    count = limited("count", whole("count", settings.get("count", 0) or 1, 1, LARGEST_COUNT), limits.max_images)
    pixels = PixelSpace(tensor.image, _sample_shape(tensor, settings.get("shape", ()), count, limits.max_ascent_mib))
    jitter = whole("jitter", settings.get("jitter", 0), 0, 2**15)
    image = _image_space(settings.get("image_size"), pixels, tensor.name, count, limits.max_ascent_mib)
    bounds = checked_bounds(settings.get("bounds"), tensor.image, image)
    transforms = tuple(settings.get("transforms", ()))
    check_transforms(transforms, is_image=pixels.is_image, what=f"input '{tensor.name}' is {pixels.spelled}")
    optimizer = _optimizer(settings.get("optimizer", Adam()))
    weight_decay = number("weight_decay", settings.get("weight_decay", 0.0), 0.0, 1.0)
    if isinstance(optimizer, AdamW) and weight_decay:
        msg = f"weight_decay: expected 0, because AdamW has its own, got {weight_decay:g}"
        raise InvalidAscent(msg)
    parameterization = _parameterization(settings.get("parameterization", Pixels()))
    origin = _origin(settings.get("start", Noise()))
    return AscentSpec(
        input=tensor.name,
        feeds=_feeds(tensor.name, settings.get("inputs", {}), inputs, pixels, count),
        pixels=pixels,
        image=image,
        start=_start(origin, bounds, image, [stream(seed, index, NOISE) for index in range(count)]),
        origin=origin,
        steps=steps,
        count=count,
        jitter=jitter,
        seed=seed,
        optimizer=optimizer,
        parameterization=parameterization,
        transforms=transforms,
        max_pixels=(limits.max_ascent_mib << 20) // (4 * count * pixels.planar_shape[0]),
        resample_each=bool(settings.get("resample_each", False)),
        gradient_normalization=_normalization(settings.get("gradient_normalization", GradientNormalization.NONE)),
        weight_decay=weight_decay,
        bounds=bounds,
        projection=(projection := check_projection(settings.get("projection"), parameterization)),
        shared=(shared := check_shared(settings.get("shared", ()), projection, image, count, limits.max_ascent_mib)),
        alpha=(alpha := check_alpha(settings.get("alpha"), projection)),
        regularizers=check_regularizers(settings.get("regularizers", ()), parameterization, shared, alpha),
        stop_at=check_stop_at(settings.get("stop_at")),
        keep=check_keep(settings.get("keep", Keep.LAST)),
        redirect_relu_steps=whole("redirect_relu_steps", settings.get("redirect_relu_steps", 0), 0, LARGEST_COUNT),
        report_every=whole("report_every", settings.get("report_every", 0) or 1, 1, LARGEST_COUNT),
        image_every=whole("image_every", settings.get("image_every", 0), 0, LARGEST_COUNT),
        checkpoint_every=whole("checkpoint_every", settings.get("checkpoint_every", 0), 0, LARGEST_COUNT),
        resume=_resume(settings.get("resume")),
    )


# ---- the model's side ------------------------------------------------------------------------------------------------


def _changing_input(name: str, inputs: Sequence[TensorDescription], float_inputs: Sequence[str]) -> TensorDescription:
    if not name and len(float_inputs) != 1:
        msg = f"input: expected one of {', '.join(map(repr, float_inputs)) or 'the float inputs (there are none)'}, got none"
        raise InvalidAscent(msg)
    name = name or float_inputs[0]
    for tensor in inputs:
        if tensor.name == name:
            if tensor.dtype != "float32":
                msg = f"input '{name}': expected float32 to ascend on, got {tensor.dtype}"
                raise NotDifferentiable(msg)
            return tensor
    msg = f"input '{name}': expected one of {', '.join(repr(tensor.name) for tensor in inputs)}"
    raise UnknownInput(msg)


def _sample_shape(tensor: TensorDescription, given: Sequence[int], count: int, max_mib: int) -> tuple[int, ...]:
    batch, *sizes = tensor.shape or (None,)
    if isinstance(batch, int) and batch != count:
        msg = f"count: expected {batch}, because input '{tensor.name}' has a fixed batch, got {count}"
        raise InvalidAscent(msg)
    known = [size if isinstance(size, int) else None for size in sizes]
    shape = tuple(given) or tuple(size or 0 for size in known)
    fits = len(shape) == len(known) and all(
        isinstance(size, (int, np.integer)) and size > 0 and expected in (None, size)
        for size, expected in zip(shape, known, strict=True)
    )
    if not fits:
        spelled = ",".join("?" if size is None else str(size) for size in known)
        msg = f"shape: expected [{spelled}] with every size given, for input '{tensor.name}', got {list(given)}"
        raise InvalidAscent(msg)
    _check_bytes("shape", count, shape, max_mib)
    return tuple(int(size) for size in shape)


def _check_bytes(name: str, count: int, shape: Sequence[int], max_mib: int) -> None:
    if count * math.prod(shape) * 4 > max_mib << 20:
        msg = f"{name}: expected at most {max_mib} MiB for all images (max_ascent_mib), got {count} of {list(shape)} float32"
        raise TooLarge(msg)


def _feeds(
    name: str,
    given: Mapping[str, npt.ArrayLike],
    inputs: Sequence[TensorDescription],
    pixels: PixelSpace,
    count: int,
) -> dict[str, npt.NDArray[Any]]:
    if name in given:
        msg = f"inputs: expected every input but '{name}', which changes; give its first value as `start`"
        raise InvalidAscent(msg)
    feeds: dict[str, npt.NDArray[Any]] = {name: np.empty((count, *pixels.model_shape), np.float32)}
    known = {tensor.name: tensor for tensor in inputs}
    for other, value in given.items():
        array = np.asarray(value)
        if array.dtype.kind in "OU":
            msg = f"inputs: expected numbers for '{other}' of a model to ascend on, got strings"
            raise InvalidAscent(msg)
        batched = other in known and bool(known[other].shape) and not isinstance(known[other].shape[0], int)
        feeds[other] = np.repeat(array, count, axis=0) if batched and array.shape[:1] == (1,) else array
    return feeds


def _image_space(given: tuple[int, int] | None, pixels: PixelSpace, name: str, count: int, max_mib: int) -> PixelSpace:
    if given is None:
        return pixels
    if not pixels.is_image:
        msg = f"image_size: expected none, because input '{name}' is {pixels.spelled}, got {list(given)}"
        raise InvalidAscent(msg)
    height, width = (whole("image_size", size, 1, 2**14) for size in given)
    channels = pixels.planar_shape[0]
    _check_bytes("image_size", count, (channels, height, width), max_mib)
    shape = (height, width, channels) if pixels.layout == "NHWC" else (channels, height, width)
    return replace(pixels, model_shape=shape)


# ---- the caller's side -----------------------------------------------------------------------------------------------


def _origin(start: float | Noise | npt.NDArray[Any]) -> float | Noise | npt.NDArray[np.float32]:
    if isinstance(start, Noise):
        return Noise(number("start: standard deviation", start.standard_deviation, 0.0, LARGEST))
    if np.ndim(start) == 0:
        return number("start", start, -LARGEST, LARGEST)
    return _start_image(start)


def _start(
    origin: float | Noise | npt.NDArray[np.float32],
    bounds: Bounds,
    pixels: PixelSpace,
    streams: Sequence[np.random.SeedSequence],
) -> npt.NDArray[np.float32]:
    shape = (len(streams), *pixels.planar_shape)
    if isinstance(origin, Noise):
        pixel_range = Range(*bounds)
        generators = [np.random.Generator(np.random.Philox(stream)) for stream in streams]
        image = np.stack([generator.standard_normal(shape[1:], np.float32) for generator in generators])
        image = image * np.float32(origin.standard_deviation * pixel_range.width) + np.float32(pixel_range.middle)
    elif isinstance(origin, float):
        image = np.full(shape, origin, np.float32)
    else:
        one, all_ = list(pixels.model_shape), [len(streams), *pixels.model_shape]
        if list(origin.shape) not in (one, all_):
            msg = f"start: expected an image of shape {one}, or {all_} for one each, got {list(origin.shape)}"
            raise InvalidAscent(msg)
        image = pixels.to_planar(np.broadcast_to(origin, (len(streams), *pixels.model_shape)))
    return np.ascontiguousarray(np.clip(image, *bounds), np.float32)


def _start_image(start: npt.ArrayLike) -> npt.NDArray[np.float32]:
    try:
        with np.errstate(over="ignore"):
            image = np.asarray(start, np.float32)
    except (TypeError, ValueError) as error:
        msg = "start: expected numbers, got an array of something else"
        raise InvalidAscent(msg) from error
    if not np.isfinite(image).all():
        msg = "start: expected finite values that float32 holds, got NaN or infinity"
        raise InvalidAscent(msg)
    return image


def _resume(checkpoint: Any) -> Checkpoint | None:
    if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
        msg = f"resume: expected a Checkpoint, got {type(checkpoint).__name__}"
        raise InvalidAscent(msg)
    return checkpoint


def _optimizer(optimizer: Any) -> Optimizer:
    known = get_args(Optimizer)
    if type(optimizer) not in known:
        msg = f"optimizer: expected one of {', '.join(kind.__name__ for kind in known)}, got {type(optimizer).__name__}"
        raise InvalidAscent(msg)
    rate = optimizer.learning_rate
    rates = (rate.start, rate.end) if isinstance(rate, Linear) else (rate,)
    for one in rates:
        # At its end, and only there, a rate may have come down to 0.
        if not isinstance(one, (int, float, np.number)) or not 0 <= one <= LARGEST or not any(rates):
            msg = f"learning_rate: expected a number above 0, got {rate}"
            raise InvalidAscent(msg)
    try:
        Ascender((1, 1, 1), rule=optimizer)
    except (TypeError, ValueError) as error:
        raise InvalidAscent(str(error)) from error
    return cast("Optimizer", optimizer)


def _parameterization(given: Any) -> Parameterization:
    known = get_args(Parameterization)
    if type(given) not in known:
        msg = f"parameterization: expected one of {', '.join(kind.__name__ for kind in known)}, got {type(given).__name__}"
        raise InvalidAscent(msg)
    try:
        Squash(given.squash)
    except ValueError:
        msg = f"squash: expected one of {', '.join(Squash)}, got {given.squash!r}"
        raise InvalidAscent(msg) from None
    return cast("Parameterization", given)


def _normalization(normalization: str) -> GradientNormalization:
    try:
        return GradientNormalization(normalization)
    except ValueError:
        msg = f"gradient_normalization: expected one of {', '.join(GradientNormalization)}, got {normalization!r}"
        raise InvalidAscent(msg) from None
