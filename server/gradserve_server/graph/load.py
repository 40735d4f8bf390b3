"""A file becomes a model in memory, or an `InvalidModel` that says what is wrong with it."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, RemoveInitializersFromInputsPass

from gradserve.errors import InvalidModel
from gradserve_server.graph.values import opset_of

MAX_IR_VERSION = 10
"""The newest file format that the training wheel reads. What later versions added, inference form does not need."""

MIN_OPSET = 7
"""onnxruntime runs nothing older."""

RESERVED_DOMAIN = "gradserve"
"""Of the operators that tuning puts into graphs (`tuning.fused.domains`): no file brings them along."""


@dataclass(frozen=True)
class ModelFile:
    """A model as its author wrote it."""

    path: Path
    model: ir.Model
    sha256: str
    """Of the file's bytes (external data not included)."""


def load(path: Path) -> ModelFile:
    """Reads a model and its external data into memory; functions are inlined.

    Initializers that are also inputs (files before IR version 4) are constants: nobody can override a served weight.

    Raises:
        InvalidModel: Not a readable ONNX file, an opset below 7, or external data that is missing, too short or outside the
            file's folder.
    """
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        model = ir.load(path)
        _read_external_data(model, path)
        _prepare(model)
    except InvalidModel:
        raise
    except Exception as error:  # onnx_ir, protobuf and the operating system each have their own
        msg = f"model file '{path.name}': expected a readable ONNX model, got {type(error).__name__}: {error}"
        raise InvalidModel(msg) from error
    _check_opset(model, f"model file '{path.name}'")
    return ModelFile(path, model, sha256)


def read(proto: onnx.ModelProto) -> ir.Model:
    """A model that is in memory already, its external data included; functions are inlined.

    Raises:
        InvalidModel: As `load`.
    """
    try:
        model = ir.from_proto(proto)
        _prepare(model)
    except Exception as error:  # onnx_ir and protobuf each have their own
        msg = f"model: expected a readable ONNX model, got {type(error).__name__}: {error}"
        raise InvalidModel(msg) from error
    _check_opset(model, "model")
    return model


def _prepare(model: ir.Model) -> None:
    if model.functions:
        InlinePass()(model)
    RemoveInitializersFromInputsPass()(model)
    for value in _initializers(model):
        value.const_value = _as_array(value.const_value)


def _as_array(tensor: ir.TensorProtocol | None) -> ir.TensorProtocol | None:
    """A constant that is one array: a protobuf message makes a new copy of its bytes each time that it is asked."""
    if not isinstance(tensor, ir.TensorProtoTensor) or tensor.dtype is ir.DataType.STRING:
        return tensor
    return ir.Tensor(tensor.numpy(), dtype=tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=tensor.name)


def _check_opset(model: ir.Model, what: str) -> None:
    if not model.opset_imports:
        msg = f"{what}: expected a readable ONNX model, got one without an operator set"
        raise InvalidModel(msg)
    if opset_of(model) < MIN_OPSET:
        msg = f"{what}: expected opset {MIN_OPSET} or newer, got {opset_of(model)}; convert it first"
        raise InvalidModel(msg)
    # A declaration says nothing: onnxruntime writes those of all domains that it knows into the files that it optimizes.
    for domain in {node.domain for node in _nodes(model)}:
        if domain.split(".")[0] == RESERVED_DOMAIN:
            msg = f"{what}: expected operators of ONNX or onnxruntime, got domain '{domain}', which is for the server's own"
            raise InvalidModel(msg)
    model.ir_version = min(model.ir_version, MAX_IR_VERSION)


def _read_external_data(model: ir.Model, path: Path) -> None:
    """Puts what lies in other files into the model, wherever a tensor can stand: only from the file's own folder."""
    for value in _initializers(model):
        if isinstance(value.const_value, ir.ExternalTensor):
            value.const_value = _read(value.const_value, path)
    for node in _nodes(model):
        for name, attr in list(node.attributes.items()):
            if isinstance(attr.value, ir.ExternalTensor):
                node.attributes[name] = ir.AttrTensor(name, _read(attr.value, path))


def _read(tensor: ir.ExternalTensor, path: Path) -> ir.TensorProtocol:
    # Relative to the model, wherever in it the tensor stands: onnx_ir tells only initializers where they came from.
    folder, data = path.parent.resolve(), (path.parent / tensor.location).resolve()
    if folder not in data.parents:
        msg = f"model file '{path.name}': expected external data of '{tensor.name}' in its folder, got another place"
        raise InvalidModel(msg)
    if not data.is_file():
        msg = f"model file '{path.name}': expected external data file '{data.name}', got none"
        raise InvalidModel(msg)
    present = data.stat().st_size - (tensor.offset or 0)
    if tensor.length not in (None, tensor.nbytes) or present < tensor.nbytes:
        got = present if tensor.length in (None, tensor.nbytes) else tensor.length
        msg = f"model file '{path.name}': expected {tensor.nbytes} bytes for '{tensor.name}' in '{data.name}', got {got}"
        raise InvalidModel(msg)
    located = ir.ExternalTensor(
        tensor.location, tensor.offset, tensor.length, tensor.dtype, shape=tensor.shape, name=tensor.name, base_dir=folder
    )
    return ir.Tensor(located.numpy().copy(), dtype=tensor.dtype, name=tensor.name)


def _initializers(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        yield from graph.initializers.values()


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    yield from ir.traversal.RecursiveGraphIterator(model.graph)
    for function in model.functions.values():
        yield from ir.traversal.RecursiveGraphIterator(function)
