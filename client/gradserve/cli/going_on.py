"""An ascent whose server may go away."""

import time
from collections.abc import Callable, Iterator

from gradserve import Checkpoint, Step, StopReason
from gradserve.errors import ServerUnavailable

_PAUSE = 0.5
"""Seconds between two attempts."""


def steps(
    ascend: Callable[[Checkpoint | None], Iterator[Step]], resume: Checkpoint | None, *, patience: float
) -> Iterator[Step]:
    """The reports of an ascent, which goes on from its last checkpoint where a server has gone.

    Args:
        ascend: Begins, or goes on from a checkpoint.
        resume: Where to go on at first.
        patience: How many seconds to wait for a server to come back; 0 takes the first end.

    Raises:
        ServerUnavailable: None came back in time.
    """
    gone: float | None = None
    while True:
        try:
            for step in ascend(resume):
                gone = None
                resume = step.checkpoint or resume
                if patience and step.stop_reason is StopReason.INTERRUPTED:
                    break
                yield step
            else:
                return
        except ServerUnavailable:
            if (gone is not None and time.monotonic() >= gone + patience) or not patience:
                raise
        gone = gone or time.monotonic()
        time.sleep(_PAUSE)
