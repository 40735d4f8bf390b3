"""The samples of `--data`: an archive of arrays, or a folder of pictures."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve import ModelDescription
from gradserve.cli import inputs
from gradserve.errors import InvalidTensor

PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

Arrays = dict[str, npt.NDArray[Any]]


def read(path: Path, description: ModelDescription) -> Arrays:
    """Samples for every input.

    Args:
        path: An .npz of one array for each input, as the model takes it (other arrays are passed over); an .npy for a model
            of one input; a folder of pictures for its one image input, or with a folder of pictures for each, by its name.
        description: Of the model.

    Raises:
        InvalidTensor: There is nothing of this kind there, or an input is not described.
        OSError: It cannot be read.
    """
    if path.is_dir():
        return _read_folder(path, description)
    names = [tensor.name for tensor in description.inputs]
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            if len(names) != 1:
                msg = f"data '{path}': expected an .npz with {', '.join(map(repr, names))}, got one array"
                raise InvalidTensor(msg)
            found = {names[0]: loaded}
        else:
            with loaded:
                found = {name: loaded[name] for name in loaded.files if name in names}
    except (ValueError, EOFError) as error:
        # NumPy's own text tells how to unpickle it, which runs whatever code is in it.
        msg = f"data '{path}': expected a folder, or an .npy or .npz of plain arrays, got what NumPy does not read as such"
        raise InvalidTensor(msg) from error
    for name in names:
        if name not in found:
            msg = f"data '{path}': expected an array '{name}', got none"
            raise InvalidTensor(msg)
    wanted = {tensor.name: tensor.dtype for tensor in description.inputs}
    # NumPy makes float64 unless told otherwise; models want float32.
    return {
        name: array.astype(np.float32) if (array.dtype, wanted[name]) == (np.float64, "float32") else array
        for name, array in found.items()
    }


def _read_folder(folder: Path, description: ModelDescription) -> Arrays:
    by_input = [tensor for tensor in description.inputs if (folder / tensor.name).is_dir()]
    if by_input:
        found: Arrays = {}
        for tensor in by_input:
            alone = replace(description, inputs=(tensor,))
            found |= inputs.read(alone, _pictures(folder / tensor.name), []).arrays
        return found
    return inputs.read(description, _pictures(folder), []).arrays


def _pictures(folder: Path) -> Sequence[Path]:
    found = sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURES)
    if not found:
        msg = f"data '{folder}': expected pictures ({', '.join(PICTURES)}), got none"
        raise InvalidTensor(msg)
    return found
