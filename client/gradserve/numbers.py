"""Numbers that change from step to step (`Schedule`), or are drawn anew for each image in each step (`Spread`)."""

from dataclasses import dataclass

__all__ = ["Choice", "Linear", "Normal", "Schedule", "Spread", "Uniform", "scheduled"]


@dataclass(frozen=True)
class Linear:
    """From `start` at the first step to `end` at the last one, in a straight line."""

    start: float
    end: float


Schedule = float | Linear
"""A number, or how it changes."""


def scheduled(number: Schedule, progress: float) -> float:
    """A number that may change, after this share of the steps."""
    if isinstance(number, Linear):
        return number.start + (number.end - number.start) * progress
    return float(number)


@dataclass(frozen=True)
class Uniform:
    """Every number of [low, high) alike."""

    low: float
    high: float


@dataclass(frozen=True)
class Normal:
    """Around a mean, which may move."""

    mean: Schedule
    standard_deviation: float


@dataclass(frozen=True)
class Choice:
    """One of these, each alike; one that is there twice comes twice as often."""

    values: tuple[float, ...]


Spread = float | Uniform | Normal | Choice
"""A number, or how it is drawn."""
