"""What becomes of memory that is freed: glibc keeps it for the next message, or gives it back to the operating system.

By itself it gives blocks from 128 KiB back at once, until it has seen a larger one freed; then it keeps all up to that size
(at most 32 MiB). What it gave back is got again page by page, for more than copying costs: 4.8 MB each way took 14 ms, and
7 ms where they were kept.
"""

import ctypes
import os
from contextlib import suppress

KEPT = 32 * 2**20
"""Bytes of the largest block that is kept, and half of what is kept free at the end of a heap: the most that glibc would go
to by itself."""

WORTH_GIVING_BACK = 2**20
"""Bytes from which on what a session frees is worth the time."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h

_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
"""Variables by which somebody has decided already."""


def keep_freed_memory() -> None:
    """Keeps blocks as large as messages are, from the start. For a process that does nothing but serve."""
    if os.environ.keys().isdisjoint(_SETTINGS):
        with suppress(AttributeError, OSError, TypeError):  # another C library
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(_MMAP_THRESHOLD, KEPT)
            mallopt(_TRIM_THRESHOLD, 2 * KEPT)


def give_back() -> None:
    """What was freed goes back to the operating system.

    A network of 96 MiB of matrices left 430 MiB behind, the making of ResNet-50's gradient 75.
    """
    with suppress(AttributeError, OSError, TypeError):  # another C library, or the interpreter is on its way out
        ctypes.CDLL(None).malloc_trim(0)


class GivesBack:
    """As the last attribute of something large: what its owner freed goes back to the operating system."""

    def __del__(self) -> None:
        give_back()
