"""What makes two ascents the same: everything that decides their steps, as text by name."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve import ModelDescription
from gradserve.objectives import Direction, Scaled
from gradserve.parameterizations import Pixels
from gradserve.stopping import Keep
from gradserve_server.ascent.spec import AscentSpec

_SAME_NAME = ("count", "seed", "optimizer", "gradient_normalization", "weight_decay", "jitter", "bounds")


def identity(
    spec: AscentSpec,
    model: ModelDescription,
    terms: Sequence[Scaled],
    feeds: Mapping[str, npt.NDArray[Any]],
) -> dict[str, str]:
    """The settings of an ascent that a checkpoint keeps.

    A setting added later is left out where it has its default: so older checkpoints still fit.

    Args:
        spec: What to do.
        model: With what.
        terms: The objective.
        feeds: Every input, as the model takes it.
    """
    described = {
        "model": model.name,
        "version": model.version,
        "sha256": model.sha256,
        "image description": spec.pixels.description,
        "objective": tuple(terms),
        "input": spec.input,
        "start": spec.origin,
        "shape": spec.pixels.model_shape,
    }
    described |= {name: getattr(spec, name) for name in _SAME_NAME if name not in described}
    described |= {name: value for name, (value, default) in _added(spec, terms).items() if value != default}
    described |= {f"inputs: {name}": array for name, array in feeds.items() if name != spec.input}
    return {name: text(value) for name, value in described.items()}


def _added(spec: AscentSpec, terms: Sequence[Scaled]) -> dict[str, tuple[Any, Any]]:
    """Settings that came later, with their defaults."""
    scheduled = any("Linear(" in text(numbers) for numbers in (spec.optimizer, spec.transforms, tuple(terms)))
    return {
        "parameterization": (text(spec.parameterization), text(Pixels())),
        "transforms": (spec.transforms, ()),
        "regularizers": (spec.regularizers, ()),
        "projection": (spec.projection, None),
        "shared": (spec.shared, ()),
        "alpha": (spec.alpha, None),
        "stop_at": (spec.stop_at, None),
        "keep": (spec.keep, Keep.LAST),
        "redirect_relu_steps": (spec.redirect_relu_steps, 0),
        "resample_each": (spec.resample_each, False),
        "image_size": (spec.image.model_shape, spec.pixels.model_shape),
        # How far a number has come depends on them.
        "steps": (spec.steps if scheduled else None, None),
    }


_LATER_FIELDS: Mapping[type[Any], tuple[str, ...]] = {Direction: ("cosine_power", "axis")}
"""Fields that came later than their dataclass, left out where they have their defaults."""


def text(value: Any) -> str:
    """A value as text: equal for equal values, and short; 1 and 1.0 are equal, and an array is told by its bytes."""
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).view(np.uint8).data)
        return f"{value.dtype.name} {list(value.shape)} sha256 {digest.hexdigest()}"
    if is_dataclass(value):
        later = _LATER_FIELDS.get(type(value), ())
        told = [field for field in fields(value) if field.name not in later or getattr(value, field.name) != field.default]
        inside = ", ".join(f"{field.name}={text(getattr(value, field.name))}" for field in told)
        return f"{type(value).__name__}({inside})"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(text, value))})"
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return str(int(number)) if number.is_integer() else repr(number)
    return str(value)
