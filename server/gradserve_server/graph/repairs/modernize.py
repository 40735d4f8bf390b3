"""Opsets that no onnxruntime runs (1 to 6) become one that all do."""

import onnx
import onnx_ir as ir

from gradserve_server.graph.load import MIN_OPSET
from gradserve_server.graph.repairs.cannot import CannotRepair
from gradserve_server.graph.values import opset_of, shape_of

FREE_INITIALIZERS = 4
"""The file format from which an initializer need not be an input, as `load` leaves it."""

STAND_IN = 7919
"""A size in place of an open one: the converter wants numbers, to see what is broadcast. A prime that nothing else has."""


def modernize(model: ir.Model) -> ir.Model:
    """A model of opset 7, by onnx's own converter, which knows what changed before (broadcasting, is_test).

    Args:
        model: Of an opset below 7, in inference form. Not changed.

    Raises:
        CannotRepair: The converter does not know an operator.
    """
    closed = model.clone()
    closed.ir_version = max(model.ir_version, FREE_INITIALIZERS)
    for value in (*closed.graph.inputs, *closed.graph.outputs):
        if (shape := shape_of(value)) is not None:
            value.shape = ir.Shape([size if isinstance(size, int) else STAND_IN for size in shape])
    try:
        sized = onnx.shape_inference.infer_shapes(ir.to_proto(closed))
        converted = ir.from_proto(onnx.version_converter.convert_version(sized, MIN_OPSET))
    except Exception as error:  # the converter is C++, and has no exceptions of its own
        msg = f"opset {opset_of(model)}: onnx {onnx.__version__} does not convert it: {error}"
        raise CannotRepair(msg) from error
    for new, old in (
        *zip(converted.graph.inputs, model.graph.inputs, strict=True),
        *zip(converted.graph.outputs, model.graph.outputs, strict=True),
    ):
        new.shape = old.shape
    for node in converted.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
    converted.ir_version = closed.ir_version
    return converted
