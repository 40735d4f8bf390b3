"""Predictions from the wire and back: the only place that looks at what a ModelInferRequest holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve.errors import InvalidParameter, InvalidTensor
from gradserve.tensors import DTYPES, DType, from_bytes, to_buffer
from gradserve_server.rpc.oip.answer import Answer
from gradserve_server.rpc.oip.classification import classify
from gradserve_server.rpc.oip.contents import from_contents
from gradserve_server.rpc.oip.messages import message
from gradserve_server.rpc.oip.parameters import input_parameters, output_parameters, request_parameters
from gradserve_server.runtime.model import Model

Array = npt.NDArray[Any]

MAX_VERSION_DIGITS = 18
"""Of a version: what surely fits the int64 that Triton makes of it."""

BY_OIP: dict[str, DType] = {row.oip: row for row in DTYPES.values()}
"""The dtype table by the protocol's names."""


@dataclass(frozen=True)
class Asked:
    """What a request asks for."""

    inputs: dict[str, Array]
    outputs: tuple[str, ...]
    """Empty: all."""
    classes: Mapping[str, int]
    """By output: how many classes to name instead of the tensor."""
    timeout_us: int
    """How long it may wait before it is worked on; 0: as long as it takes."""


def check_version(version: str) -> str:
    """A version as requests name it.

    Raises:
        InvalidParameter: It is no whole number.
    """
    if version and not (version.isascii() and version.isdecimal() and len(version) <= MAX_VERSION_DIGITS):
        msg = f"model version: expected a whole number, or nothing for the latest, got '{version}'"
        raise InvalidParameter(msg)
    return version


def decode(request: Any) -> Asked:
    """What a `ModelInferRequest` asks for; the arrays are views of its bytes.

    Raises:
        InvalidTensor: An input whose elements do not fit its datatype and shape, or a name given twice.
        InvalidParameter: A parameter with a value that it cannot have.
        NotSupported: Shared memory.
    """
    parameters = request_parameters(request.parameters)
    outputs: dict[str, int] = {}
    for output in request.outputs:
        what = f"output '{output.name}'"
        _once(output.name, outputs, what)
        outputs[output.name] = output_parameters(output.parameters, what).get("classification", 0)
    classes = {name: count for name, count in outputs.items() if count}
    return Asked(_inputs(request), tuple(outputs), classes, parameters.get("timeout", 0))


def encode(request: Any, asked: Asked, model: Model, results: Mapping[str, Array]) -> Answer:
    """The answer to a request.

    Raises:
        InvalidParameter: An output whose classes were asked for is not of numbers.
        InvalidTensor: An output of a type that does not travel.
    """
    head = message("ModelInferResponse")(model_name=model.name, model_version=str(model.version), id=request.id)
    labels = {tensor.name: tensor.labels for tensor in model.description.outputs}
    contents = []
    for name, result in results.items():
        what, array = f"output '{name}'", np.asarray(result)
        if name in asked.classes:
            batched = bool(model.config.max_batch_size and array.ndim)
            array = classify(array, asked.classes[name], labels[name], batched=batched, what=what)
        dtype, content = to_buffer(array, what=what)
        head.outputs.add(name=name, datatype=dtype.oip, shape=array.shape)
        contents.append(content)
    return Answer(head, contents)


def _inputs(request: Any) -> dict[str, Array]:
    raw = list(request.raw_input_contents)
    if raw and len(raw) != len(request.inputs):
        msg = f"raw_input_contents: expected {len(request.inputs)} entries, one for each input, got {len(raw)}"
        raise InvalidTensor(msg)
    arrays: dict[str, Array] = {}
    for index, tensor in enumerate(request.inputs):
        what = f"input '{tensor.name}'"
        _once(tensor.name, arrays, what)
        input_parameters(tensor.parameters, what)
        if tensor.datatype not in BY_OIP:
            msg = f"{what}: expected one of the datatypes {', '.join(BY_OIP)}, got '{tensor.datatype}'"
            raise InvalidTensor(msg)
        dtype, shape = BY_OIP[tensor.datatype], tuple(tensor.shape)
        if not raw:
            arrays[tensor.name] = from_contents(tensor.contents, dtype, shape, what)
        elif tensor.HasField("contents"):
            msg = f"{what}: expected elements in raw_input_contents or in contents, got both"
            raise InvalidTensor(msg)
        else:
            arrays[tensor.name] = from_bytes(raw[index], dtype, shape, what=what)
    return arrays


def _once(name: str, seen: Mapping[str, Any], what: str) -> None:
    if name in seen:
        msg = f"{what}: expected once, got twice"
        raise InvalidTensor(msg)
