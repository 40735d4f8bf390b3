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
from gradserve_server.rpc.oip.parameters import output_parameters, request_parameters, tensor_place
from gradserve_server.rpc.oip.shared_memory import Part, SharedMemory
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
    """How long it would wait for its turn; 0: as long as it takes."""
    priority: int
    """1 is the highest; 0: the model's default."""
    parts: Mapping[str, Part]
    """By output: where in shared memory it goes instead of the message."""


def check_version(version: str) -> str:
    """A version as the engine names it; requests may begin it with zeros, as in Triton.

    Raises:
        InvalidParameter: It is no whole number.
    """
    if version and not (version.isascii() and version.isdecimal() and len(version) <= MAX_VERSION_DIGITS):
        msg = f"model version: expected a whole number, or nothing for the latest, got '{version}'"
        raise InvalidParameter(msg)
    return str(int(version)) if version else ""


def decode(request: Any, memory: SharedMemory) -> Asked:
    """What a `ModelInferRequest` asks for; the arrays are views of its bytes, or of copies of what is in shared memory.

    Raises:
        InvalidTensor: An input whose elements do not fit its datatype and shape, or a name given twice.
        InvalidParameter: A parameter with a value that it cannot have, or a place that shared memory has not.
        NotSupported: Shared memory, where it is not allowed.
        RegionNotFound: Shared memory that is not registered.
        TooLarge: More inputs in shared memory than a message may be long.
    """
    parameters = request_parameters(request.parameters)
    outputs: dict[str, int] = {}
    parts: dict[str, Part] = {}
    for output in request.outputs:
        what = f"output '{output.name}'"
        _once(output.name, outputs, what)
        outputs[output.name] = output_parameters(output.parameters, what).get("classification", 0)
        place = tensor_place(output.parameters, what)
        if place is None:
            continue
        if outputs[output.name]:
            msg = f"{what}: parameter 'classification': expected in the message, because classes do not go to shared memory"
            raise InvalidParameter(msg)
        parts[output.name] = memory.part(place, what)
    classes = {name: count for name, count in outputs.items() if count}
    inputs = _inputs(request, memory)
    return Asked(inputs, tuple(outputs), classes, parameters.get("timeout", 0), parameters.get("priority", 0), parts)


def encode(request: Any, asked: Asked, model: Model, results: Mapping[str, Array]) -> Answer:
    """The answer to a request, after its outputs in shared memory are written.

    Raises:
        InvalidParameter: An output whose classes were asked for is not of numbers, or has no room in shared memory.
        InvalidTensor: An output of a type that does not travel.
    """
    head = message("ModelInferResponse")(model_name=model.name, model_version=str(model.version), id=request.id)
    labels = {tensor.name: tensor.labels for tensor in model.description.outputs}
    contents = []
    writes: list[tuple[Part, memoryview]] = []
    for name, result in results.items():
        what, array = f"output '{name}'", np.asarray(result)
        if name in asked.classes:
            batched = bool(model.config.max_batch_size and array.ndim)
            array = classify(array, asked.classes[name], labels[name], batched=batched, what=what)
        dtype, content = to_buffer(array, what=what)
        told = head.outputs.add(name=name, datatype=dtype.oip, shape=array.shape)
        part = asked.parts.get(name)
        if part is not None:
            part.check(content)  # before the first is written
            writes.append((part, content))
            _tell_place(told, part, len(content))
            content = _NOTHING  # clients count the entries: each output has one
        contents.append(content)
    for part, content in writes:
        part.write(content)
    return Answer(head, contents)


_NOTHING = memoryview(b"")


def _tell_place(output: Any, part: Part, size: int) -> None:
    output.parameters["shared_memory_region"].string_param = part.place.region
    output.parameters["shared_memory_byte_size"].int64_param = size
    if part.place.offset:
        output.parameters["shared_memory_offset"].int64_param = part.place.offset


def _inputs(request: Any, memory: SharedMemory) -> dict[str, Array]:
    places = [tensor_place(tensor.parameters, f"input '{tensor.name}'") for tensor in request.inputs]
    memory.check_request(sum(place.size for place in places if place is not None))
    raw = list(request.raw_input_contents)
    in_message = places.count(None)
    if raw and len(raw) != in_message:
        msg = f"raw_input_contents: expected {in_message} entries, one for each input not in shared memory, got {len(raw)}"
        raise InvalidTensor(msg)
    entries = iter(raw)
    arrays: dict[str, Array] = {}
    for tensor, place in zip(request.inputs, places, strict=True):
        what = f"input '{tensor.name}'"
        _once(tensor.name, arrays, what)
        if tensor.datatype not in BY_OIP:
            msg = f"{what}: expected one of the datatypes {', '.join(BY_OIP)}, got '{tensor.datatype}'"
            raise InvalidTensor(msg)
        dtype, shape = BY_OIP[tensor.datatype], tuple(tensor.shape)
        if place is None and not raw:
            arrays[tensor.name] = from_contents(tensor.contents, dtype, shape, what)
            continue
        where = "raw_input_contents" if place is None else "shared memory"
        if tensor.HasField("contents"):
            msg = f"{what}: expected elements in {where} or in contents, got both"
            raise InvalidTensor(msg)
        data = next(entries) if place is None else memory.part(place, what).read()
        arrays[tensor.name] = from_bytes(data, dtype, shape, what=what)
    return arrays


def _once(name: str, seen: Mapping[str, Any], what: str) -> None:
    if name in seen:
        msg = f"{what}: expected once, got twice"
        raise InvalidTensor(msg)
