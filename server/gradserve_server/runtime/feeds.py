"""What a model takes, and whether what came fits."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gradserve.descriptions import TensorDescription
from gradserve.errors import InvalidTensor, UnknownInput
from gradserve.tensors import DTYPES
from gradserve_server.graph.values import shape_of
from gradserve_server.runtime.tensors import contiguous

_NAME_BY_ONNX = {row.onnx: row.name for row in DTYPES.values()}


def describe_tensor(value: ir.Value) -> TensorDescription:
    """An input or output of a graph, without image and labels."""
    return TensorDescription(value.name or "", dtype_name(value), shape_of(value) or ())


def dtype_name(value: ir.Value) -> str:
    """NumPy's name of a value's element type; "" where it is not known or does not travel."""
    return _NAME_BY_ONNX.get(int(value.dtype), "") if value.dtype is not None else ""


CRASH_ON_EMPTY = frozenset({"DFT", "GRU", "GridSample", "LSTM", "RNN", "Unique"})
"""Operators with which onnxruntime 1.19 ends the process where an axis has size 0 (tests/support/hostile.py)."""


def crashes_on_empty(model: ir.Model) -> str:
    """The first operator of a model that must not see an axis of size 0; "" for none."""
    return next((node.op_type for node in model.graph.all_nodes() if node.op_type in CRASH_ON_EMPTY), "")


def check_feeds(
    inputs: Sequence[TensorDescription], given: Mapping[str, npt.ArrayLike], not_empty_for: str = ""
) -> dict[str, Any]:
    """Makes sure that arrays fit a model's inputs.

    Args:
        inputs: What the model takes.
        given: Arrays by name.
        not_empty_for: An operator because of which no axis may have size 0.

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
        if not_empty_for and 0 in array.shape:
            got = list(array.shape)
            msg = f"input '{tensor.name}': expected no axis of size 0, because of operator {not_empty_for}, got {got}"
            raise InvalidTensor(msg)
        feeds[tensor.name] = contiguous(array)
    return feeds


def _check(tensor: TensorDescription, array: npt.NDArray[Any], symbols: dict[str, tuple[int, str]]) -> None:
    dtype = _name(array.dtype)
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


@lru_cache(64)
def _name(dtype: np.dtype[Any]) -> str:
    """NumPy takes a few microseconds to find it."""
    return "string" if dtype.kind in "OU" else dtype.name


def _spell(dtype: str, shape: Sequence[int | str | None]) -> str:
    return f"{dtype} [{','.join('?' if size is None else str(size) for size in shape)}]"
