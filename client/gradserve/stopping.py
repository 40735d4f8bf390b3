"""When an image of an ascent is done (`stop_at=`), and which image is delivered (`keep=`).

Each image of a batch is measured by itself, as it is: without transforms and jitter. One that is done stays as it is, to the
bit, while the others go on; the ascent ends once all are done, with `StopReason.REACHED`.
"""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Keep", "Probability", "StopAt", "Value"]


@dataclass(frozen=True)
class Value:
    """The objective has reached a value."""

    at_least: float
    every: int = 1
    """Steps between two measurements. With transforms each takes a run of the model, and its gradient, of its own."""


@dataclass(frozen=True)
class Probability:
    """The softmax of one unit of a layer [N, K] has reached a value: `Probability(0.9999)`.

    Each measurement takes a run of the model up to that layer.
    """

    at_least: float = 0.9999
    layer: str = ""
    """By default the layer, and the unit, that the objective names, which then must be a single `unit`."""
    index: int = 0
    """Of the unit, where a layer is named."""
    softmax: bool = True
    """Whether the layer has logits; False where it has probabilities already."""
    every: int = 1
    """Steps between two measurements."""


StopAt = Value | Probability


class Keep(StrEnum):
    """Which image the last report delivers, with its value."""

    LAST = "last"
    """The last one."""
    BEST = "best"
    """Of each image the one with the largest value so far, or that which has reached `stop_at`. Where values of different
    steps do not compare (transforms, random backgrounds, scales that change), both it and the last image are seen as in the
    last report, and the better one is delivered. Not with terms across a batch."""
