"""How much memory a process takes for what it does, apart from the libraries that it has loaded."""

import ctypes
import gc
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def settle() -> None:
    """What was freed goes back to the system: no count begins with another's leavings, or includes those of set-up."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


class Memory:
    """Counts from where it is made: make it once the libraries are loaded, before the model is."""

    def __init__(self) -> None:
        self._start = _field("VmRSS")

    def restart(self) -> None:
        """Forgets the peak so far (of loading and compiling)."""
        _CLEAR.write_text("5")

    def peak(self) -> int:
        """The largest resident size since `restart`, in bytes above the start: weights, activations, buffers."""
        return _field("VmHWM") - self._start


def _field(name: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024
