"""Arrays and layers that requests name beside a model's inputs, checked against the model."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from gradserve.errors import InvalidTensor, TooLarge
from gradserve.tensors import DTYPES
from gradserve_server.graph.autodiff.names import tangent_name
from gradserve_server.runtime.model import Model
from gradserve_server.runtime.session import Array
from gradserve_server.runtime.tensors import contiguous


def tangents(model: Model, given: Mapping[str, npt.ArrayLike], feeds: dict[str, Array]) -> dict[str, Array]:
    """The directions as inputs of the graph.

    Raises:
        InvalidTensor: There are none, or one does not fit what it moves.
    """
    if not given:
        msg = "tangents: expected at least one, got none"
        raise InvalidTensor(msg)
    extra: dict[str, Array] = {}
    for name, start in zip(given, model.wrt(list(given), []), strict=True):
        shape = feeds[start].shape if start in feeds else model.layer_shapes([start], feeds)[start]
        extra[tangent_name(start)] = like("tangent", name, given[name], shape, model.dtype(start))
    return extra


def check_size(model: Model, layers: Sequence[str], feeds: dict[str, Array], most: float) -> None:
    """Refuses values that would take too much memory.

    Raises:
        TooLarge: They would take more than `most` bytes.
    """
    shapes = model.known_shapes(layers, feeds)
    size = sum(math.prod(shapes[layer]) * DTYPES[model.dtype(layer)].bytes for layer in layers if layer in shapes)
    if size > most:
        limit = f"at most {most:.0f} bytes of values in an answer (max_message_mib)"
        msg = f"layers: expected {limit}, got {size}; ask for fewer samples or layers at a time"
        raise TooLarge(msg)


def like(what: str, name: str, given: npt.ArrayLike, shape: tuple[int, ...], dtype: str) -> Array:
    """A cotangent or tangent, of the shape and type that it must have.

    Raises:
        InvalidTensor: It is none.
    """
    expected = f"{what} '{name}': expected {dtype} {list(shape)}"
    try:
        array = contiguous(np.asarray(given, dtype))
    except (TypeError, ValueError) as error:
        msg = f"{expected}, got something that is not numbers"
        raise InvalidTensor(msg) from error
    if array.shape != shape:
        msg = f"{expected}, got {list(array.shape)}"
        raise InvalidTensor(msg)
    return array
