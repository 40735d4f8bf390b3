"""The threads that answer calls: clients take turns for them, and a call knows how long it waited for one."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from heapq import heappop, heappush
from time import perf_counter_ns
from typing import Any, ParamSpec, TypeVar

from gradserve_server.runtime.turns import Turns

P = ParamSpec("P")
T = TypeVar("T")

_current = threading.local()


class CallPool(ThreadPoolExecutor):
    """As its base, but that the calls of different connections take turns for a thread (`runtime.turns`).

    So a client with a thousand calls does not keep the one call of another waiting. A call may ask how long it waited
    (`waited_ns`).
    """

    def __init__(self, max_workers: int, thread_name_prefix: str = "") -> None:
        super().__init__(max_workers, thread_name_prefix)
        self._lock = threading.Lock()  # guards what follows
        self._turns, self._number = Turns(), itertools.count()
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []

    @property
    def waiting(self) -> int:
        """Calls that wait for a thread."""
        return len(self._waiting)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Puts a call in line; which of those that wait is next is decided when a thread is free."""
        submitted = perf_counter_ns()
        answer: Future[T] = Future()

        def run() -> None:
            _current.waited_ns = perf_counter_ns() - submitted
            if not answer.set_running_or_notify_cancel():
                return
            try:
                answer.set_result(fn(*args, **kwargs))
            except BaseException as error:
                answer.set_exception(error)

        with self._lock:
            heappush(self._waiting, (self._turns.start(_connection(args), 1), next(self._number), run))
        super().submit(self._run_next)
        return answer

    def _run_next(self) -> None:
        with self._lock:
            start, _, run = heappop(self._waiting)
            self._turns.served(start, 1)
        run()


def _connection(args: tuple[Any, ...]) -> str:
    """Which connection a call came by; "" for what is none. grpcio hands its event over among the arguments."""
    return next((str(arg.call.peer()) for arg in args if hasattr(arg, "call")), "")


def waited_ns() -> int:
    """How long the call that this thread answers waited for it, in nanoseconds; 0 outside of a `CallPool`."""
    return getattr(_current, "waited_ns", 0)
