"""What an engine tells of its work, to whoever counts, traces or logs it. It knows none of them by name."""

import logging
from collections.abc import Callable
from typing import NamedTuple

from gradserve_server.runtime.work import Priority, Subject

_log = logging.getLogger(__name__)


class Run(NamedTuple):
    """The device has run, for one work or a batch of them. Told by the thread that led, on behalf of all."""

    priority: Priority
    samples: int
    seconds: float


class Turn(NamedTuple):
    """A work has its result. Told by the thread that asked, in its own context. Times are of `time.monotonic`."""

    subject: Subject
    priority: Priority
    samples: int
    asked: float
    began: float
    ended: float
    batch: int
    """Samples that ran together, its own among them."""


class PlanBuilt(NamedTuple):
    """A plan was made. Told by the thread that needed it. Times are of `time.monotonic`."""

    subject: Subject
    began: float
    ended: float


class PlanFound(NamedTuple):
    """A plan was there already."""

    subject: Subject


class PlanEvicted(NamedTuple):
    """A plan went, to make room for another."""

    subject: Subject


class AscentStarted(NamedTuple):
    """An ascent takes its first step."""

    subject: Subject


class AscentEnded(NamedTuple):
    """An ascent takes no more steps."""

    subject: Subject
    reason: str
    """The name of its `gradserve.StopReason`, or one of `ascent.watched`."""


Event = Run | Turn | PlanBuilt | PlanFound | PlanEvicted | AscentStarted | AscentEnded

Observer = Callable[[Event], None]
"""Is told of events as they happen, in the midst of the work: it has to be quick."""


def nobody(event: Event) -> None:
    """An observer that does not care."""


class Observers:
    """An observer that tells others. What one of them raises is logged, and is nobody else's trouble."""

    def __init__(self) -> None:
        self._observers: tuple[Observer, ...] = ()

    def add(self, observer: Observer) -> None:
        """Tells one more."""
        self._observers = (*self._observers, observer)

    def remove(self, observer: Observer) -> None:
        """Tells one no more."""
        self._observers = tuple(each for each in self._observers if each is not observer)

    def __call__(self, event: Event) -> None:
        """Tells them."""
        for observer in self._observers:
            try:
                observer(event)
            except Exception:
                _log.exception("an observer failed")
