"""Where the command keeps how far its ascents are: a zip archive with one checkpoint for each objective."""

import os
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile

from gradserve import Checkpoint
from gradserve.errors import InvalidAscent

_SECONDS = 1.0
"""Between two writes, while ascents run."""


def read(path: Path) -> dict[str, Checkpoint]:
    """The checkpoints in a file, by objective.

    Raises:
        OSError: The file cannot be read.
        InvalidAscent: It is something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: Checkpoint.from_bytes(archive.read(name)) for name in archive.namelist()}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        msg = f"{path}: expected a file that --checkpoint has written, got something else: {error}"
        raise InvalidAscent(msg) from error


def write(path: Path, checkpoints: Mapping[str, Checkpoint]) -> None:
    """Writes them all, or leaves what was there."""
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        temporary = Path(file.name)
    try:
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, checkpoint in checkpoints.items():
                archive.writestr(zipfile.ZipInfo(name), checkpoint.to_bytes())
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink()
        raise


class Keeper:
    """Writes checkpoints as they come, but not too often.

    Args:
        path: The file; None keeps nothing.
        known: What is in it already.
    """

    def __init__(self, path: Path | None, known: Mapping[str, Checkpoint]) -> None:
        self.path = path
        self._checkpoints = dict(known)
        self._new = False
        self._written = -_SECONDS

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to go on from."""
        return not self._checkpoints

    def take(self, name: str, checkpoint: Checkpoint | None) -> None:
        """The latest of an objective."""
        if checkpoint is None:
            return
        self._checkpoints[name] = checkpoint
        self._new = True
        if time.monotonic() >= self._written + _SECONDS:
            self.write()

    def write(self) -> None:
        """Writes what is not written yet."""
        if self.path is not None and self._new:
            write(self.path, self._checkpoints)
            self._written, self._new = time.monotonic(), False
