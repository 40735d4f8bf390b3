"""A file becomes a model in memory, or an `InvalidModel` that says what is wrong with it.

The file may come from anyone (`graph.contained`). Its bytes are read once (`files`), parsed, and counted before anything is
made of them (`limits`); each tensor must hold what its sizes say (`tensors`), what lies in other files is read from the
model's own folder only, and operators that do more than compute are refused (`domains`).
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, RemoveInitializersFromInputsPass

from gradserve.errors import InvalidModel
from gradserve_server.graph.contained.domains import check_operators
from gradserve_server.graph.contained.files import Refused, read_whole
from gradserve_server.graph.contained.limits import DEFAULT, Count, Limits
from gradserve_server.graph.contained.tensors import read_external
from gradserve_server.graph.values import opset_of

MAX_IR_VERSION = 10
"""The newest file format that the training wheel reads. What later versions added, inference form does not need."""

MIN_OPSET = 7
"""onnxruntime runs nothing older."""

SESSION_KEY = "ort_config"
"""Metadata that onnxruntime takes for settings of its session, files that it writes among them, where
ORT_LOAD_CONFIG_FROM_MODEL is set in the environment."""


MAX_TEXT = 500
"""Characters of an error of onnx_ir's or protobuf's, which may hold the whole model."""


@dataclass(frozen=True)
class ModelFile:
    """A model as its author wrote it."""

    path: Path
    model: ir.Model
    sha256: str
    """Of the file's bytes (external data not included)."""
    ir_version: int
    """Of the file's format, before it was brought down to `MAX_IR_VERSION`."""
    external: int
    """How many tensors lie in other files."""


def load(path: Path, limits: Limits = DEFAULT, *, oldest: int = MIN_OPSET) -> ModelFile:
    """Reads a model and its external data into memory; functions are inlined.

    Initializers that are also inputs (files before IR version 4) are constants: nobody can override a served weight.

    Args:
        path: The file.
        limits: What it may claim.
        oldest: Opset that is read; below 7 for somebody who only looks, because nothing runs it.

    Raises:
        InvalidModel: Not a readable ONNX file, an opset below 7, external data that is missing, too short or outside the
            file's folder, operators that do more than compute, or more of anything than the limits allow.
    """
    with _refusals(f"model file '{path.name}'"):
        content = read_whole(path, limits.max_bytes)
        sha256 = hashlib.sha256(content).hexdigest()
        proto = onnx.ModelProto.FromString(content)
        del content
        Count(proto, limits)
        model = ir.from_proto(proto)
        ir_version, external = model.ir_version, _read_external_data(model, path.parent)
        _prepare(model, oldest)
    return ModelFile(path, model, sha256, ir_version, external)


def read(proto: onnx.ModelProto, limits: Limits = DEFAULT) -> ir.Model:
    """A model that is in memory already, its external data included; functions are inlined.

    Raises:
        InvalidModel: As `load`.
    """
    with _refusals("model"):
        Count(proto, limits, beside=False)
        model = ir.from_proto(proto)
        _prepare(model, MIN_OPSET)
    return model


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    try:
        yield
    except Refused as error:
        msg = f"{what}: expected {error.expected or 'a readable ONNX model'}, got {error}"
        raise InvalidModel(msg) from error
    except Exception as error:  # onnx_ir, protobuf and the operating system each have their own
        msg = f"{what}: expected a readable ONNX model, got {type(error).__name__}: {str(error)[:MAX_TEXT]}"
        raise InvalidModel(msg) from error


def _prepare(model: ir.Model, oldest: int) -> None:
    if not model.opset_imports:
        msg = "one without an operator set"
        raise Refused(msg)
    if opset_of(model) < oldest:
        msg = f"{opset_of(model)}; convert it first (`gradserve doctor FILE --fix OUT`)"
        raise Refused(msg, f"opset {oldest} or newer")
    if model.functions:
        InlinePass()(model)
    check_operators(model)
    RemoveInitializersFromInputsPass()(model)
    for value in _initializers(model):
        value.const_value = _as_array(value.const_value)
    model.metadata_props.pop(SESSION_KEY, None)
    model.ir_version = min(model.ir_version, MAX_IR_VERSION)


def _as_array(tensor: ir.TensorProtocol | None) -> ir.TensorProtocol | None:
    """A constant that is one array: a protobuf message makes a new copy of its bytes each time that it is asked."""
    if not isinstance(tensor, ir.TensorProtoTensor) or tensor.dtype is ir.DataType.STRING:
        return tensor
    return ir.Tensor(tensor.numpy(), dtype=tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=tensor.name)


def _read_external_data(model: ir.Model, folder: Path) -> int:
    """Puts what lies in other files into the model, wherever a tensor can stand: only from the file's own folder.

    Returns:
        How many tensors there were.
    """
    count = 0
    for value in _initializers(model):
        if isinstance(value.const_value, ir.ExternalTensor):
            value.const_value = _read(folder, value.const_value)
            count += 1
    for node in _nodes(model):
        for name, attr in list(node.attributes.items()):
            if isinstance(attr.value, ir.ExternalTensor):
                node.attributes[name] = ir.AttrTensor(name, _read(folder, attr.value))
                count += 1
    return count


def _read(folder: Path, tensor: ir.ExternalTensor) -> ir.TensorProtocol:
    try:
        return read_external(folder, tensor)
    except Refused as error:
        raise Refused(str(error), error.expected or f"external data of '{tensor.name}' in its folder") from error


def _initializers(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        yield from graph.initializers.values()


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    yield from ir.traversal.RecursiveGraphIterator(model.graph)
    for function in model.functions.values():
        yield from ir.traversal.RecursiveGraphIterator(function)
