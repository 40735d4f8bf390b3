"""Regions of system shared memory as the stock client makes them."""

import itertools
import os
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tritonclient.utils import serialize_byte_tensor, shared_memory

_numbers = itertools.count()


@contextmanager
def region(triton, size, *, offset=0, name=None):
    """One of `size` bytes, registered with a server under the name that is given back: (name, handle)."""
    key = unused_key()
    handle = shared_memory.create_shared_memory_region(key, key, offset + size)
    name = name or key.removeprefix("/")
    try:
        triton.register_system_shared_memory(name, key, size, offset)
        yield name, handle
    finally:
        triton.unregister_system_shared_memory(name)
        shared_memory.destroy_shared_memory_region(handle)


def unused_key():
    """A key that nobody has."""
    return f"/gradserve-test-{os.getpid()}-{next(_numbers)}"


def file_of(key):
    """The file of a key."""
    return Path(f"/dev/shm{key}")


def put(handle, array, offset=0):
    """Writes a tensor, and returns its size in bytes."""
    data = array_bytes(array)
    handle._mpsm_handle.buf[offset : offset + len(data)] = data
    return len(data)


def get(handle, like, offset=0):
    """Reads a tensor like another as the stock client does."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return np.array(shared_memory.get_contents_as_numpy(handle, like.dtype, like.shape, offset))


def array_bytes(array):
    """A tensor on the wire, by the stock client."""
    if array.dtype != object:
        return array.tobytes()
    packed = serialize_byte_tensor(array)
    return packed.item() if packed.size else b""
