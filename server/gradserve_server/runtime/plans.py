"""The plans of a model that are kept ready, and since when each was not asked for."""

import threading
import time
from collections.abc import Callable

from cachetools import LRUCache

from gradserve_server.graph.derivatives import Wanted
from gradserve_server.runtime.events import Observer, PlanEvicted, PlanFound, nobody
from gradserve_server.runtime.plan import Plan


class Plans:
    """The plans that were asked for last. Safe to use from many threads.

    Args:
        most: Kept at a time.
        observe: Told of those that are found, and of those that go.
    """

    # Not cachetools' `cachedmethod`: it refers to its object in a circle, and a model's memory is to go with its last call.

    def __init__(self, most: int, observe: Observer = nobody) -> None:
        self._observe = observe
        self._kept: LRUCache[Wanted, tuple[Plan, list[float]]] = LRUCache(most)
        self._made: set[Wanted] = set()
        """Those that some thread is about to make."""
        self._changed = threading.Condition()  # guards both

    def get(self, key: Wanted, make: Callable[[], Plan]) -> Plan:
        """The plan for a kind of request; made on first use, by one thread while others that want it wait."""
        with self._changed:
            self._changed.wait_for(lambda: key not in self._made)
            if key in self._kept:
                plan, asked = self._kept[key]
                asked[0] = time.monotonic()
                self._observe(PlanFound(plan.subject))
                return plan
            self._made.add(key)
        try:
            plan = make()
            with self._changed:
                if self._kept.maxsize:
                    if len(self._kept) == self._kept.maxsize:
                        self._let_oldest_go()
                    self._kept[key] = plan, [time.monotonic()]
            return plan
        finally:
            with self._changed:
                self._made.discard(key)
                self._changed.notify_all()

    @property
    def kept(self) -> list[Plan]:
        """Those that are kept."""
        with self._changed:
            return [plan for plan, _ in self._kept.values()]

    def oldest(self) -> float | None:
        """When the one that was not asked for for longest was last asked for; None: there is none."""
        with self._changed:
            return min((asked[0] for _, asked in self._kept.values()), default=None)

    def let_oldest_go(self) -> None:
        """Lets that one go; it is made again when it is asked for."""
        with self._changed:
            if self._kept:
                self._let_oldest_go()

    def _let_oldest_go(self) -> None:
        _, (plan, _) = self._kept.popitem()
        self._observe(PlanEvicted(plan.subject))
