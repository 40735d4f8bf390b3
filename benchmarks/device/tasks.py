"""What is timed, and on which inputs: the same for everybody, made anew in each contender's process."""

from dataclasses import dataclass

import numpy as np
from ascent.loops import HIGH, LOW
from numpy.typing import NDArray
from speed.suite import SUITE, Subject

Array = NDArray[np.float32]

GRADIENT, ASCENT = "gradient", "ascent"
"""One call with numpy in and out; one step of an ascent, whose image goes in at the start and comes out at the end."""

JITTER = 8
RATE = 0.02
"""Of Adam."""
CHECKED_STEPS = 1
"""Without jitter, after which contenders' images are compared. How far a pixel has moved counts by the size of its gradient
at the start: Adam moves all alike, those with next to none up or down by its last bits. More steps would compare chaos:
PyTorch's own two memory formats are 20 % apart after three steps on MobileNetV2, and 5e-7 on the digits."""
CONTRAST = 0.5
"""Standard deviation of an ascent's start."""

_IMAGE_AXES = 3


@dataclass(frozen=True)
class Task:
    """One row of the tables, but for the network.

    Attributes:
        measure: GRADIENT or ASCENT.
        batch: Samples of a call, or images of an ascent.
    """

    measure: str
    batch: int

    @property
    def least_steps(self) -> int:
        """Of a turn: an ascent brings its images back once, and is hundreds of steps long."""
        return 16 if self.measure == ASCENT else 1

    def inputs(self, subject: Subject) -> Array:
        """What a gradient is taken at, or where an ascent starts."""
        sample: Array = subject.sample(self.batch).numpy()
        return sample if self.measure == GRADIENT else (CONTRAST * sample).clip(LOW, HIGH)


def tasks_of(name: str, batches: list[int]) -> list[Task]:
    """What is timed of a network, small batches first: memory that a process has taken it does not give back."""
    measures = (GRADIENT, ASCENT) if len(SUITE[name].shape) == _IMAGE_AXES else (GRADIENT,)
    return [Task(measure, batch) for batch in sorted(batches) for measure in measures]
