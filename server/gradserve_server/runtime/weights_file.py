"""Weights in a file without a name: resident while something reads them, and back to the system when nothing does.

What is served runs on copies of most weights, in the order that its kernels read: packed, or in blocks. The weights as the
model has them are then needed again only to make another plan. A file of our own, and not the model's: whoever writes into
that one would change served predictions, while this one has no name by which anybody could.
"""

import logging
import mmap
from tempfile import TemporaryFile

import numpy as np
import onnx_ir as ir

from gradserve_server.graph.weights import large_constants

_log = logging.getLogger(__name__)

WORTH_A_FILE = 16 * 2**20
"""Bytes from which on."""


class WeightsFile:
    """The large weights of a model, in a file that goes with the last of their arrays.

    Args:
        model: Its large constants are replaced by what reads the same from the file. Where no file can be written, or for
            so little that none is worth it, they stay where they are.
    """

    def __init__(self, model: ir.Model) -> None:
        self._map: mmap.mmap | None = None
        moved = {name: tensor for name, tensor in large_constants(model).items() if _is_plain(tensor)}
        if sum(tensor.nbytes for tensor in moved.values()) < WORTH_A_FILE:
            return
        try:
            self._map, places = _written(moved)
        except OSError as error:
            _log.warning("weights stay in memory: expected a temporary file to hold them, got: %s", error)
            return
        for name, tensor in moved.items():
            array = tensor.numpy()
            there = np.frombuffer(self._map, np.uint8, array.nbytes, places[name]).view(array.dtype).reshape(array.shape)
            model.graph.initializers[name].const_value = ir.Tensor(there, tensor.dtype, name=name)

    def let_go(self) -> None:
        """Gives back what is resident; what is read again comes back from the file."""
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


def _written(tensors: dict[str, ir.TensorProtocol]) -> tuple[mmap.mmap, dict[str, int]]:
    """The file, and where each begins."""
    places = {}
    with TemporaryFile(prefix="gradserve-") as file:
        for name, tensor in tensors.items():
            file.seek(-(-file.tell() // mmap.PAGESIZE) * mmap.PAGESIZE)
            places[name] = file.tell()
            file.write(np.ascontiguousarray(tensor.numpy()).view(np.uint8).data)
        file.flush()
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), places


def _is_plain(tensor: ir.TensorProtocol) -> bool:
    """Whether an array holds it as it is, in this machine's byte order."""
    return tensor.dtype.is_floating_point() and tensor.dtype.itemsize >= 1 and tensor.numpy().dtype.isnative
