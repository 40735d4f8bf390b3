"""THE dtype table, and arrays to and from the wire. The server imports both from here."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve.errors import InvalidTensor
from gradserve.v1.tensor_pb2 import Tensor

__all__ = ["DTYPES", "DType", "add_named", "from_bytes", "from_wire", "named_from_wire", "to_buffer", "to_wire"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class DType:
    """One element type under each of its names."""

    name: str
    """NumPy's, and gradserve's on the wire."""
    onnx: int
    """`onnx.TensorProto.DataType`."""
    oip: str
    """In the Open Inference Protocol; Triton's configuration writes `TYPE_` before it."""
    bytes: int
    """Size of an element; 0 where elements differ."""

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype, little-endian.

        Raises:
            InvalidTensor: bfloat16, and `ml_dtypes` is not installed.
        """
        if self.name == "string":
            return np.dtype(object)
        if self.name == "bfloat16":
            try:
                import ml_dtypes  # type: ignore[import-not-found, unused-ignore]
            except ImportError:
                msg = "dtype bfloat16: needs the package ml_dtypes, which is not installed"
                raise InvalidTensor(msg) from None
            bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
            return bfloat16
        dtype: np.dtype[Any] = np.dtype(self.name)
        return dtype.newbyteorder("<")


DTYPES: dict[str, DType] = {
    row.name: row
    for row in (
        DType("bool", 9, "BOOL", 1),
        DType("uint8", 2, "UINT8", 1),
        DType("uint16", 4, "UINT16", 2),
        DType("uint32", 12, "UINT32", 4),
        DType("uint64", 13, "UINT64", 8),
        DType("int8", 3, "INT8", 1),
        DType("int16", 5, "INT16", 2),
        DType("int32", 6, "INT32", 4),
        DType("int64", 7, "INT64", 8),
        DType("float16", 10, "FP16", 2),
        DType("bfloat16", 16, "BF16", 2),
        DType("float32", 1, "FP32", 4),
        DType("float64", 11, "FP64", 8),
        DType("string", 8, "BYTES", 0),
    )
}


def to_wire(array: npt.ArrayLike, *, what: str = "tensor") -> Tensor:
    """An array as a message. Arguments and errors are those of `to_buffer`."""
    tensor = Tensor()
    _fill(tensor, array, what)
    return tensor


def from_wire(tensor: Tensor, *, what: str = "tensor") -> Array:
    """A message as an array: a read-only view of its bytes, without a copy (strings apart).

    Raises:
        InvalidTensor: An unknown dtype, or as `from_bytes`.
    """
    if tensor.dtype not in DTYPES:
        msg = f"{what}: expected one of the dtypes {', '.join(DTYPES)}, got {tensor.dtype!r}"
        raise InvalidTensor(msg)
    return from_bytes(tensor.data, DTYPES[tensor.dtype], tuple(tensor.shape), what=what)


def to_buffer(array: Array, *, what: str = "tensor") -> tuple[DType, memoryview]:
    """The type of an array and its elements, row by row: little-endian, or each string after its length in four bytes.

    Args:
        array: Elements of an object or text array must be str.
        what: How an error names the array.

    Returns:
        The bytes: a view, without a copy, of an array that has this form already.

    Raises:
        InvalidTensor: A dtype that does not travel.
    """
    if array.dtype.kind in "OU":
        return DTYPES["string"], memoryview(_pack_strings(array, what))
    if array.dtype.name not in DTYPES:
        msg = f"{what}: expected one of the dtypes {', '.join(DTYPES)}, got {array.dtype.name}"
        raise InvalidTensor(msg)
    dtype = DTYPES[array.dtype.name]
    return dtype, array.astype(dtype.numpy, copy=False).ravel().view(np.uint8).data


def from_bytes(data: bytes, dtype: DType, shape: tuple[int, ...], *, what: str = "tensor") -> Array:
    """The opposite of `to_buffer`: a read-only view of the bytes, without a copy (strings apart).

    Raises:
        InvalidTensor: A negative size, another number of bytes than dtype and shape ask for, or elements that dtype has not.
    """
    if any(size < 0 for size in shape):
        msg = f"{what}: expected sizes of 0 or more, got {list(shape)}"
        raise InvalidTensor(msg)
    if dtype.name == "string":
        return _unpack_strings(data, shape, what)
    expected = prod(shape) * dtype.bytes
    if len(data) != expected:
        msg = f"{what}: expected {expected} bytes for {dtype.name} {list(shape)}, got {len(data)}"
        raise InvalidTensor(msg)
    array = np.frombuffer(data, dtype=dtype.numpy)
    if dtype.name == "bool" and data and (largest := array.view(np.uint8).max()) > 1:
        # What C++ makes of such a bool is undefined.
        msg = f"{what}: expected bytes of 0 and 1 for bool, got {largest}"
        raise InvalidTensor(msg)
    return _shaped(array, shape, what)


def add_named(field: Any, arrays: Mapping[str, npt.ArrayLike]) -> None:
    """Adds arrays by name to a field of messages.

    In their place, because protobuf copies a message that is put into another: a call with 600 kB each way had four more
    copies of them.
    """
    for name, array in arrays.items():
        _fill(field.add(name=name).tensor, array, f"tensor '{name}'")


def named_from_wire(tensors: Any) -> dict[str, Array]:
    """Messages as arrays by name.

    Raises:
        InvalidTensor: As `from_wire`; or the same name twice.
    """
    arrays: dict[str, Array] = {}
    for entry in tensors:
        if entry.name in arrays:
            msg = f"tensor '{entry.name}': expected once, got twice"
            raise InvalidTensor(msg)
        arrays[entry.name] = from_wire(entry.tensor, what=f"tensor '{entry.name}'")
    return arrays


def _fill(tensor: Tensor, array: npt.ArrayLike, what: str) -> None:
    array = np.asarray(array)
    dtype, buffer = to_buffer(array, what=what)
    tensor.dtype, tensor.data = dtype.name, bytes(buffer)
    tensor.shape.extend(array.shape)


def _pack_strings(array: Array, what: str) -> bytes:
    packed = bytearray()
    for element in array.ravel().tolist():
        if not isinstance(element, str):
            msg = f"{what}: expected str elements, got {type(element).__name__}"
            raise InvalidTensor(msg)
        try:
            encoded = element.encode()
        except UnicodeEncodeError as error:
            msg = f"{what}: expected text that UTF-8 can hold, got {element!r}"
            raise InvalidTensor(msg) from error
        packed += len(encoded).to_bytes(4, "little") + encoded
    return bytes(packed)


def _unpack_strings(data: bytes, shape: tuple[int, ...], what: str) -> Array:
    elements: list[str] = []
    position = 0
    try:
        while position < len(data):
            end = position + 4 + int.from_bytes(data[position : position + 4], "little")
            if position + 4 > len(data) or end > len(data):
                msg = f"{what}: expected {end} bytes of strings, got {len(data)}"
                raise InvalidTensor(msg)
            elements.append(data[position + 4 : end].decode())
            position = end
    except UnicodeDecodeError as error:
        msg = f"{what}: expected UTF-8 strings, got other bytes at element {len(elements)}"
        raise InvalidTensor(msg) from error
    if len(elements) != prod(shape):
        msg = f"{what}: expected {prod(shape)} strings for shape {list(shape)}, got {len(elements)}"
        raise InvalidTensor(msg)
    return _shaped(np.array(elements, dtype=object), shape, what)


def _shaped(flat: Array, shape: tuple[int, ...], what: str) -> Array:
    try:
        return flat.reshape(shape)
    except ValueError as error:  # no elements, but sizes or a rank that NumPy cannot hold
        msg = f"{what}: expected a shape that an array can have, got {list(shape)}"
        raise InvalidTensor(msg) from error
