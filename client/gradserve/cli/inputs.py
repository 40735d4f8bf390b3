"""From files to the arrays that a model takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve import ModelDescription, TensorDescription, images
from gradserve.errors import InvalidTensor

_DESCRIBE = (
    "describe it in config.pbtxt, for example "
    'parameters {{ key: "gradserve.input.{name}.range" value {{ string_value: "0 1" }} }}, '
    "or give the array itself: --input {name}=FILE.npy"
)


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a model is asked about."""

    arrays: dict[str, npt.NDArray[Any]]
    """As the model takes them, with their batch axis."""
    sources: list[str]
    """What each sample is called: its file."""


def read(description: ModelDescription, pictures: Sequence[Path], arrays: Sequence[tuple[str, Path]]) -> Inputs:
    """Reads the files of `--image` and `--input`.

    Raises:
        InvalidTensor: No input that pictures could be for, or more than one; a file that holds no array.
        OSError: A file that cannot be read.
    """
    named = {name: _load_array(name, path, description) for name, path in arrays}
    sources = [str(path) for _, path in arrays[:1]]
    if pictures:
        tensor = image_input(description, taken=named.keys())
        assert tensor.image is not None
        size = images.picture_size(tensor)
        pixels = [images.load(path, tensor.image, size) for path in pictures]
        shapes = {array.shape for array in pixels}
        if len(shapes) > 1:
            msg = f"input '{tensor.name}': expected pictures of one size, because the model leaves it open, got several"
            raise InvalidTensor(msg)
        named[tensor.name] = tensor.image.normalize(np.stack(pixels))
        return Inputs(named, [str(path) for path in pictures])
    samples = max((len(array) for array in named.values() if array.ndim), default=0)
    return Inputs(named, [f"{source}[{i}]" for source in sources for i in range(samples)] if samples > 1 else sources)


def image_input(description: ModelDescription, taken: Any = ()) -> TensorDescription:
    """The one input that pictures are for.

    Raises:
        InvalidTensor: There is none whose pixels are described, or more than one.
    """
    free = [tensor for tensor in description.inputs if tensor.name not in taken]
    described = [tensor for tensor in free if tensor.image is not None]
    if len(described) == 1:
        return described[0]
    if described:
        names = ", ".join(repr(tensor.name) for tensor in described)
        msg = f"model '{description.name}': pictures could be for any of {names}; give all but one as --input NAME=FILE.npy"
        raise InvalidTensor(msg)
    msg = f"model '{description.name}': expected an input with an image description, got none"
    if free:
        msg += f"; if '{free[0].name}' takes pictures, {_DESCRIBE.format(name=free[0].name)}"
    raise InvalidTensor(msg)


def _load_array(name: str, path: Path, description: ModelDescription) -> npt.NDArray[Any]:
    try:
        array = np.load(path, allow_pickle=False)
    except ValueError as error:
        msg = f"input '{name}': expected a file of one array as numpy.save writes it, got '{path}': {error}"
        raise InvalidTensor(msg) from error
    if not isinstance(array, np.ndarray):
        msg = f"input '{name}': expected a file of one array as numpy.save writes it, got the archive '{path}'"
        raise InvalidTensor(msg)
    wanted = {tensor.name: tensor.dtype for tensor in description.inputs}.get(name)
    # NumPy makes float64 unless told otherwise; models want float32. Anything else is the caller's to decide.
    return array.astype(np.float32) if (array.dtype, wanted) == (np.float64, "float32") else array
