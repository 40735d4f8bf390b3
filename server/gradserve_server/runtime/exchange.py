"""Where an ascent and its model meet."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from gradserve_server.runtime.device import Device
from gradserve_server.runtime.tensors import Tensor

Array = npt.NDArray[Any]


def _nothing() -> None:
    """Nothing is to be done."""


@dataclass(frozen=True)
class Exchange:
    """What a run of the model reads and writes. Arrays lie with the ascent's own arithmetic, tensors on the device."""

    batch: Array | Tensor
    """The model's input, [N, ...]."""
    gradient: Array | Tensor
    """What a run makes of it: d values[n] / d batch[n]."""
    stays_on: Device | None = None
    """The device whose tensors they are. All else that the model reads then lies there, too."""
    before: Callable[[], None] = _nothing
    """Done right before each run, when its turn on the device has come."""
    after: Callable[[], None] = _nothing
    """Done right after it, in the same turn."""
