"""The configuration that a model is served with: what its config.pbtxt says, completed and checked by the graph."""

from typing import Any

from gradserve.descriptions import ModelDescription, TensorDescription
from gradserve.errors import InvalidModel
from gradserve.tensors import DTYPES
from gradserve_server.runtime.model_config import empty_config

PLATFORM = "onnxruntime_onnx"
BACKEND = "onnxruntime"

VARIABLE = -1
"""In place of a size that may vary."""

_TYPES = {name: "TYPE_STRING" if name == "string" else f"TYPE_{row.oip}" for name, row in DTYPES.items()}
_NO_TYPE = "TYPE_INVALID"


def served_config(given: Any, model: ModelDescription, filename: str) -> Any:
    """The configuration of a version, as clients may ask for it.

    Args:
        given: The `inference.ModelConfig` of the repository; None: there is none.
        model: What the graph says.
        filename: Of the version's file.

    Raises:
        InvalidModel: The two contradict each other.
    """
    config = empty_config()
    if given is not None:
        config.CopyFrom(given)
    config.name, config.platform, config.backend = model.name, PLATFORM, BACKEND
    config.default_model_filename = filename
    if config.version_policy.WhichOneof("policy_choice") is None:
        config.version_policy.latest.num_versions = 1
    if config.max_batch_size < 0:
        msg = f"model '{model.name}': config.pbtxt: max_batch_size: expected 0 or more, got {config.max_batch_size}"
        raise InvalidModel(msg)
    for kind, entries, tensors in (("input", config.input, model.inputs), ("output", config.output, model.outputs)):
        said = {entry.name: entry for entry in getattr(given, kind)} if given is not None else {}
        del entries[:]
        known = [tensor.name for tensor in tensors]
        for name in said:
            if name not in known:
                msg = f"model '{model.name}': config.pbtxt: {kind} '{name}': expected one of {', '.join(map(repr, known))}"
                raise InvalidModel(msg)
        for tensor in tensors:
            entry = entries.add()
            if tensor.name in said:
                entry.CopyFrom(said[tensor.name])
            where = f"model '{model.name}': config.pbtxt: {kind} '{tensor.name}'"
            _complete(entry, tensor, bool(config.max_batch_size), where)
    return config


def _complete(entry: Any, tensor: TensorDescription, batched: bool, where: str) -> None:
    """Fills in an input or output, whose sizes do not count the batch."""
    # () also stands for a shape that the graph does not tell: then the configuration is believed.
    if batched and tensor.shape and isinstance(tensor.shape[0], int):
        msg = f"{where}: expected a first axis of any size, because max_batch_size is not 0, got {tensor.shape[0]}"
        raise InvalidModel(msg)
    shape = [size if isinstance(size, int) else VARIABLE for size in tensor.shape[1 if batched else 0 :]]
    said = list(entry.reshape.shape if entry.HasField("reshape") else entry.dims)
    types = entry.DESCRIPTOR.fields_by_name["data_type"].enum_type
    said_type = types.values_by_number[entry.data_type].name
    dtype = _TYPES.get(tensor.dtype, _NO_TYPE)
    agree = len(said) == len(shape) and all(
        VARIABLE in {ours, theirs} or ours == theirs for ours, theirs in zip(shape, said, strict=True)
    )
    if said_type not in {dtype, _NO_TYPE} or (said and tensor.shape and not agree):
        msg = f"{where}: expected {dtype} {shape}, got {said_type} {said}"
        raise InvalidModel(msg)
    if agree:
        shape = [theirs if ours == VARIABLE else ours for ours, theirs in zip(shape, said, strict=True)]
    entry.name = tensor.name
    entry.data_type = types.values_by_name[dtype].number
    # Requests are held against the graph's own shape; reshaping is not done.
    entry.ClearField("reshape")
    entry.dims[:] = shape if tensor.shape else said
