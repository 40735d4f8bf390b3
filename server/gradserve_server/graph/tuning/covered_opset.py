"""An opset that onnxruntime's CUDA provider covers.

Each opset from 19 on renews operators for the sake of element types, and the provider's kernels follow some versions later:
1.20 has Pad to opset 18 and Reshape to 20, 1.24 still has Pad to 18. What it lacks runs on the processor, with a copy each
way. Up to opset 18 it has all that gradients are made of.
"""

import onnx_ir as ir

from gradserve_server.graph.contrib_shapes import infer_shapes
from gradserve_server.graph.inference_form.convert_opset import CannotConvert, convert_opset

COVERED = 18


def to_covered_opset(model: ir.Model) -> None:
    """Lowers a model that is newer, in place. One that says what no older opset can stays as it is."""
    try:
        done = convert_opset(model, newest=COVERED)
    except CannotConvert:
        return
    if done:
        infer_shapes(model)
