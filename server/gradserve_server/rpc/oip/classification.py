"""The extension `classification`: the largest elements of each sample as text, instead of a tensor."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve.errors import InvalidParameter


def classify(
    array: npt.NDArray[Any], count: int, labels: Sequence[str], *, batched: bool, what: str
) -> npt.NDArray[np.object_]:
    """The `count` largest elements of each sample, the largest first.

    Args:
        array: An output.
        count: How many; all of them where the sample has fewer. What is no number (NaN) is smaller than every number.
        labels: What each index means; an index without one goes without.
        batched: Whether the first axis counts samples; otherwise the array is one.
        what: How an error names the output.

    Returns:
        `value:index:label` as [samples, count], or [count] where the array is one sample.

    Raises:
        InvalidParameter: The output is not of numbers.
    """
    if array.dtype.name == "bfloat16":  # which NumPy by itself takes for no number
        array = array.astype(np.float32)
    if array.dtype.kind not in "iuf":
        dtype = "string" if array.dtype.kind == "O" else array.dtype.name
        msg = f"{what}: parameter 'classification': expected an output of numbers, got {dtype}"
        raise InvalidParameter(msg)
    shape = (len(array), prod(array.shape[1:])) if batched else (1, array.size)
    rows = [_row(sample, count, labels) for sample in array.reshape(shape)]
    named = np.array(rows, object).reshape(shape[0], min(count, shape[1]))
    return named if batched else named[0]


def _row(sample: npt.NDArray[Any], count: int, labels: Sequence[str]) -> list[str]:
    # From behind and turned around: among equals the first index comes first.
    order = len(sample) - 1 - np.argsort(sample[::-1], kind="stable")[::-1]
    order = np.roll(order, -np.isnan(sample).sum())  # which NumPy takes for the largest
    kind = "d" if sample.dtype.kind in "iu" else "f"
    return [f"{sample[i].item():{kind}}:{i}" + (f":{labels[i]}" if i < len(labels) else "") for i in order[:count]]
