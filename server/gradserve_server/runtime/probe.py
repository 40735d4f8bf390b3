"""Models of one node, opened to see what the installed onnxruntime can do."""

from collections.abc import Sequence
from typing import Any

import onnx

from gradserve_server.graph.load import MAX_IR_VERSION

OPSET = 17
"""Every onnxruntime that we take loads it."""


def quiet_options() -> Any:
    """Session options with which what goes wrong comes back as an exception only."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return options


def open_probe(
    node: onnx.NodeProto, shape: Sequence[int], providers: Sequence[Any], *, opset: int = OPSET, options: Any = None
) -> Any:
    """A session on a graph of one node.

    Args:
        node: From `x` to `y`, both float32.
        shape: Of both.
        providers: What it may run on.
        opset: Of the default domain.
        options: By default quiet ones.

    Raises:
        Exception: Whatever onnxruntime raises; its exceptions have no common base.
    """
    import onnxruntime

    helper = onnx.helper
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in "xy")
    imports = [helper.make_opsetid("", opset)]
    if node.domain:
        imports.append(helper.make_opsetid(node.domain, 1))
    graph = helper.make_graph([node], "probe", [x], [y])
    model = helper.make_model(graph, ir_version=MAX_IR_VERSION, opset_imports=imports)
    return onnxruntime.InferenceSession(model.SerializeToString(), options or quiet_options(), providers)
