"""What a model takes, and whether what came fits."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gradserve.descriptions import TensorDescription
from gradserve.errors import InvalidTensor, UnknownInput
from gradserve.tensors import DTYPES
from gradserve_server.graph.values import shape_of
from gradserve_server.runtime.session import contiguous

_NAME_BY_ONNX = {row.onnx: row.name for row in DTYPES.values()}


def describe_tensor(value: ir.Value) -> TensorDescription:
    """An input or output of a graph, without image and labels."""
    return TensorDescription(value.name or "", dtype_name(value), shape_of(value) or ())


def dtype_name(value: ir.Value) -> str:
    """NumPy's name of a value's element type; "" where it is not known or does not travel."""
    return _NAME_BY_ONNX.get(int(value.dtype), "") if value.dtype is not None else ""


def check_feeds(inputs: Sequence[TensorDescription], given: Mapping[str, npt.ArrayLike]) -> dict[str, Any]:
    """Makes sure that arrays fit a model's inputs.

    Returns:
        The arrays as onnxruntime takes them.

    Raises:
        UnknownInput: A name that the model has not.
        InvalidTensor: An input is missing, of another type or shape, or two sizes that must agree do not.
    """
    known = {tensor.name for tensor in inputs}
    for name in given:
        if name not in known:
            msg = f"input '{name}': expected one of {', '.join(map(repr, sorted(known)))}"
            raise UnknownInput(msg)
    symbols: dict[str, tuple[int, str]] = {}
    feeds = {}
    for tensor in inputs:
        if tensor.name not in given:
            msg = f"input '{tensor.name}': expected {_spell(tensor.dtype, tensor.shape)}, got nothing"
            raise InvalidTensor(msg)
        try:
            array = np.asarray(given[tensor.name])
        except ValueError as error:
            msg = f"input '{tensor.name}': expected {_spell(tensor.dtype, tensor.shape)}, got lists that make no array"
            raise InvalidTensor(msg) from error
        _check(tensor, array, symbols)
        feeds[tensor.name] = contiguous(array)
    return feeds


def _check(tensor: TensorDescription, array: npt.NDArray[Any], symbols: dict[str, tuple[int, str]]) -> None:
    dtype = "string" if array.dtype.kind in "OU" else array.dtype.name
    fits = len(array.shape) == len(tensor.shape) and all(
        not isinstance(expected, int) or expected == got for expected, got in zip(tensor.shape, array.shape, strict=True)
    )
    if dtype != tensor.dtype or not fits:
        expected, got = _spell(tensor.dtype, tensor.shape), _spell(dtype, array.shape)
        msg = f"input '{tensor.name}': expected {expected}, got {got}"
        raise InvalidTensor(msg)
    for symbol, size in zip(tensor.shape, array.shape, strict=True):
        if not isinstance(symbol, str):
            continue
        first, name = symbols.setdefault(symbol, (size, tensor.name))
        if first != size:
            msg = f"input '{tensor.name}': expected {symbol}={first} as in input '{name}', got {symbol}={size}"
            raise InvalidTensor(msg)


def _spell(dtype: str, shape: Sequence[int | str | None]) -> str:
    return f"{dtype} [{','.join('?' if size is None else str(size) for size in shape)}]"
