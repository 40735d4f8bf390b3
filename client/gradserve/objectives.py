"""What to differentiate: `from gradserve import objectives as O`, then `O.unit("logits", 7) - 0.5 * O.channel("relu3", 4)`.

An objective is a sum of scaled terms; each term is one scalar per sample, read from one layer. `A[n]` below is the value of
the layer for sample n, axis 1 of the layer is its channel axis, and every index is 0-based.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve.errors import InvalidObjective

__all__ = [
    "Channel",
    "ChannelEnergy",
    "Cotangent",
    "Direction",
    "LayerEnergy",
    "Neuron",
    "Objective",
    "Term",
    "Unit",
    "channel",
    "channel_energy",
    "cotangent",
    "direction",
    "layer",
    "neuron",
    "parse",
    "terms_of",
    "unit",
]


@dataclass(frozen=True, eq=False)
class Term:
    """One scalar per sample, read from one layer."""

    layer: str
    """The layer's tensor name."""


@dataclass(frozen=True, eq=False)
class Unit(Term):
    """`A[n].ravel()[index]`."""

    index: int


@dataclass(frozen=True, eq=False)
class Neuron(Term):
    """`A[n, channel, *position]`; an empty position is the centre, size // 2 (as in Lucid)."""

    channel: int
    position: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Channel(Term):
    """Mean of the channel's values."""

    channel: int
    axis: int = 1


@dataclass(frozen=True, eq=False)
class ChannelEnergy(Term):
    """Sum of the squares of the channel's values."""

    channel: int
    axis: int = 1


@dataclass(frozen=True, eq=False)
class LayerEnergy(Term):
    """Mean of the squares of all values."""


@dataclass(frozen=True, eq=False)
class Direction(Term):
    """Mean over positions of `<A[n, :, position], vector>`."""

    vector: npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Cotangent(Term):
    """`<A[n], array[n]>`."""

    array: npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Objective:
    """A sum of scaled terms. Objectives add, subtract and scale."""

    terms: tuple[tuple[float, Term], ...]

    def __add__(self, other: "Objective") -> "Objective":
        return Objective(self.terms + other.terms) if isinstance(other, Objective) else NotImplemented

    def __mul__(self, factor: float) -> "Objective":
        if not isinstance(factor, (int, float, np.number)):
            return NotImplemented
        return replace(self, terms=tuple((scale * float(factor), term) for scale, term in self.terms))

    __rmul__ = __mul__

    def __neg__(self) -> "Objective":
        return self * -1.0

    def __sub__(self, other: "Objective") -> "Objective":
        return self + -other if isinstance(other, Objective) else NotImplemented


def _one(term: Term) -> Objective:
    return Objective(((1.0, term),))


def unit(layer: str, index: int) -> Objective:
    """A logit: element `index` of one sample of the layer, in row-major order."""
    return _one(Unit(layer, int(index)))


def neuron(layer: str, channel: int, *position: int) -> Objective:
    """One position of one channel: `neuron("relu3", 4, y, x)`. Without a position: the centre."""
    return _one(Neuron(layer, int(channel), tuple(int(p) for p in position)))


def channel(layer: str, channel: int, *, axis: int = 1) -> Objective:
    """Mean of one channel. `axis` counts the batch axis: use -1 or 3 for a layer in NHWC."""
    return _one(Channel(layer, int(channel), int(axis)))


def channel_energy(layer: str, channel: int, *, axis: int = 1) -> Objective:
    """Sum of the squares of one channel. `axis` as in `channel`."""
    return _one(ChannelEnergy(layer, int(channel), int(axis)))


def layer(layer: str) -> Objective:
    """Mean of the squares of a whole layer, as in DeepDream."""
    return _one(LayerEnergy(layer))


def direction(layer: str, vector: npt.ArrayLike) -> Objective:
    """Mean over positions of the inner product of the channels with `vector` [C]."""
    return _one(Direction(layer, np.asarray(vector, dtype=np.float32)))


def cotangent(layer: str, array: npt.ArrayLike) -> Objective:
    """Inner product of the layer with `array`, which has the layer's shape (a batch of 1 serves every sample).

    Its gradient is the vector-Jacobian product with that array.
    """
    return _one(Cotangent(layer, np.asarray(array, dtype=np.float32)))


_LARGEST = float(np.finfo(np.float32).max)

_TEXT = re.compile(r"(?P<layer>.+?)(?::(?P<index>\d+)(?:(?P<energy>\^2)|@(?P<position>\d+(?:,\d+)*))?)?")


def parse(text: str, ranks: dict[str, int]) -> Objective:
    """The objective that a command line names.

    | text | objective |
    |---|---|
    | `logits:7` | `unit`, where the layer is [N, K] |
    | `relu3:4` | `channel`, where the layer has spatial axes |
    | `relu3:4@5,6` | `neuron` at y=5, x=6 |
    | `relu3:4^2` | `channel_energy` |
    | `relu3` | `layer` |

    Args:
        text: As in the table. A layer's name may contain colons.
        ranks: The number of axes of each layer, with the batch axis.
    """
    match = _TEXT.fullmatch(text) if text not in ranks else None
    if match is None or match["index"] is None:
        return layer(text)
    name, index = match["layer"], int(match["index"])
    if match["energy"]:
        return channel_energy(name, index)
    if match["position"]:
        return neuron(name, index, *(int(p) for p in match["position"].split(",")))
    # channel is right for both where the rank is not known: the mean of a channel without spatial axes is the unit.
    return unit(name, index) if ranks.get(name) in (1, 2) else channel(name, index)


def terms_of(objective: Objective) -> Sequence[tuple[float, Term]]:
    """The terms, checked.

    Raises:
        InvalidObjective: It has none, or a scale is zero or not finite.
    """
    if not isinstance(objective, Objective) or not objective.terms:
        msg = f"objective: expected one made by gradserve.objectives with at least one term, got {objective!r}"
        raise InvalidObjective(msg)
    for scale, term in objective.terms:
        if not 0.0 < abs(scale) <= _LARGEST or np.float32(scale) == 0.0:  # weights are float32
            msg = f"objective on '{term.layer}': expected a scale other than 0 that float32 holds, got {scale}"
            raise InvalidObjective(msg)
    return objective.terms
