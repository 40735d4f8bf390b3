"""Files that a stranger made or named: regular ones, within a size, and where a model names them, within its folder."""

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path

MIB = 2**20

ELSEWHERE = "another place"

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # opening a FIFO must not wait for its writer


class Refused(Exception):
    """What is not read, and why.

    Args:
        got: What was found.
        expected: What was expected; empty where whoever reads knows better.
    """

    def __init__(self, got: str, expected: str = "") -> None:
        super().__init__(got)
        self.expected = expected


def read_whole(path: Path, most: int) -> bytes:
    """A file's bytes, read once. Whoever offers the file may have made it a link.

    Raises:
        Refused: No regular file, or one of more than `most` bytes.
        OSError: It cannot be read.
    """
    with FileIO(os.open(path, _READ), "rb") as file:
        return _read_all(file, most)


def read_inside(folder: Path, name: str, most: int) -> bytes:
    """As `read_whole`, of a file that is opened by `open_inside`."""
    with open_inside(folder, name) as file:
        return _read_all(file, most)


@contextmanager
def open_inside(folder: Path, name: str) -> Iterator[FileIO]:
    """Opens a file that a model or its configuration names.

    Links may lead from place to place within the folder (Kubernetes mounts its files so), not out of it. From the resolved
    folder on, each step is opened in the one before without following links: what changes meanwhile is refused, too.

    Args:
        folder: That nothing may leave.
        name: Relative to it.

    Raises:
        Refused: The place is outside of the folder, there is no regular file, or the file has a second name (a hard link),
            which may be a secret elsewhere.
    """
    with ExitStack() as opened:
        try:
            *parents, last = _steps(folder, name)
            where = os.open(folder.resolve(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, where)
            for parent in parents:
                where = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=where)
                opened.callback(os.close, where)
            file = opened.enter_context(FileIO(os.open(last, _READ | os.O_NOFOLLOW, dir_fd=where), "rb"))
        except FileNotFoundError as error:
            msg = f"no file '{name}'"
            raise Refused(msg) from error
        except (OSError, RuntimeError, ValueError) as error:  # a circle of links is a RuntimeError, a NUL a ValueError
            msg = f"'{name}', which cannot be opened: {getattr(error, 'strerror', None) or error}"
            raise Refused(msg) from error
        if (links := _regular(file).st_nlink) > 1:
            msg = f"'{name}', which has {links} hard links: copy it"
            raise Refused(msg)
        yield file


def _steps(folder: Path, name: str) -> tuple[str, ...]:
    """The way from the resolved folder to the file, free of links for now."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise Refused(ELSEWHERE)
    folder, file = folder.resolve(), (folder / name).resolve()
    if folder not in file.parents:
        raise Refused(ELSEWHERE)
    return file.relative_to(folder).parts


def _regular(file: FileIO) -> os.stat_result:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        msg = "something that is no regular file"
        raise Refused(msg)
    return status


def _read_all(file: FileIO, most: int) -> bytes:
    if (size := _regular(file).st_size) > most:
        raise Refused(str(size), f"at most {most} bytes")
    content = file.read()
    if len(content) > most:  # it grew
        raise Refused(str(len(content)), f"at most {most} bytes")
    return content
