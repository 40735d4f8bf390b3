"""Objectives: sums of scaled terms."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradserve.errors import InvalidObjective
from gradserve.numbers import Linear, Schedule
from gradserve.objectives.terms import Term

Scaled = tuple[Schedule, Term]


@dataclass(frozen=True, eq=False)
class Objective:
    """A sum of scaled terms. Objectives add, subtract and scale.

    In an ascent, a scale may change from the first step to the last: `Linear(0, 1) * O.layer("relu3")`.
    """

    terms: tuple[Scaled, ...]

    def __add__(self, other: "Objective") -> "Objective":
        return Objective(self.terms + other.terms) if isinstance(other, Objective) else NotImplemented

    def __mul__(self, factor: Schedule) -> "Objective":
        scales = [_product(scale, factor) for scale, _ in self.terms]
        if None in scales:
            return NotImplemented
        return replace(self, terms=tuple(zip(scales, (term for _, term in self.terms), strict=True)))

    __rmul__ = __mul__

    def __neg__(self) -> "Objective":
        return self * -1.0

    def __sub__(self, other: "Objective") -> "Objective":
        return self + -other if isinstance(other, Objective) else NotImplemented


def _product(scale: Schedule, factor: Any) -> Any:
    """None where it is neither a number nor a straight line."""
    if isinstance(scale, Linear) and isinstance(factor, Linear):
        return None
    if isinstance(factor, Linear):
        scale, factor = factor, scale
    if not isinstance(factor, (int, float, np.number)):
        return None
    if isinstance(scale, Linear):
        return Linear(scale.start * float(factor), scale.end * float(factor))
    return scale * float(factor)


_LARGEST = float(np.finfo(np.float32).max)


def terms_of(objective: Objective) -> tuple[Scaled, ...]:
    """The terms, checked.

    Raises:
        InvalidObjective: It has none, or a scale is zero or not finite.
    """
    if not isinstance(objective, Objective) or not objective.terms:
        msg = f"objective: expected one made by gradserve.objectives with at least one term, got {objective!r}"
        raise InvalidObjective(msg)
    for scale, term in objective.terms:
        ends = (scale.start, scale.end) if isinstance(scale, Linear) else (scale,)
        # At one of its ends, and only there, a scale that changes may be 0. Weights are float32.
        if not all(abs(end) <= _LARGEST for end in ends) or not any(np.float32(end) for end in ends):
            where = f" on '{term.layer}'" if term.layer else f", {type(term).__name__}"
            msg = f"objective{where}: expected a scale other than 0 that float32 holds, got {scale}"
            raise InvalidObjective(msg)
    return objective.terms
