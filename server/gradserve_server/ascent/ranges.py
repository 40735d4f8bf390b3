"""Settings that are numbers, in their ranges."""

import math
from typing import Any

import numpy as np

from gradserve.errors import InvalidAscent, TooLarge

LARGEST_COUNT = 2**32 - 1
"""What the wire has room for."""

LARGEST = float(np.finfo(np.float32).max)
"""Of an image's values."""


def whole(name: str, value: Any, low: int, high: int) -> int:
    """A whole number.

    Raises:
        InvalidAscent: Something else, or out of range.
    """
    if not isinstance(value, (int, np.integer)) or not low <= value <= high:
        msg = f"{name}: expected a whole number from {low} to {high}, got {value!r}"
        raise InvalidAscent(msg)
    return int(value)


def limited(name: str, value: int, most: int) -> int:
    """A number that the server limits.

    Raises:
        TooLarge: More than that.
    """
    if value > most:
        setting = {"steps": "max_steps", "count": "max_images"}[name]
        msg = f"{name}: expected at most {most} ({setting}) in an ascent, got {value}"
        raise TooLarge(msg)
    return value


def number(name: str, value: Any, low: float, high: float) -> float:
    """A finite number, both ends of its range included.

    Raises:
        InvalidAscent: Something else, or out of range.
    """
    try:
        given = float(value)
    except (TypeError, ValueError):
        given = math.nan
    if not (low <= given <= high and math.isfinite(given)):
        msg = f"{name}: expected a finite number from {low} to {high}, got {value!r}"
        raise InvalidAscent(msg)
    return given
