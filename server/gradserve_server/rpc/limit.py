"""A number of things that may go on at once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from gradserve.errors import LimitExceeded


class Limit:
    """Counts what goes on, and refuses one too many.

    Args:
        what: The things; the setting is `max_` and this.
        most: How many may go on at once.
    """

    def __init__(self, what: str, most: int) -> None:
        self._what, self._most = what, most
        self._running = 0
        self._counting = threading.Lock()

    @property
    def running(self) -> int:
        """How many go on now."""
        return self._running

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """One more goes on as long as this is open.

        Raises:
            LimitExceeded: There are as many as may be.
        """
        with self._counting:
            if self._running == self._most:
                limit = f"at most {self._most} run at a time on this server (max_{self._what})"
                msg = f"{self._what}: {limit}; try again when one has ended"
                raise LimitExceeded(msg)
            self._running += 1
        try:
            yield
        finally:
            with self._counting:
                self._running -= 1
