"""Messages with large tensors as bytes for the wire, so that each tensor is copied once: from where it is to the message.

protobuf copies it three times (into bytes, into the message, into the serialized message). What it writes of a field of
bytes, or of a message, is simple: the field's tag, the length as a varint, and the bytes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

from gradserve.tensors import to_buffer
from gradserve.v1.tensor_pb2 import NamedTensor, Tensor

Part = bytes | memoryview

_LENGTH_DELIMITED = 2
"""The wire type of bytes and messages."""


def with_named(message: Message, **fields: Mapping[str, npt.ArrayLike]) -> bytes:
    """A serialized message, with arrays by name in fields of `NamedTensor` that it has still empty.

    Raises:
        InvalidTensor: A dtype that does not travel.
    """
    parts: list[Part] = [message.SerializeToString()]
    for field, arrays in fields.items():
        number = message.DESCRIPTOR.fields_by_name[field].number
        for name, array in arrays.items():
            parts += delimited(number, _named(name, np.asarray(array)))
    return b"".join(parts)


def serialized(message: Message | bytes) -> bytes:
    """As it goes over the wire, if it is not such bytes already."""
    return message if isinstance(message, bytes) else message.SerializeToString()


def delimited(number: int, parts: Sequence[Part]) -> list[Part]:
    """A field of bytes or of a message, whose value is in parts."""
    tag = varint(number << 3 | _LENGTH_DELIMITED)
    return [tag + varint(sum(map(len, parts))), *parts]


def varint(value: int) -> bytes:
    """Seven bits at a time, the lowest first; the eighth says that more come."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _named(name: str, array: npt.NDArray[Any]) -> list[Part]:
    dtype, content = to_buffer(array, what=f"tensor '{name}'")
    head = Tensor(dtype=dtype.name, shape=array.shape).SerializeToString()
    tensor = [head, *delimited(Tensor.DATA_FIELD_NUMBER, [content])]
    return [NamedTensor(name=name).SerializeToString(), *delimited(NamedTensor.TENSOR_FIELD_NUMBER, tensor)]
