"""How much memory the models of an engine take together, and what is let go so that another fits.

Counted is what lives as long as its owner does: a model's weights, once, and for each session the copies that onnxruntime
makes of them (`runtime.footprint`). What a run needs while it runs is not: all sessions share that pool, which grows to what
the largest run needs. Resident memory is no measure of a model, because the pool, the allocator and Python keep what is
freed. Weights are known to the byte, and `tests/unit/runtime/test_memory.py` holds the count against resident memory.
"""

import threading
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gradserve.errors import LimitExceeded
from gradserve_server.runtime.plans import Plans

MIB = 2**20


class MemoryBudget:
    """Counts what models and plans take. Safe to use from many threads.

    Args:
        limit_mib: MiB that they may take together; None: what the machine has.
    """

    def __init__(self, limit_mib: int | None = None) -> None:
        self._limit = limit_mib * MIB if limit_mib is not None else None
        self._lock = threading.Lock()
        self._held = 0
        # A garbage collection may free an owner in the middle of our own critical section: what is freed waits here.
        self._freed: deque[int] = deque()
        self._plans: weakref.WeakValueDictionary[int, Plans] = weakref.WeakValueDictionary()

    @property
    def used(self) -> int:
        """Bytes that live."""
        with self._lock:
            return self._used()

    def watch(self, plans: Plans) -> None:
        """These may be let go when something else needs the room."""
        with self._lock:
            self._plans[id(plans)] = plans

    def hold(self, owner: Any, size: int, what: str) -> None:
        """Counts bytes until their owner is gone.

        Args:
            owner: Whose life they share.
            size: How many.
            what: How an error names the owner.

        Raises:
            LimitExceeded: They do not fit, even without the plans that can be made again.
        """
        self._take(size, what)
        weakref.finalize(owner, self._freed.append, size).atexit = False

    @contextmanager
    def reserved(self, size: int, what: str) -> Iterator[None]:
        """Keeps room for what is about to be loaded.

        Raises:
            LimitExceeded: As `hold`.
        """
        self._take(size, what)
        try:
            yield
        finally:
            self._freed.append(size)

    def _take(self, size: int, what: str) -> None:
        with self._lock:
            while self._limit is not None and self._used() + size > self._limit and self._let_a_plan_go():
                pass
            if self._limit is not None and self._used() + size > self._limit:
                msg = (
                    f"{what}: needs {size / MIB:.1f} MiB, but {self._used() / MIB:.1f} MiB of {self._limit / MIB:.1f} MiB "
                    "(memory_limit_mib) are in use; unload another model first"
                )
                raise LimitExceeded(msg)
            self._held += size

    def _used(self) -> int:
        while self._freed:
            self._held -= self._freed.popleft()
        return self._held

    def _let_a_plan_go(self) -> bool:
        """Lets go the plan that was not asked for for longest; whether there was one."""
        asked = [(since, plans) for plans in self._plans.values() if (since := plans.oldest()) is not None]
        if not asked:
            return False
        min(asked, key=lambda pair: pair[0])[1].let_oldest_go()
        return True
