"""Requests that are on their way. A call holds a thread from its start, so slow ones must not hold all of them."""

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

_log = logging.getLogger(__name__)

GRACE = 5.0
"""Seconds that a request may take to arrive in any case: what is refused after them was never about to fill a server."""


class Receiving:
    """Reads the one request of a call.

    As long as at most half of a server's threads wait for requests, each waits as long as it takes. Beyond that the calls
    that have waited for longest are cancelled, once they had their seconds of grace.

    Args:
        threads: How many the server has.
        grace: See `GRACE`.
    """

    def __init__(self, threads: int, grace: float = GRACE) -> None:
        self._most, self._grace = threads // 2, grace
        self._since: dict[Any, float] = {}  # by context, the longest first
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look, name="gradserve-receiving", daemon=True)
        self._thread.start()

    def first(self, requests: Iterator[Any], context: Any) -> Any:
        """The request of a call; None where its client sends none.

        Raises:
            grpc.RpcError: The call has ended before it came.
        """
        self._since[context] = time.monotonic()
        try:
            return next(requests, None)
        finally:
            del self._since[context]

    def close(self) -> None:
        """Cancels no more."""
        self._closed.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._closed.wait(self._grace / 5):
            waiting = list(self._since.copy().items())  # a copy is made at one stroke
            too_long = time.monotonic() - self._grace
            for context, since in waiting[: max(len(waiting) - self._most, 0)]:
                if since < too_long:
                    _log.warning("a call of %s is cancelled: its request has not come in %g s", context.peer(), self._grace)
                    context.cancel()
