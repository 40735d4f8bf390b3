"""The threads that answer calls, and how long a call waited for one."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter_ns
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_current = threading.local()


class CallPool(ThreadPoolExecutor):
    """As its base; a call may ask how long it waited in the queue (`waited_ns`)."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Puts a call into the queue."""
        submitted = perf_counter_ns()

        def run() -> T:
            _current.waited_ns = perf_counter_ns() - submitted
            return fn(*args, **kwargs)

        return super().submit(run)


def waited_ns() -> int:
    """How long the call that this thread answers waited for it, in nanoseconds; 0 outside of a `CallPool`."""
    return getattr(_current, "waited_ns", 0)
