"""Works for a scheduler that say what was run, and that can be held up."""

import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from support.waiting import WAIT, wait_for

from gradserve_server.runtime.caller import ANYONE, Caller
from gradserve_server.runtime.scheduler import Scheduler
from gradserve_server.runtime.work import Priority, Work

FOREVER = 1e6
"""Seconds that no test waits."""


class Job(Work):
    """Logs what runs together, and returns its name.

    Args:
        name: In the log.
        log: Gets a tuple of names for each run.
        priority: Its class.
        group: See `Work.group`.
        samples: See `Work.samples`.
        caller: Who waits.
        error: Raised by every run that it takes part in.
    """

    def __init__(
        self,
        name: str,
        log: list[tuple[str, ...]],
        priority: Priority = Priority.GRADIENT,
        *,
        group: Hashable | None = None,
        samples: int = 1,
        caller: Caller = ANYONE,
        error: BaseException | None = None,
    ) -> None:
        super().__init__(priority, caller)
        self.name, self.log, self.error = name, log, error
        self._group, self._samples = group, samples
        self.ran_in: int | None = None

    def group(self) -> Hashable | None:
        return self._group

    def samples(self) -> int:
        return self._samples

    def alone(self) -> str:
        return self.together([self])[0]

    def together(self, works: Sequence["Job"]) -> list[str]:
        self.log.append(tuple(work.name for work in works))
        for work in works:
            work.ran_in = threading.get_ident()
            if work.error is not None:
                raise work.error
        return [work.name for work in works]


class Held(Work):
    """Keeps the device until it is let go."""

    def __init__(self) -> None:
        super().__init__(Priority.PREDICTION)
        self.started, self.go = threading.Event(), threading.Event()

    def alone(self) -> None:
        self.started.set()
        assert self.go.wait(WAIT), "stuck"


class Crowd:
    """Callers of a scheduler, each in a thread of its own: a context that keeps the device busy until `let_go`.

    Args:
        scheduler: What they call.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self._threads = ThreadPoolExecutor(64)
        self._held = Held()

    def __enter__(self) -> "Crowd":
        self._holding = self._threads.submit(self.scheduler.run, self._held)
        assert self._held.started.wait(WAIT), "stuck"
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()
        self._threads.shutdown()

    def join(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> "Future[Any]":
        """Calls, and returns once it stands in line behind all others."""
        before = self.scheduler.waiting
        future = self._threads.submit(call, *arguments, **options)
        wait_for(lambda: self.scheduler.waiting > before or future.done())
        return future

    def ask(self, work: Work) -> "Future[Any]":
        """Puts a work in line."""
        return self.join(self.scheduler.run, work)

    def let_go(self) -> None:
        """Frees the device."""
        self._held.go.set()
        self._holding.result(WAIT)
