"""For what happens in another thread and tells nobody."""

import time
from collections.abc import Callable

WAIT = 20.0
"""Seconds after which a thread counts as stuck."""


def wait_for(condition: Callable[[], bool], seconds: float = WAIT) -> None:
    """Looks until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "stuck"
        time.sleep(0.001)
