"""For what happens in another thread and tells nobody."""

import time


def wait_for(condition) -> None:
    """Until it is so."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
