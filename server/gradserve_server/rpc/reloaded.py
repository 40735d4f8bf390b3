"""What is read from files again when they change, while the server runs."""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from gradserve_server.settings import SettingsError

_log = logging.getLogger(__name__)

T = TypeVar("T")
_Stamp = tuple[int, int, int] | None


class Reloaded(Generic[T]):
    """The value of files, as they were when it could be read last.

    Args:
        files: Looked at each time that somebody asks, which costs a microsecond or two for each.
        load: Reads them.

    Raises:
        SettingsError: As `load` does, the first time.
    """

    def __init__(self, files: Sequence[Path], load: Callable[[], T]) -> None:
        self._files, self._load = files, load
        self._lock = threading.Lock()
        self._stamps = self._look()
        self._value = load()

    def current(self) -> T:
        """The newest value that could be read. One that cannot be is logged once, and what was before stays."""
        with self._lock:
            # Taken before the files are read: what changes in between has another stamp the next time.
            stamps = self._look()
            if stamps != self._stamps:
                self._stamps = stamps
                try:
                    self._value = self._load()
                except SettingsError as error:
                    _log.error("%s; what was read before stays in force", error)
                else:
                    _log.info("read again: %s", ", ".join(map(str, self._files)))
            return self._value

    def _look(self) -> list[_Stamp]:
        return [_stamp(file) for file in self._files]


def _stamp(file: Path) -> _Stamp:
    """What changes with a file; None for one that is not there."""
    try:
        status = os.stat(file)  # noqa: PTH116 half the time of Path.stat
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
