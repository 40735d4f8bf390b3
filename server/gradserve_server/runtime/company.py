"""With how many others a work runs, and where it waits for its turn: what Triton's `dynamic_batching` says of a model."""

import math
from dataclasses import dataclass

from gradserve.errors import LimitExceeded
from gradserve_server.runtime.caller import Caller


@dataclass(frozen=True)
class Company:
    """With how many others a work runs.

    Args:
        most: Samples that run together at most; a work of more runs alone.
        preferred: Numbers of samples that need not wait for more, in ascending order; `most` if there is none.
        delay: Seconds that the first to come waits for the others.
    """

    most: int
    preferred: tuple[int, ...] = ()
    delay: float = 0.0

    def suffices(self, samples: int) -> bool:
        """Whether so many need not wait for more."""
        return samples >= (self.preferred[0] if self.preferred else self.most)

    def size(self, samples: int) -> int:
        """How many of so many run together at most: the largest size that is preferred, if they are as many."""
        return max((size for size in self.preferred if size <= samples), default=self.most)


@dataclass(frozen=True, eq=False)
class Queue:
    """One level of a model's predictions, with its `ModelQueuePolicy`.

    Args:
        what: In messages.
        rank: Below 0: before the predictions of models without levels, above: behind them.
        limit: Predictions that wait at most; 0: as many as the scheduler takes.
        timeout: Seconds that one waits at most.
        shortened: Whether a caller may want to wait less.
        delays: Whether one that has waited so long stands behind the others from then on; otherwise it is refused.
    """

    what: str = "predictions"
    rank: int = 0
    limit: int = 0
    timeout: float = math.inf
    shortened: bool = False
    delays: bool = False

    def patience(self, caller: Caller) -> float:
        """Seconds that a caller waits at most."""
        return min(self.timeout, caller.timeout) if self.shortened and caller.timeout else self.timeout

    def expires(self, caller: Caller, now: float) -> float:
        """Until when a caller waits that asks now, both by `time.monotonic`."""
        return (now if caller.arrived is None else caller.arrived) + self.patience(caller)

    def full(self) -> LimitExceeded:
        """What a caller gets who finds too many there."""
        return LimitExceeded(
            f"Exceeds maximum queue size: {self.what}: expected at most {self.limit} that wait (max_queue_size)"
        )

    def expired(self, caller: Caller) -> LimitExceeded:
        """What a caller gets who has waited too long."""
        seconds = self.patience(caller)
        return LimitExceeded(
            f"Request timeout expired: {self.what}: expected its turn within {seconds * 1e6:.0f} us, got none"
        )


ORDINARY = Queue()
"""Of everything that no configuration says more about."""
