"""The terms of objectives, as data. `A[n]` is the value of the layer for sample n, without its batch axis.

`constructors` makes them; what each is worth, and with which sign, is in the table of docs/ascents.md.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Term:
    """One scalar per sample, read from one layer."""

    layer: str
    """The layer's tensor name."""


# ---- linear and quadratic in the layer -------------------------------------------------------------------------------


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
class Cotangent(Term):
    """`<A[n], array[n]>`."""

    array: Array


@dataclass(frozen=True, eq=False)
class InterpolatedChannel(Term):
    """Mean of the channel's values, times n / (N - 1) for image n of N; or times 1 minus that."""

    channel: int
    axis: int = 1
    falling: bool = False
    """Whether the first image, and not the last, has the whole of it."""


# ---- directions ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Direction(Term):
    """Mean over positions of dot * max(0.1, cos)^cosine_power, of the channels there and `vector`."""

    vector: Array
    cosine_power: float = 0.0
    axis: int = 1


@dataclass(frozen=True, eq=False)
class DirectionNeuron(Term):
    """The same at one position; an empty one is the centre."""

    vector: Array
    position: tuple[int, ...] = ()
    cosine_power: float = 0.0
    axis: int = 1


# ---- activations to match --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Matching(Term):
    """-mean((A[n] - array[n])^2)."""

    array: Array


@dataclass(frozen=True, eq=False)
class Style(Term):
    """-sum((Gram(A[n]) - Gram(array[n]))^2) / (4 C^2), each Gram matrix [C, C] divided by its positions."""

    array: Array
    axis: int = 1


@dataclass(frozen=True, eq=False)
class Caricature(Term):
    """dot * max(0.1, cos)^cosine_power, of A[n] as a whole and `array[n]`."""

    array: Array
    cosine_power: float = 0.0


# ---- across the images of a batch ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Alignment(Term):
    """-1/2 sum over m, 0 < |n - m| <= 4, of mean((A[n] - A[m])^2) / decay^|n - m|."""

    decay: float = 2.0


@dataclass(frozen=True, eq=False)
class Diversity(Term):
    """Sum over m != n of the cosine of the Gram matrices of A[n] and A[m]: how alike the images are."""

    axis: int = 1


ACROSS = (Alignment, Diversity)
"""Terms whose value for one image depends on the others."""


# ---- of the image itself ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Penalty(Term):
    """One scalar per image X, read from its pixels before the transforms; no layer takes part."""

    layer: str = ""


@dataclass(frozen=True, eq=False)
class L1(Penalty):
    """sum(|X - constant|)."""

    constant: float = 0.0


@dataclass(frozen=True, eq=False)
class L2(Penalty):
    """sqrt(epsilon + sum((X - constant)^2))."""

    constant: float = 0.0
    epsilon: float = 1e-6


@dataclass(frozen=True, eq=False)
class TotalVariation(Penalty):
    """Sum of the absolute differences of neighbours, in rows and in columns."""


@dataclass(frozen=True, eq=False)
class BoundaryComplexity(Penalty):
    """Within `width` pixels of the edge: sum((blur(X) - X)^2 + 0.8 (X - constant)^2)."""

    width: int = 20
    constant: float = 0.5


@dataclass(frozen=True, eq=False)
class BlurInputEachStep(Penalty):
    """sum((X - blur(X))^2) / 2, with blur(X) held fixed: the gradient is X - blur(X)."""


def as_array(values: npt.ArrayLike) -> Array:
    """An array as terms hold it."""
    return np.asarray(values, dtype=np.float32)
