"""Gives memory back once something large has been built: graphs refer to themselves in circles, and hold weights."""

import ctypes
import gc
import sys


def give_back() -> None:
    """Frees what nothing needs any more, and (with glibc) returns it to the operating system."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
