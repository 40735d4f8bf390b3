"""Tensors as lists of numbers (`InferTensorContents`), for clients that do not send raw bytes."""

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve.errors import InvalidTensor
from gradserve.tensors import DType

FIELDS = {
    "bool": "bool_contents",
    "int8": "int_contents",
    "int16": "int_contents",
    "int32": "int_contents",
    "int64": "int64_contents",
    "uint8": "uint_contents",
    "uint16": "uint_contents",
    "uint32": "uint_contents",
    "uint64": "uint64_contents",
    "float32": "fp32_contents",
    "float64": "fp64_contents",
    "string": "bytes_contents",
}
"""Where the elements of each type are. float16 and bfloat16 have no field: they travel raw only."""


def from_contents(contents: Any, dtype: DType, shape: tuple[int, ...], what: str) -> npt.NDArray[Any]:
    """The elements as an array.

    Raises:
        InvalidTensor: In another field than the type has, another number than the shape asks for, or out of range.
    """
    if dtype.name not in FIELDS:
        msg = f"{what}: expected {dtype.oip} in raw_input_contents, which alone can hold it, got contents"
        raise InvalidTensor(msg)
    field = FIELDS[dtype.name]
    for other, _ in contents.ListFields():
        if other.name != field:
            msg = f"{what}: expected {dtype.oip} in {field}, got {other.name}"
            raise InvalidTensor(msg)
    elements = list(getattr(contents, field))
    if any(size < 0 for size in shape) or len(elements) != prod(shape):
        msg = f"{what}: expected elements for shape {list(shape)}, got {len(elements)}"
        raise InvalidTensor(msg)
    if elements and dtype.numpy.kind in "iu":
        limits = np.iinfo(dtype.numpy)
        for element in (min(elements), max(elements)):
            if not limits.min <= element <= limits.max:
                msg = f"{what}: expected elements from {limits.min} to {limits.max} for {dtype.oip}, got {element}"
                raise InvalidTensor(msg)
    try:
        if dtype.name == "string":
            elements = [element.decode() for element in elements]
        return np.array(elements, dtype.numpy).reshape(shape)
    except UnicodeDecodeError as error:
        msg = f"{what}: expected UTF-8 strings, got other bytes"
        raise InvalidTensor(msg) from error
    except ValueError as error:  # no elements, but sizes or a rank that NumPy cannot hold
        msg = f"{what}: expected a shape that an array can have, got {list(shape)}"
        raise InvalidTensor(msg) from error
