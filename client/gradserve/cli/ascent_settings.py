"""From the options of an ascent to its settings."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from gradserve import (
    Adam,
    AdamW,
    AscentSettings,
    ImageDescription,
    ModelDescription,
    Momentum,
    NAdam,
    Noise,
    RmsProp,
    Sgd,
    TensorDescription,
    images,
    outputs,
    presets,
)
from gradserve.cli import inputs
from gradserve.errors import InvalidTensor
from gradserve.parameterizations import IMAGENET_COLOURS, Alpha, Fourier, Laplacian, Pixels
from gradserve.projections import L2Ball, LInfBall, Projection
from gradserve.regularizers import Regularizer, SmallContributions, SmallNorms
from gradserve.stopping import Probability, Value

OPTIMIZERS = {
    "adam": Adam,
    "adamw": AdamW,
    "momentum": Momentum,
    "nadam": NAdam,
    "rmsprop": RmsProp,
    "sgd": Sgd,
}
PARAMETERIZATIONS = {"pixels": Pixels, "fourier": Fourier, "laplacian": Laplacian}
PROJECTIONS: Mapping[str, Callable[[float], Projection]] = {"linf": LInfBall, "l2": L2Ball}

PRESETS = ("lucid", "yosinski-2", "yosinski-3")

_OVER_A_PRESET = {
    "parameterization": ("parameterization",),
    "start": ("start", "noise"),
    "optimizer": ("optimizer", "learning_rate"),
    "redirect_relu_steps": ("redirect_relu_steps",),
    "weight_decay": ("weight_decay",),
    "regularizers": ("blur_every", "small_norms", "small_contributions"),
}
"""Settings of a preset, and the options that say otherwise where they are given."""

_BELONGS_TO = {"random_start": "projection", "alpha_penalty": "alpha"}
"""Options that mean nothing without another."""

_IMAGE_RANK = 4
_PLAIN = (
    *("steps", "seed", "count", "shape", "weight_decay", "jitter", "keep", "redirect_relu_steps"),
    *("report_every", "image_every"),
)
"""Options that are settings of the same name."""


def read(arguments: argparse.Namespace, description: ModelDescription, tensor: TensorDescription) -> AscentSettings:
    """The settings that the options name, of an ascent on that input; of a preset, what no other option names."""
    _check_pairs(arguments)
    given = vars(arguments)
    settings: Any = {name: given[name] for name in _PLAIN if given[name] is not None}
    settings |= {
        "version": arguments.model_version,
        "input": tensor.name,
        "inputs": inputs.read(description, [], arguments.input).arrays,
        "start": _start_image(arguments, tensor),
        "optimizer": OPTIMIZERS[arguments.optimizer](learning_rate=arguments.learning_rate),
        "gradient_normalization": arguments.gradient_normalization,
        "checkpoint_every": arguments.checkpoint_every if arguments.checkpoint or arguments.resume else 0,
    }
    if arguments.projection:
        settings["projection"] = replace(arguments.projection, random_start=arguments.random_start)
    if arguments.stop_at is not None:
        settings["stop_at"] = Value(arguments.stop_at)
    if arguments.until_probability is not None:
        settings["stop_at"] = Probability(arguments.until_probability)
    if regularizers := _regularizers(arguments):
        settings["regularizers"] = regularizers
    if arguments.shared:
        settings["shared"] = tuple(arguments.shared)
    if arguments.alpha:
        settings["alpha"] = Alpha(penalty=arguments.alpha_penalty)
    if arguments.bounds:
        settings["bounds"] = tuple(arguments.bounds)
    channels, *size = _picture_shape(tensor)
    if arguments.parameterization != "pixels":
        colours = IMAGENET_COLOURS if channels == len(IMAGENET_COLOURS) else ()
        settings["parameterization"] = PARAMETERIZATIONS[arguments.parameterization](colours=colours)
    if arguments.preset:
        height, width = given_size(arguments, tensor) or size
        settings = _with_preset(arguments, _preset(arguments.preset, height, width, channels, tensor), settings)
    return cast("AscentSettings", settings)


def _check_pairs(arguments: argparse.Namespace) -> None:
    """Makes sure that what belongs to another option has it; else the process ends with wrong usage."""
    for name, other in _BELONGS_TO.items():
        if getattr(arguments, name) and not getattr(arguments, other):
            arguments.wrong(f"--{name.replace('_', '-')}: expected --{other} beside it, got none")


def _regularizers(arguments: argparse.Namespace) -> tuple[Regularizer, ...]:
    """In the order of Yosinski's toolbox."""
    small = {SmallNorms: arguments.small_norms, SmallContributions: arguments.small_contributions}
    blurs = () if arguments.blur_every is None else (arguments.blur_every,)
    return (*blurs, *(kind(percentile) for kind, percentile in small.items() if percentile is not None))


def _preset(name: str, height: int, width: int, channels: int, tensor: TensorDescription) -> AscentSettings:
    kind, _, row = name.partition("-")
    if kind == "lucid":
        return presets.lucid(height, width, channels)
    image = tensor.image
    return presets.yosinski(int(row), 255.0 if image is None else image.high - image.low)


def _with_preset(arguments: argparse.Namespace, preset: Any, settings: Any) -> Any:
    """The settings of a preset beside the others, and over it what options say that are given."""

    def is_given(option: str) -> bool:
        return bool(getattr(arguments, option) != arguments.default_of(option))

    named = {name: settings[name] for name, options in _OVER_A_PRESET.items() if any(map(is_given, options))}
    if "optimizer" in named and not is_given("optimizer"):
        named["optimizer"] = replace(preset["optimizer"], learning_rate=arguments.learning_rate)
    return {**settings, **preset, "steps": arguments.steps, **named}


def photographed(arguments: argparse.Namespace, description: ModelDescription) -> tuple[TensorDescription, ImageDescription]:
    """The input that takes the photograph, and how; after the files to write are checked for it.

    Raises:
        InvalidTensor: It has no image description, or an output does not go with it.
    """
    tensor = description.changing_input(arguments.wrt)
    if tensor.image is None:
        msg = f"--image: expected an input with an image description, got '{tensor.name}' without one"
        raise InvalidTensor(msg)
    for path in arguments.output:
        outputs.check(path, tensor)
    return tensor, tensor.image


def _start_image(arguments: argparse.Namespace, tensor: TensorDescription) -> float | Noise | npt.NDArray[np.float32]:
    match arguments.start:
        case Path() as path:
            if tensor.image is None:
                msg = f"--start: expected an input with an image description, got '{tensor.name}' without one"
                raise InvalidTensor(msg)
            return images.load(path, tensor.image, images.picture_size(tensor) or given_size(arguments, tensor))
        case float(constant):
            return constant
        case "mean":
            return _mean(arguments, tensor)
        case _:
            return Noise(arguments.noise)


def _mean(arguments: argparse.Namespace, tensor: TensorDescription) -> float | npt.NDArray[np.float32]:
    """The pixels that are a model input of zeros."""
    if tensor.image is None or len(tensor.image.mean) == 1:
        return tensor.image.mean[0] if tensor.image is not None else 0.0
    shape = [size for size in arguments.shape or tensor.shape[1:] if isinstance(size, int)]
    if len(shape) != len(tensor.shape) - 1:
        msg = (
            f"--start mean: expected the size of an image in --shape, because input '{tensor.name}' leaves it open, got none"
        )
        raise InvalidTensor(msg)
    mean, axis = np.asarray(tensor.image.mean, np.float32), -1 if tensor.image.layout == "NHWC" else 0
    return np.moveaxis(np.broadcast_to(mean, [*np.delete(shape, axis), len(mean)]), -1, axis)


def _picture_shape(tensor: TensorDescription) -> tuple[int, int, int]:
    """Channels, height and width; 0 for what the model leaves open or does not have."""
    sizes = [size if isinstance(size, int) else 0 for size in tensor.shape[1:]]
    if len(sizes) != _IMAGE_RANK - 1:
        return 0, 0, 0
    first, second, third = sizes
    return (third, first, second) if tensor.image and tensor.image.layout == "NHWC" else (first, second, third)


def given_size(arguments: argparse.Namespace, tensor: TensorDescription) -> tuple[int, int] | None:
    """The height and width in `--shape`."""
    match arguments.shape, tensor.image and tensor.image.layout:
        case [height, width, _], "NHWC":
            return height, width
        case [_, height, width], _:
            return height, width
    return None
