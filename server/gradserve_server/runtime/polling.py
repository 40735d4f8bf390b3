"""Looks at the repository now and then, and serves what it has: mode `poll`."""

import logging
import threading

from gradserve.errors import GradserveError
from gradserve_server.runtime.registry import Registry
from gradserve_server.runtime.repository import Fingerprint, Repository

_log = logging.getLogger(__name__)


class Poller:
    """Loads models that are new or have changed, and unloads those that are gone.

    A change counts once two looks in a row see the same, so that files which are being written are left alone. What cannot
    be loaded is tried again when it changes.

    Args:
        repository: Where models are.
        registry: Serves them.
        seconds: From one look to the next.
    """

    def __init__(self, repository: Repository, registry: Registry, seconds: float) -> None:
        self._repository, self._registry, self._seconds = repository, registry, seconds
        self._seen: dict[str, Fingerprint] = {}
        self._done: dict[str, Fingerprint] = {}
        """What was loaded, or at least tried."""
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="gradserve-poll", daemon=True)

    def first_look(self) -> None:
        """What is there now is being loaded by somebody else."""
        self._seen = self._repository.fingerprints()
        self._done = dict(self._seen)

    def start(self) -> None:
        """Looks on by itself, until `close`."""
        self._thread.start()

    def close(self) -> None:
        """Ends, once the model that is being loaded is."""
        self._closed.set()
        if self._thread.ident is not None:
            self._thread.join()

    def look(self) -> None:
        """One look.

        Raises:
            OSError: The repository cannot be read; what is served stays.
        """
        seen, before = self._repository.fingerprints(), self._seen
        self._seen = seen
        for name in sorted(seen.keys() | self._done.keys()):
            now = seen.get(name)
            if now != self._done.get(name) and now == before.get(name):
                self._follow(name, now)

    def _follow(self, name: str, now: Fingerprint | None) -> None:
        try:
            if now is None:
                del self._done[name]
                self._registry.unload(name)
            else:
                self._done[name] = now
                self._registry.load(name)
        except GradserveError as error:
            _log.warning("model '%s' was not loaded: %s", name, error)
        except Exception:
            _log.exception("model '%s' could not be loaded", name)

    def _poll(self) -> None:
        while not self._closed.wait(self._seconds):
            try:
                self.look()
            except OSError as error:
                _log.warning("the repository cannot be read, and what is served stays: %s", error)
