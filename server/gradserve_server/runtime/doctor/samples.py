"""What the dynamic checks run on: given arrays, or random ones that the model takes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gradserve.errors import GradserveError, InvalidTensor
from gradserve_server.graph.doctor.batch import Batch, batch_of, has_no_batch
from gradserve_server.runtime.feeds import check_feeds, describe_tensor
from gradserve_server.runtime.session import Array
from gradserve_server.runtime.verify import SIZES, has_floats, random_feeds

MADE_UP = 8
"""Samples where none are given, of a model with an open batch."""
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
    called_batch: bool = False
    """Whether its name says so."""

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
    batch = batch_of(model.graph)
    fixed = batch.size if batch else None
    tensors = [describe_tensor(value) for value in model.graph.inputs]
    opened = [
        tensor if fixed is None else type(tensor)(tensor.name, tensor.dtype, ("N", *tensor.shape[1:])) for tensor in tensors
    ]
    feeds = check_feeds(opened, arrays)
    for name, array in feeds.items():
        _check_numbers(name, array)
    count = min((len(array) for array in feeds.values() if array.ndim), default=1) if batch else 1
    if fixed is not None and count:
        wanted = -(-count // fixed) * fixed
        feeds = {name: np.resize(array, (wanted, *array.shape[1:])) for name, array in feeds.items()}
        count = wanted
    return _samples(feeds, count, batch, given=True)


def _samples(feeds: dict[str, Array], count: int, batch: Batch | None, *, given: bool) -> Samples:
    if batch is None:
        return Samples(feeds, 1, given=given, batched=False)
    return Samples(feeds, count, given=given, fixed=batch.size, called_batch=batch.is_called_so)


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
    batch, none = batch_of(model.graph), has_no_batch(model.graph)
    for size in SIZES:
        count = (batch.size or MADE_UP) if batch else size if none else 1
        try:
            feeds = random_feeds(model, size, count)
            run(feeds)
        except (GradserveError, ValueError, TypeError):
            continue
        return _samples(feeds, count, batch, given=False)
    return None
