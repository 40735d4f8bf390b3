"""One tensor of a file: whether what it holds is what its type and sizes say, before anything is made of it."""

import math
import os
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from gradserve_server.graph.contained.files import Refused, open_inside

MAX_ELEMENTS = 2**63 - 1
"""onnxruntime and numpy count with 64 bits, sizes of 0 left aside."""

MAX_RANK = 64
"""numpy's."""

EXTERNAL_KEYS = ("location", "offset", "length", "checksum")

MAX_LOCATION = 1024
"""Characters of a file's name, which errors repeat."""

MEMORY_MARKER = "_ORT_MEM_ADDR_"
"""In the location of a tensor, onnxruntime takes the offset for an address in its memory."""

_FIELDS = {
    ir.DataType.FLOAT: ("float_data", 1),
    ir.DataType.COMPLEX64: ("float_data", 2),
    ir.DataType.DOUBLE: ("double_data", 1),
    ir.DataType.COMPLEX128: ("double_data", 2),
    ir.DataType.INT64: ("int64_data", 1),
    ir.DataType.UINT32: ("uint64_data", 1),
    ir.DataType.UINT64: ("uint64_data", 1),
    ir.DataType.STRING: ("string_data", 1),
}
"""The field that holds a type's values if `raw_data` does not, and its entries for each value; others have `int32_data`."""


@dataclass(frozen=True)
class External:
    """Where the bytes of a tensor are."""

    location: str
    offset: int


def nbytes(tensor: onnx.TensorProto) -> int:
    """The bytes of a tensor by its type and sizes; of strings, those that it holds.

    Raises:
        Refused: There is no such type, or are no such sizes.
    """
    name, dims = tensor.name, tensor.dims
    if tensor.data_type not in ir.DataType._value2member_map_ or tensor.data_type == ir.DataType.UNDEFINED:
        msg = f"tensor '{name}' of the unknown type {tensor.data_type}"
        raise Refused(msg)
    if len(dims) > MAX_RANK or any(dim < 0 for dim in dims) or math.prod(max(dim, 1) for dim in dims) > MAX_ELEMENTS:
        msg = f"tensor '{name}' of the impossible sizes {list(dims[: MAX_RANK + 1])}"
        raise Refused(msg)
    dtype = ir.DataType(tensor.data_type)
    if dtype is ir.DataType.STRING:
        return sum(map(len, tensor.string_data))
    return math.ceil(math.prod(dims) * dtype.bitwidth / 8) if dtype.bitwidth < 8 else math.prod(dims) * dtype.bitwidth // 8


def check_held(tensor: onnx.TensorProto) -> None:
    """Checks that a tensor holds as many values as its sizes say.

    Raises:
        Refused: It does not.
    """
    dtype = ir.DataType(tensor.data_type)
    if tensor.HasField("raw_data"):
        expected, got, unit = nbytes(tensor), len(tensor.raw_data), "bytes"
        if dtype is ir.DataType.STRING:
            msg = f"tensor '{tensor.name}' of strings as bytes"
            raise Refused(msg)
    else:
        field, entries = _FIELDS.get(dtype, ("int32_data", 1))
        packed = 8 // dtype.bitwidth if dtype is not ir.DataType.STRING and dtype.bitwidth in (2, 4) else 1
        expected, got, unit = -(-math.prod(tensor.dims) * entries // packed), len(getattr(tensor, field)), field
    if expected != got:
        msg = f"tensor '{tensor.name}' of the sizes {list(tensor.dims)} with {got} instead of {expected} {unit}"
        raise Refused(msg)


def external(tensor: onnx.TensorProto) -> External:
    """Where a tensor says that its bytes are.

    Raises:
        Refused: It says so in keys or numbers that there are not, or means memory.
    """
    given = {entry.key: entry.value for entry in tensor.external_data}
    if unknown := sorted(given.keys() - set(EXTERNAL_KEYS)):
        msg = f"'{unknown[0]}' in the external data of '{tensor.name}', not one of {', '.join(EXTERNAL_KEYS)}"
        raise Refused(msg)
    location = given.get("location", "")
    if len(location) > MAX_LOCATION:
        raise Refused(str(len(location)), f"the place of a tensor in at most {MAX_LOCATION} characters")
    if MEMORY_MARKER in location:
        msg = f"an address in memory as the external data of '{tensor.name}'"
        raise Refused(msg)
    if ir.DataType(tensor.data_type) is ir.DataType.STRING:
        msg = f"tensor '{tensor.name}' of strings as external data"
        raise Refused(msg)
    offset, length = (_number(tensor.name, key, given.get(key)) for key in ("offset", "length"))
    expected = nbytes(tensor)
    if length not in (None, expected):
        msg = f"{length} instead of {expected} bytes of external data of '{tensor.name}'"
        raise Refused(msg)
    return External(location, offset or 0)


def _number(name: str, key: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= MAX_ELEMENTS):
        msg = f"the {key} '{text[:40]}' of the external data of '{name}'"
        raise Refused(msg)
    return int(text)


def _size(file: FileIO) -> int:
    return file.seek(0, os.SEEK_END)


def read_external(folder: Path, tensor: ir.ExternalTensor) -> ir.TensorProtocol:
    """Reads a tensor from another file.

    Raises:
        Refused: The file is none of the folder's (see `open_inside`), or ends before the tensor does.
    """
    buffer = np.empty(tensor.nbytes, np.uint8)
    with open_inside(folder, str(tensor.location)) as file:
        size, offset = _size(file), tensor.offset or 0
        if size - offset < buffer.nbytes:
            msg = f"{max(size - offset, 0)} of {buffer.nbytes} bytes of it in '{tensor.location}'"
            raise Refused(msg)
        file.seek(offset)
        rest = memoryview(buffer.data)
        while rest and (count := file.readinto(rest)):
            rest = rest[count:]
        if rest:
            msg = f"a file '{tensor.location}' that became shorter while it was read"
            raise Refused(msg)
    shape = tensor.shape.numpy()
    if tensor.dtype.bitwidth < 8:  # several values to a byte
        packed = onnx.TensorProto(dims=shape, data_type=tensor.dtype, raw_data=buffer.tobytes())
        return ir.Tensor(ir.from_proto(packed).numpy(), dtype=tensor.dtype, name=tensor.name)
    array = buffer.view(tensor.dtype.numpy().newbyteorder("<")).reshape(shape)
    return ir.Tensor(array, dtype=tensor.dtype, name=tensor.name)
