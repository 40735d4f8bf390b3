"""What a model runs before anybody may call it: the samples of its configuration, and plans that it will need.

`model_warmup` is Triton's; a plan is asked for by our own parameter:

    parameters { key: "gradserve.warmup.objective" value { string_value: "logits:7" } }
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from gradserve.errors import GradserveError, InvalidModel
from gradserve.objectives import parse
from gradserve.tensors import DTYPES, from_bytes
from gradserve_server.graph.derivatives import Wanted
from gradserve_server.graph.objectives import heads
from gradserve_server.runtime.model import Model
from gradserve_server.runtime.session import Array
from gradserve_server.runtime.terms import resolved

OBJECTIVE = "gradserve.warmup.objective"
"""The key of objectives whose plans are made, as the command line writes them, separated by blanks."""

FOLDER = "warmup"
"""Where the files of samples are, in the model's folder."""

MAX_SAMPLE_BYTES = 2**30
"""Of one input: what a configuration may make a server allocate."""

_DTYPES = {"TYPE_STRING" if name == "string" else f"TYPE_{row.oip}": row for name, row in DTYPES.items()}


def warm_up(model: Model, folder: Path | None) -> None:
    """Runs what the model's configuration says.

    Args:
        model: Loaded, and not served yet.
        folder: Of the model; None: it has none.

    Raises:
        InvalidModel: A sample that the model does not take, or that fails.
    """
    for sample in model.config.model_warmup:
        where = f"model '{model.name}': config.pbtxt: model_warmup '{sample.name}'"
        try:
            feeds = model.check(_feeds(sample, bool(model.config.max_batch_size), folder))
            for _ in range(max(1, sample.count)):
                model.predict(feeds, ())
        except GradserveError as error:
            msg = f"{where}: {error}"
            raise InvalidModel(msg) from error
    if OBJECTIVE in model.config.parameters:
        for text in model.config.parameters[OBJECTIVE].string_value.split():
            try:
                _make_plan(model, text)
            except GradserveError as error:
                msg = f"model '{model.name}': config.pbtxt: parameter '{OBJECTIVE}': '{text}': {error}"
                raise InvalidModel(msg) from error


def _make_plan(model: Model, text: str) -> None:
    terms = resolved(model, parse(text, {layer.name: len(layer.shape) for layer in model.layers if layer.shape}))
    model.plan(Wanted(model.wrt((), terms.layers), heads(terms.of_layers)))


def _feeds(sample: Any, batched: bool, folder: Path | None) -> dict[str, Array]:
    size = max(1, sample.batch_size)
    if size > 1 and not batched:
        msg = f"batch_size: expected 1, because max_batch_size is 0, got {size}"
        raise InvalidModel(msg)
    feeds = {}
    for name, given in sample.inputs.items():
        one = _one(name, given, size, folder)
        feeds[name] = np.broadcast_to(one, (size, *one.shape)) if batched else one
    return feeds


def _one(name: str, given: Any, size: int, folder: Path | None) -> Array:
    """An input, for one sample of a batch of some size."""
    where, shape = f"input '{name}'", tuple(given.dims)
    kind = given.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[given.data_type].name
    row = _DTYPES.get(kind)
    if row is None or min(shape, default=1) < 0 or size * math.prod(shape) * (row.bytes or 8) > MAX_SAMPLE_BYTES:
        msg = (
            f"{where}: expected a data_type and dims of {MAX_SAMPLE_BYTES} bytes at most, got {kind} {size} x {list(shape)}"
        )
        raise InvalidModel(msg)
    match given.WhichOneof("input_data_type"):
        case "zero_data":
            return np.full(shape, "" if row.name == "string" else 0, row.numpy)
        case "random_data":
            return _random(shape, row.numpy)
        case "input_data_file":
            return from_bytes(_read(given.input_data_file, folder, where), row, shape, what=where)
    msg = f"{where}: expected zero_data, random_data or input_data_file, got none"
    raise InvalidModel(msg)


def _random(shape: tuple[int, ...], dtype: Any) -> Array:
    random, kind = np.random.default_rng(0), np.dtype(dtype).kind
    if kind in "biu":
        return random.integers(0, 2, shape).astype(dtype)
    if kind == "O":
        return np.full(shape, "", dtype)
    return random.random(shape).astype(dtype)


def _read(file: str, folder: Path | None, where: str) -> bytes:
    inside = folder.resolve() / FOLDER if folder is not None else None
    path = (inside / file).resolve() if inside is not None else None
    if inside is None or path is None or inside not in path.parents or not path.is_file():
        msg = f"{where}: expected a file '{file}' in the model's folder '{FOLDER}', got none"
        raise InvalidModel(msg)
    if path.stat().st_size > MAX_SAMPLE_BYTES:
        msg = f"{where}: expected at most {MAX_SAMPLE_BYTES} bytes in '{file}', got {path.stat().st_size}"
        raise InvalidModel(msg)
    return path.read_bytes()
