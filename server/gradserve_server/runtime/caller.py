"""Who waits for a run, and for how long."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from gradserve.errors import CallCancelled, DeadlineExceeded


@dataclass(frozen=True)
class Caller:
    """Who waits for a run. Asked before a run that had to wait is begun, never in the middle of one."""

    should_stop: Callable[[], bool] | None = None
    """Says yes once nobody wants the answer any more."""
    deadline: float = math.inf
    """By `time.monotonic()`."""
    waited: Callable[[float], None] | None = None
    """Told how many seconds a run waited in line, when it is begun; must not raise."""

    def refusal(self) -> Exception | None:
        """Why a run should not be begun any more, if so."""
        if time.monotonic() >= self.deadline:
            return too_late()
        try:
            stopped = self.should_stop is not None and self.should_stop()
        except Exception as error:  # the caller's own code: its failure is its own
            return error
        return CallCancelled("cancelled while it waited for the device") if stopped else None


def too_late() -> DeadlineExceeded:
    """What a caller gets whose deadline has passed."""
    return DeadlineExceeded("deadline: expected the run to begin before it, got no turn on the device")


ANYONE = Caller()
"""Waits as long as it takes."""
