"""System shared memory: the regions that clients have registered, read and written as files and never mapped.

Whoever maps a file that another process makes shorter is killed (SIGBUS) by the pages that are gone, and what another
process may write can change between a check and its use. So a tensor is copied, by one `pread` or `pwrite`, which is an
error where the file has become too short (docs/adr/0015-shared-memory.md).
"""

import os
import stat
import threading
import weakref
from dataclasses import dataclass
from typing import NamedTuple

from gradserve.errors import InvalidParameter, LimitExceeded, NotSupported, RegionExists, RegionNotFound, TooLarge

FOLDER = "/dev/shm"
"""Where Linux keeps POSIX shared memory: the key `/name` is the file `name`."""

MAX_REGIONS = 256
"""Registered at a time. Each is an open file."""

MAX_NAME = 256
"""Characters of a region's name."""


_SHORTER = "the shared memory has become shorter than when it was registered"


class Place(NamedTuple):
    """Where a request says that a tensor is, or should go."""

    region: str
    offset: int
    """From the beginning of the region, in bytes."""
    size: int
    """In bytes."""


@dataclass(frozen=True, eq=False)
class Region:
    """A part of a file in shared memory. The file is closed when nobody uses the region any more."""

    name: str
    key: str
    offset: int
    """In the file, in bytes."""
    byte_size: int
    descriptor: int
    """Of the open file."""

    def __post_init__(self) -> None:
        weakref.finalize(self, os.close, self.descriptor)


@dataclass(frozen=True)
class Part:
    """A part of a region, which it keeps open."""

    region: Region
    place: Place
    what: str
    """How an error names what is there."""

    def read(self) -> bytes:
        """A copy of what is there now.

        Raises:
            InvalidParameter: The file has become too short, or cannot be read.
        """
        pieces: list[bytes] = []
        position, end = self._span()
        try:
            while position < end and (piece := os.pread(self.region.descriptor, end - position, position)):
                pieces.append(piece)
                position += len(piece)
        except OSError as error:
            msg = self._cannot("read", error.strerror)
            raise InvalidParameter(msg) from error
        if position < end:
            raise InvalidParameter(self._cannot("read", _SHORTER))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def check(self, content: memoryview) -> None:
        """Makes sure that a tensor has room there.

        Raises:
            InvalidParameter: It has not.
        """
        if len(content) > self.place.size:
            expected = f"expected at least {len(content)} bytes, which the tensor needs, got {self.place.size}"
            msg = f"{self.what}: parameter 'shared_memory_byte_size': {expected}"
            raise InvalidParameter(msg)

    def write(self, content: memoryview) -> None:
        """Copies a tensor there. What follows it stays as it was.

        Raises:
            InvalidParameter: It has no room, the file has become too short, or cannot be written.
        """
        self.check(content)
        position, _ = self._span()
        try:
            # A write beyond its end would make the file longer.
            if os.fstat(self.region.descriptor).st_size < position + len(content):
                raise InvalidParameter(self._cannot("write", _SHORTER))
            while content:
                written = os.pwrite(self.region.descriptor, content, position)
                position, content = position + written, content[written:]
        except OSError as error:
            msg = self._cannot("write", error.strerror)
            raise InvalidParameter(msg) from error

    def _span(self) -> tuple[int, int]:
        begin = self.region.offset + self.place.offset
        return begin, begin + self.place.size

    def _cannot(self, verb: str, why: str | None) -> str:
        region, offset, size = self.place
        return f"{self.what}: cannot {verb} {size} bytes at {offset} of shared memory region '{region}': {why}"


class SharedMemory:
    """The regions by name. Safe to use from many threads at once.

    Args:
        allowed: Whether clients may use shared memory at all.
        max_bytes: Of all regions together.
        max_request_bytes: Of the inputs of one request together.
    """

    def __init__(self, *, allowed: bool, max_bytes: int, max_request_bytes: int) -> None:
        self.allowed = allowed
        self._max_bytes, self._max_request_bytes = max_bytes, max_request_bytes
        self._regions: dict[str, Region] = {}
        self._changing = threading.Lock()

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Opens a region.

        Args:
            name: What requests will call it.
            key: Of POSIX shared memory that is there.
            offset: Where in it the region begins.
            byte_size: Its length.

        Raises:
            NotSupported: Shared memory is not allowed.
            InvalidParameter: No such shared memory, or it is shorter, or a name or key that cannot be.
            RegionExists: The name is taken.
            LimitExceeded: Too many regions, or too large.
        """
        self._check_allowed()
        what = f"shared memory region '{name}'"
        _check_names(name, key)
        with self._changing:
            if name in self._regions:
                msg = f"{what}: expected a name that is not registered yet; unregister it first"
                raise RegionExists(msg)
            if len(self._regions) >= MAX_REGIONS:
                msg = f"{what}: at most {MAX_REGIONS} regions at a time on this server; unregister another first"
                raise LimitExceeded(msg)
            taken = sum(region.byte_size for region in self._regions.values())
            if taken + byte_size > self._max_bytes:
                limit = f"at most {self._max_bytes} bytes of regions on this server (max_shared_memory_mib)"
                msg = f"{what}: {limit}, {taken} are taken, got {byte_size}"
                raise LimitExceeded(msg)
            region = Region(name, key, offset, byte_size, _open(key, what))
            _check_size(region, what)
            self._regions[name] = region

    def unregister(self, name: str) -> None:
        """Forgets a region, or all of them if the name is empty; one that is not there is forgotten already.

        Requests that are using it keep it open until they end.
        """
        self._check_allowed()
        with self._changing:
            for each in [name] if name else list(self._regions):
                self._regions.pop(each, None)

    def registered(self, name: str) -> list[Region]:
        """A region, or all of them if the name is empty.

        Raises:
            NotSupported: Shared memory is not allowed.
            RegionNotFound: No region of that name.
        """
        self._check_allowed()
        with self._changing:
            return [self._region(name)] if name else list(self._regions.values())

    def part(self, place: Place, what: str) -> Part:
        """Where a tensor is, or should go.

        Args:
            place: What the request says.
            what: How an error names the tensor.

        Raises:
            NotSupported: Shared memory is not allowed.
            RegionNotFound: No region of that name.
            InvalidParameter: Outside of the region.
        """
        self._check_allowed(f"{what}: ")
        with self._changing:
            region = self._region(place.region, f"{what}: ")
        if place.offset + place.size > region.byte_size:
            msg = (
                f"{what}: expected a place within shared memory region '{region.name}' of {region.byte_size} bytes, "
                f"got {place.size} bytes at {place.offset}"
            )
            raise InvalidParameter(msg)
        return Part(region, place, what)

    def check_request(self, size: int) -> None:
        """Makes sure that a request does not have more bytes read than one that brings them in its message.

        Raises:
            TooLarge: It has.
        """
        if size > self._max_request_bytes:
            msg = f"inputs: at most {self._max_request_bytes} bytes of a request in shared memory, got {size}"
            raise TooLarge(msg)

    def close(self) -> None:
        """Forgets all regions."""
        with self._changing:
            self._regions.clear()

    def _region(self, name: str, where: str = "") -> Region:
        if name not in self._regions:
            msg = f"{where}shared memory region '{name}': expected one that is registered"
            raise RegionNotFound(msg)
        return self._regions[name]

    def _check_allowed(self, where: str = "") -> None:
        if not self.allowed:
            msg = f"{where}this server does not do shared memory (--allow-shared-memory); send tensors in the message"
            raise NotSupported(msg)


def _check_names(name: str, key: str) -> None:
    if not 0 < len(name) <= MAX_NAME:
        msg = f"shared memory region: expected a name of 1 to {MAX_NAME} characters, got {len(name)}"
        raise InvalidParameter(msg)
    file = key.removeprefix("/")
    if file in {"", ".", ".."} or "/" in file or "\0" in file:
        msg = f"shared memory region '{name}': expected a key like '/name', without another slash, got {key!r}"
        raise InvalidParameter(msg)


def _open(key: str, what: str) -> int:
    """The descriptor of a file; it must be there, and is not followed to anywhere else."""
    try:
        return os.open(f"{FOLDER}/{key.removeprefix('/')}", os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        msg = f"{what}: expected a key of shared memory that this server may read and write, got '{key}': {error.strerror}"
        raise InvalidParameter(msg) from error


def _check_size(region: Region, what: str) -> None:
    status = os.fstat(region.descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        msg = f"{what}: expected the key of shared memory itself, got '{region.key}', which is a link or no memory"
        raise InvalidParameter(msg)
    if not 0 < region.byte_size <= status.st_size - region.offset:
        msg = (
            f"{what}: expected offset and byte_size within the {status.st_size} bytes of '{region.key}', "
            f"got {region.byte_size} bytes at {region.offset}"
        )
        raise InvalidParameter(msg)
