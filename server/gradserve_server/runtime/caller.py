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
    ran: Callable[[int, bool], None] | None = None
    """Told of a prediction that ran with others how many samples the run had, and whether the run counts as this one's: of
    those that ran together one is told so. Must not raise."""
    identity: str = ""
    """Runs of one identity take turns with those of others (`runtime.turns`); whoever has none is of one, too."""
    priority: int = 0
    """Of a prediction: the level among those that its model's configuration has, 1 the highest; 0: the default."""
    timeout: float = 0.0
    """Of a prediction: seconds that it would wait in line at most, where its model's configuration lets it say so; 0: as
    long as it takes."""
    arrived: float | None = None
    """When it began to wait, by `time.monotonic()`; None: when it asks for its run."""

    def check(self) -> None:
        """Raises what `refusal` gives."""
        if (refusal := self.refusal()) is not None:
            raise refusal

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
