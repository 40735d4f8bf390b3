"""A model becomes a file."""

from pathlib import Path

import onnx
import onnx_ir as ir

from gradserve.errors import InvalidModel

EMBEDDED_BYTES = 2**30
"""Weights up to which they stand in the file itself; protobuf ends at 2 GiB."""


def save(model: ir.Model, output: Path) -> None:
    """Writes a model, and has onnx check what was written. Weights over 1 GiB go to a file beside it.

    Raises:
        InvalidModel: It is not one.
        OSError: It cannot be written.
    """
    weights = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
    ir.save(model, output, external_data=f"{output.name}.data" if weights > EMBEDDED_BYTES else None)
    try:
        onnx.checker.check_model(output)
    except onnx.checker.ValidationError as error:
        msg = f"'{output}': expected a valid model to write: {error}"
        raise InvalidModel(msg) from error
