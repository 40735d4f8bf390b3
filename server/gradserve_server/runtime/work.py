"""What a device is asked to run."""

from collections.abc import Hashable, Sequence
from enum import IntEnum
from typing import Any, NamedTuple, Self

from gradserve_server.runtime.caller import ANYONE, Caller
from gradserve_server.runtime.company import ORDINARY, Company, Queue
from gradserve_server.runtime.peers import Peer


class Priority(IntEnum):
    """Who goes first."""

    PREDICTION = 0
    """Forward only: quick, and somebody looks at it."""
    GRADIENT = 1
    """Somebody waits for this very answer."""
    ASCENT = 2
    """One of hundreds of steps."""


class Subject(NamedTuple):
    """What a work is about, for those who count it (`runtime.events`)."""

    model: str
    version: int
    verb: str
    """Of the engine."""


NOTHING = Subject("", 0, "")


class Work:
    """One run that somebody waits for. A subclass says what is run, and what may be run with it.

    Args:
        priority: Its class.
        caller: Who waits.
        peer: The ascent that it is a step of.
        queue: Where it waits within its class.
        company: With how many it may run; None: with as many as the scheduler allows.
        subject: What it is about.
    """

    def __init__(
        self,
        priority: Priority,
        caller: Caller = ANYONE,
        peer: Peer | None = None,
        queue: Queue = ORDINARY,
        company: Company | None = None,
        subject: Subject = NOTHING,
    ) -> None:
        self.priority, self.caller, self.peer = priority, caller, peer
        self.queue, self.company, self.subject = queue, company, subject

    def samples(self) -> int:
        """How much of a batch it takes."""
        return 1

    def group(self) -> Hashable | None:
        """Works of one group may be run together; None: this one runs alone."""
        return None

    def alone(self) -> Any:
        """Runs, and returns the result."""
        raise NotImplementedError

    def together(self, works: Sequence[Self]) -> list[Any]:
        """Runs works of this one's group, itself among them, as one, and returns a result for each."""
        raise NotImplementedError

    def again(self) -> bool:
        """Called after a run, by whoever ran it: whether its caller, instead of the result, wants another run at once."""
        return False
