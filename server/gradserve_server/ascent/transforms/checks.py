"""Which transforms an ascent may have: their numbers, before anything is drawn."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from enum import StrEnum
from typing import Any, get_args, get_type_hints

from gradserve.errors import InvalidAscent
from gradserve.numbers import Choice, Linear, Normal, Spread, Uniform
from gradserve.transforms import Jitter, JitterKind, Noisy, Transform

MAX_TRANSFORMS = 64
"""Each costs time in each step."""

MAX_SIZE = 2**14
"""Pixels of a side, or of a frame."""

MAX_RADIUS = 256
"""Of a blur, in pixels."""

_WHOLE: Mapping[str, tuple[int, int]] = {
    "size": (0, MAX_SIZE),
    "height": (1, MAX_SIZE),
    "width": (1, MAX_SIZE),
    "radius": (0, MAX_RADIUS),
}
"""Fields that are whole numbers, and their ranges."""

_SHARES = ("probability", "standard_deviation", "half_width")
"""Fields that are numbers of 0 or more."""


def check_transforms(transforms: Sequence[Any], *, is_image: bool = True, what: str = "") -> None:
    """Makes sure that transforms are some, fit what they transform, and their numbers are finite and in range.

    Args:
        transforms: Whatever was given.
        is_image: Whether it has rows and columns: signals and volumes are only rolled, and get noise.
        what: The input, for the error.

    Raises:
        InvalidAscent: They are not.
    """
    if len(transforms) > MAX_TRANSFORMS:
        msg = f"transforms: expected at most {MAX_TRANSFORMS}, got {len(transforms)}"
        raise InvalidAscent(msg)
    known = get_args(Transform)
    for transform in transforms:
        if type(transform) not in known:
            names = ", ".join(kind.__name__ for kind in known)
            msg = f"transforms: expected each to be one of {names}, got {type(transform).__name__}"
            raise InvalidAscent(msg)
        rolls = isinstance(transform, Jitter) and transform.kind == JitterKind.ROLL
        if not (is_image or rolls or isinstance(transform, Noisy)):
            msg = f"transforms: expected Jitter(kind='roll') or Noisy, because {what}, got {transform}"
            raise InvalidAscent(msg)
        hints = get_type_hints(type(transform))
        for field in fields(transform):
            _check(f"transforms: {type(transform).__name__}.{field.name}", field.name, hints[field.name], transform)


def _check(where: str, name: str, hint: Any, transform: Any) -> None:
    value = getattr(transform, name)
    if hint == Spread:
        numbers = _numbers(value)
        if numbers and all(map(_finite, numbers)):
            return
        expected = "finite numbers, at least one"
    elif isinstance(hint, type) and issubclass(hint, StrEnum):
        if value in set(hint):
            return
        expected = f"one of {', '.join(hint)}"
    elif hint is int:
        low, high = _WHOLE[name]
        if isinstance(value, int) and low <= value <= high:
            return
        expected = f"a whole number from {low} to {high}"
    elif name in _SHARES:
        if _finite(value) and value >= 0:
            return
        expected = "a finite number of 0 or more"
    else:  # a colour
        if value is None or _finite(value):
            return
        expected = "a finite number"
    msg = f"{where}: expected {expected}, got {value!r}"
    raise InvalidAscent(msg)


def _numbers(spread: Any) -> Sequence[Any]:
    """All the numbers in it."""
    for kind, parts in _PARTS.items():
        if isinstance(spread, kind):
            return parts(spread)
    return (spread,)


_PARTS: Mapping[type[Any], Callable[[Any], Sequence[Any]]] = {
    Uniform: lambda uniform: (uniform.low, uniform.high),
    Normal: lambda normal: (*_numbers(normal.mean), normal.standard_deviation),
    Choice: lambda choice: choice.values,
    Linear: lambda linear: (linear.start, linear.end),
}


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
