"""A place in line, and afterwards the result."""

import contextvars
import math
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from gradserve_server.runtime.caller import too_late
from gradserve_server.runtime.work import Work

Band = tuple[int, int, bool]
"""Those who go before others: by class, by rank within it, and before those that have waited too long."""


class Ticket:
    """A place in line, and afterwards the result.

    Args:
        work: What is to be run.
    """

    __slots__ = (
        *("_awake", "_error", "_result", "asked", "batch", "began", "band", "context", "done", "ended", "expires"),
        *("group", "keeps", "order", "ran_with", "samples", "settled", "until", "work"),
    )

    def __init__(self, work: Work) -> None:
        self.work, self.group, self.samples = work, work.group(), work.samples()
        self.batch: Sequence[Ticket] = ()
        """What its caller is to run, once it leads."""
        self.band: Band = (int(work.priority), work.queue.rank, False)
        """Who goes before it, and whom it goes before."""
        self.order: tuple[float, int] = (0.0, 0)
        """Within its band (`runtime.line`)."""
        self.asked = self.began = self.ended = time.monotonic()
        self.ran_with = self.samples
        """Samples that ran together, its own among them."""
        self.context = contextvars.copy_context()
        """Of its caller, for whoever runs it."""
        self.expires = work.queue.expires(work.caller, self.asked)
        """Until when it would wait, by `time.monotonic`."""
        self.keeps = False
        """Whether its caller keeps the time for all that wait for peers."""
        self.settled = False
        """Whether it has a result or an error; it may yet be run again."""
        self.done = False
        """Whether its caller may go, with that."""
        self.looks_again(self._ripens())
        self._result: Any = None
        self._error: Exception | None = None
        self._awake = threading.Lock()  # the fastest way to wake one thread
        self._awake.acquire()

    def looks_again(self, until: float = math.inf, *, for_peers: bool = False) -> None:
        """Sets when its caller looks again unless it is woken: when it has waited too long, at the latest."""
        self.until, self.keeps = min(until, self.expires, self.work.caller.deadline), for_peers

    def is_chosen(self) -> None:
        """From here on it is too late to give up."""
        self.until, self.keeps = math.inf, False

    def begins(self) -> None:
        """Tells its caller how long it waited."""
        self.began = time.monotonic()
        if self.work.caller.waited is not None:
            self.work.caller.waited(self.began - self.asked)

    def goes_on(self) -> None:
        """Wants to be run again."""
        self.asked, self._result, self.settled = time.monotonic(), None, False
        self.looks_again()

    @property
    def delayed(self) -> bool:
        """Whether it has waited longer than it would, and stands behind the others."""
        return self.band[-1]

    def falls_back(self) -> None:
        """Stands behind the others from here on, and waits for as long as it takes."""
        self.band, self.expires = (*self.band[:2], True), math.inf

    def overdue(self, now: float) -> Exception | None:
        """Why it is not to be run any more, if it has waited too long."""
        if now >= self.work.caller.deadline:
            return too_late()
        if now >= self.expires and not self.work.queue.delays:
            return self.work.queue.expired(self.work.caller)
        return None

    def refusal(self) -> Exception | None:
        """Why it is not to be run any more, if so."""
        return self.overdue(time.monotonic()) or self.work.caller.refusal()

    def sleep(self) -> bool:
        """Waits to be woken; False where `until` came first."""
        timeout = max(self.until - time.monotonic(), 0)
        return self._awake.acquire(timeout=min(timeout, threading.TIMEOUT_MAX))

    def wake(self) -> None:
        """Lets its caller look again. Two wakes before it looks count as one."""
        with suppress(RuntimeError):
            self._awake.release()

    def let_go(self) -> None:
        """Lets its caller go."""
        self.done = True
        self.wake()

    def succeed(self, result: Any) -> None:
        """Sets the result."""
        self.ended = time.monotonic()
        self._result, self.settled = result, True

    def fail(self, error: Exception) -> None:
        """Sets what `result` raises."""
        self._error, self.settled = error, True

    @property
    def failed(self) -> bool:
        """Whether `result` raises."""
        return self._error is not None

    def result(self) -> Any:
        """The result, or the error raised."""
        if self._error is not None:
            raise self._error
        return self._result

    def _ripens(self) -> float:
        """When it has waited for company long enough."""
        company = self.work.company
        return self.asked + company.delay if company is not None and company.delay else math.inf
