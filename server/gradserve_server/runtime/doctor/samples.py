"""What the dynamic checks run on: given arrays, or random ones that the model takes."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gradserve.errors import GradserveError, InvalidTensor
from gradserve_server.graph.values import shape_of
from gradserve_server.runtime.feeds import check_feeds, describe_tensor
from gradserve_server.runtime.session import Array
from gradserve_server.runtime.verify import SIZES, has_floats, random_feeds

MADE_UP = 8
"""Samples where none are given, of a model with an open batch."""
_BATCH = re.compile("b|n|batch.*", re.IGNORECASE)
"""What people call the batch axis."""
RUN = 4
"""Samples of one run, where the batch is open: all layers of a network at once must fit into memory."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Arrays for every input."""

    arrays: dict[str, Array]
    count: int
    """Of samples; 1 where the inputs have no common batch axis."""
    given: bool
    fixed: int | None = None
    """The batch size that the model insists on; None for any."""
    batched: bool = True
    """Whether axis 0 of every input is the batch."""

    def first(self, count: int) -> dict[str, Array]:
        """The first samples: as many as are wanted, or as the model insists on."""
        count = self.fixed or count
        return {name: array[:count] for name, array in self.arrays.items()} if self.batched else self.arrays

    def runs(self) -> Iterator[dict[str, Array]]:
        """All samples, run by run."""
        size = self.fixed or RUN
        for start in range(0, self.count if self.batched else 1, size):
            yield {name: array[start : start + size] for name, array in self.arrays.items()} if self.batched else self.arrays


def given_samples(model: ir.Model, arrays: Mapping[str, npt.ArrayLike]) -> Samples:
    """Samples that somebody gave.

    A model of fixed batch size takes them batch by batch; what is left over is filled up with the first ones.

    Raises:
        InvalidTensor, UnknownInput: They do not fit the model, are none, or have NaN in them.
    """
    fixed, batched = _batch(model)
    tensors = [describe_tensor(value) for value in model.graph.inputs]
    opened = [
        tensor if fixed is None else type(tensor)(tensor.name, tensor.dtype, ("N", *tensor.shape[1:])) for tensor in tensors
    ]
    feeds = check_feeds(opened, arrays)
    for name, array in feeds.items():
        _check_numbers(name, array)
    count = min((len(array) for array in feeds.values() if array.ndim), default=1) if batched else 1
    if fixed is not None and count:
        wanted = -(-count // fixed) * fixed
        feeds = {name: np.resize(array, (wanted, *array.shape[1:])) for name, array in feeds.items()}
        count = wanted
    return Samples(feeds, count, given=True, fixed=fixed, batched=batched)


def _check_numbers(name: str, array: Array) -> None:
    """Infinity may mean something, as in a mask."""
    if not array.size:
        msg = f"input '{name}': expected samples, got an array of shape {list(array.shape)}"
        raise InvalidTensor(msg)
    unknown = int(np.isnan(array.astype(np.float64)).sum()) if has_floats(array) else 0
    if unknown:
        msg = f"input '{name}': expected numbers, got {unknown} NaN among its {array.size} values"
        raise InvalidTensor(msg)


def made_up_samples(model: ir.Model, run: Callable[[dict[str, Array]], object]) -> Samples | None:
    """Random samples of sizes that the model runs with; None where none are found.

    Args:
        model: Whose inputs they fit.
        run: Tries them.
    """
    fixed, batched = _batch(model)
    count = fixed if fixed is not None else MADE_UP if batched else 1
    for size in SIZES:
        try:
            feeds = random_feeds(model, size, count)
            run(feeds)
        except (GradserveError, ValueError, TypeError):
            continue
        return Samples(feeds, count, given=False, fixed=fixed, batched=batched)
    return None


def _is_called_batch(size: int | str | None) -> bool:
    return isinstance(size, str) and _BATCH.fullmatch(size) is not None


def _batch(model: ir.Model) -> tuple[int | None, bool]:
    """The batch size, if it is fixed, and whether axis 0 of every input is the batch."""
    shapes = [shape_of(value) or () for value in model.graph.inputs]
    firsts = {shape[0] if shape else "" for shape in shapes}
    if len(firsts) != 1 or (first := firsts.pop()) == "":
        return None, False
    others = [size for shape in shapes for size in shape[1:]]
    if any(map(_is_called_batch, others)) and not _is_called_batch(first):  # [T,N,C] of recurrent networks
        return None, False
    return (first, True) if isinstance(first, int) else (None, True)
