"""What an engine tells of its work, to whoever counts, traces or logs it. It knows none of them by name."""

import logging
from collections.abc import Callable
from typing import NamedTuple

from gradserve_server.runtime.work import Priority, Subject

_log = logging.getLogger(__name__)


class Turn(NamedTuple):
    """One work's turn on the device. Times are of `time.monotonic`."""

    subject: Subject
    priority: Priority
    samples: int
    asked: float
    began: float
    ended: float
    batch: int
    """Samples that ran together with its own, these included."""


class Run(NamedTuple):
    """One run of the device, for one work or a batch of them."""

    priority: Priority
    samples: int
    seconds: float


class Observer:
    """Does nothing; override what you want to know. A method is called in the midst of the work: it has to be quick."""

    def ran(self, run: Run) -> None:
        """The device has run. Called by the thread that led, for all whose work it was."""

    def answered(self, turn: Turn) -> None:
        """A work has its result. Called by the thread that asked, in its own context."""

    def plan_built(self, subject: Subject, began: float, ended: float) -> None:
        """A plan was made. Called by the thread that needed it."""

    def plan_found(self, subject: Subject) -> None:
        """A plan was there already."""

    def plan_evicted(self, subject: Subject) -> None:
        """A plan went to make room for another."""

    def ascent_started(self, subject: Subject) -> None:
        """An ascent takes its first step."""

    def ascent_ended(self, subject: Subject, reason: str) -> None:
        """An ascent takes no more: the name of its `gradserve.StopReason`, CANCELLED or FAILED."""


NO_OBSERVER = Observer()


class Observers(Observer):
    """Tells several. What one of them raises is logged, and is nobody else's trouble."""

    def __init__(self) -> None:
        self._observers: tuple[Observer, ...] = ()

    def add(self, observer: Observer) -> None:
        """Tells one more."""
        self._observers = (*self._observers, observer)

    def remove(self, observer: Observer) -> None:
        """Tells one no more."""
        self._observers = tuple(each for each in self._observers if each is not observer)

    def ran(self, run: Run) -> None:  # noqa: D102
        self._tell(lambda each: each.ran(run))

    def answered(self, turn: Turn) -> None:  # noqa: D102
        self._tell(lambda each: each.answered(turn))

    def plan_built(self, subject: Subject, began: float, ended: float) -> None:  # noqa: D102
        self._tell(lambda each: each.plan_built(subject, began, ended))

    def plan_found(self, subject: Subject) -> None:  # noqa: D102
        self._tell(lambda each: each.plan_found(subject))

    def plan_evicted(self, subject: Subject) -> None:  # noqa: D102
        self._tell(lambda each: each.plan_evicted(subject))

    def ascent_started(self, subject: Subject) -> None:  # noqa: D102
        self._tell(lambda each: each.ascent_started(subject))

    def ascent_ended(self, subject: Subject, reason: str) -> None:  # noqa: D102
        self._tell(lambda each: each.ascent_ended(subject, reason))

    def _tell(self, tell: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            try:
                tell(observer)
            except Exception:
                _log.exception("an observer failed")
