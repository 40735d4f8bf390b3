"""What a session keeps in memory, counted from its graph: arrays, and the copies of them that onnxruntime makes.

Arrays are handed to onnxruntime as they are, and shared by the sessions of a model (`Session`, `graph.tuning.blocked`).
Copies are its own: a matrix is packed for each product that reads it, and what is computed ahead from a constant is another.
An upper bound: what lies in a file (`runtime.weights_file`) is resident only while something reads it, and the session that
predicts only once it is used (`runtime.predictor`). Whatever is asked for next, it has its room.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from gradserve_server.graph.weights import constants

PACKED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators of ONNX whose constants are packed, a copy for each."""

LEFT_ALONE = frozenset({"Conv", "Gather"})
"""Operators that read a constant where it is: convolutions in blocks (com.microsoft.nchwc) are packed already."""


@dataclass(frozen=True)
class Footprint:
    """Of one session, or of one graph."""

    arrays: Mapping[int, int]
    """Bytes by address: other sessions may have the same."""
    copied: int = 0
    """Bytes of onnxruntime's own."""

    def __or__(self, other: "Footprint") -> "Footprint":
        """Of both."""
        return Footprint({**self.arrays, **other.arrays}, self.copied + other.copied)

    def beside(self, other: "Footprint") -> int:
        """Bytes that it adds where the other is in memory already."""
        return self.copied + sum(size for address, size in self.arrays.items() if address not in other.arrays)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.beside(NOTHING)


NOTHING = Footprint({})


def footprint(model: ir.Model, *, is_open: bool = True, is_packed: bool = True) -> Footprint:
    """Of a graph.

    Args:
        model: The graph.
        is_open: Whether a session runs it.
        is_packed: Whether that session may pack matrices.
    """
    arrays, copied = {}, 0
    for name, tensor in constants(model):
        if tensor.dtype is not ir.DataType.STRING:
            arrays[tensor.numpy().ctypes.data] = tensor.nbytes
        if is_open:
            nodes = [node for node, _ in model.graph.initializers[name].uses()]
            copied += tensor.nbytes * sum(_copies(node, is_packed) for node in nodes)
    return Footprint(arrays, copied)


def _copies(node: ir.Node, is_packed: bool) -> bool:
    if not node.domain and node.op_type in PACKED:
        return is_packed
    return node.op_type not in LEFT_ALONE
