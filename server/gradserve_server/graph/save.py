"""A graph becomes a file."""

from pathlib import Path

import onnx
import onnx_ir as ir

EMBEDDED_BYTES = 2**30
"""Weights up to which they stand in the file itself; protobuf ends at 2 GiB."""


def save(model: ir.Model, path: Path) -> None:
    """Writes a model, and checks it; weights over 1 GiB go to a file beside it, `<name>.data`."""
    weights = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
    ir.save(model, path, external_data=f"{path.name}.data" if weights > EMBEDDED_BYTES else None)
    onnx.checker.check_model(path)
