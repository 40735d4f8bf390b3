"""The session that predicts, for as long as anybody wants predictions."""

import threading
from collections.abc import Callable

from gradserve_server.runtime.session import Session


class Predictor:
    """Open when a model is loaded; while only gradients are asked for, it takes no memory. Safe to use from many threads.

    Args:
        session: As the model was checked with.
    """

    def __init__(self, session: Session) -> None:
        self._lock = threading.Lock()
        self._open: Session | None = session
        self._is_used = False

    @property
    def is_open(self) -> bool:
        """Whether it takes memory."""
        return self._open is not None

    def session(self, again: Callable[[], Session]) -> Session:
        """What runs a prediction; from the first one on it stays.

        Args:
            again: Opens one that predicts the same.
        """
        with self._lock:
            self._is_used = True
            if self._open is None:
                self._open = again()
            return self._open

    def rest(self) -> None:
        """Lets the session go, if nobody has asked for a prediction so far."""
        with self._lock:
            if not self._is_used:
                self._open = None
