"""A file becomes a model in memory, or an `InvalidModel` that says what is wrong with it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from gradserve.errors import InvalidModel

MAX_IR_VERSION = 10
"""The newest file format that the training wheel reads. What later versions added, inference form does not need."""


@dataclass(frozen=True)
class ModelFile:
    """A model as its author wrote it."""

    path: Path
    model: ir.Model
    sha256: str
    """Of the file's bytes (external data not included)."""


def load(path: Path) -> ModelFile:
    """Reads a model and its external data; functions are inlined.

    Raises:
        InvalidModel: Not a readable ONNX file, or its external data lies outside the file's folder.
    """
    try:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        model = ir.load(path)
    except Exception as error:  # onnx_ir lets protobuf's, its own and OS errors through
        msg = f"model file '{path.name}': expected a readable ONNX model, got {type(error).__name__}: {error}"
        raise InvalidModel(msg) from error
    _check_external_data(model, path)
    ir.external_data.load_to_model(model)
    if model.functions:
        InlinePass()(model)
    model.ir_version = min(model.ir_version, MAX_IR_VERSION)
    return ModelFile(path, model, sha256)


def _check_external_data(model: ir.Model, path: Path) -> None:
    folder = path.parent.resolve()
    for value in model.graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor):
            data = Path(value.const_value.path).resolve()
            if folder not in data.parents:
                msg = f"model file '{path.name}': expected external data of '{value.name}' in its folder, got another place"
                raise InvalidModel(msg)
            if not data.is_file():
                msg = f"model file '{path.name}': expected external data file '{data.name}', got none"
                raise InvalidModel(msg)
