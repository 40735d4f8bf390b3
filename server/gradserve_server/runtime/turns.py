"""Who is next among callers that ask for much and callers that ask for little: start-time fair queueing.

Time is virtual: it stands at the start of what is served. A caller's first request starts now, and each further one when
the one before is over, as if all callers were served side by side. So whoever asks for a thousand things is at its second
when another has come, been served, and gone.
"""

from collections.abc import Hashable

SMALLEST_SHARE = 1 / 64
"""Of what is served, a caller gets so much at least, however many others come: time does not stand still for newcomers."""

_MANY = 64
"""Callers that are remembered before those are forgotten whose time has passed."""


class Turns:
    """Hands out starts; the smallest is next. Whoever uses it keeps the requests, and lets in one thread at a time."""

    def __init__(self) -> None:
        self._now = 0.0
        self._free: dict[Hashable, float] = {}
        """When a caller's last request is over."""

    def start(self, caller: Hashable, cost: float) -> float:
        """When a new request starts.

        Args:
            caller: Whose it is.
            cost: How much it asks for; more than 0.
        """
        start = max(self._now, self._free.get(caller, 0.0))
        self._free[caller] = start + cost
        return start

    def served(self, start: float, cost: float) -> None:
        """A request is served, which had the smallest start, or one that is served along with it."""
        self._now = max(start, self._now + cost * SMALLEST_SHARE)
        if len(self._free) > _MANY:
            self._free = {caller: free for caller, free in self._free.items() if free > self._now}
