"""How many channels lie in a block of onnxruntime's convolution layout, on this processor."""

from functools import cache

import numpy as np
import onnx

from gradserve_server.graph.load import MAX_IR_VERSION
from gradserve_server.graph.tuning.blocked import DOMAIN
from gradserve_server.runtime.device import PROVIDERS, Device

_CHANNELS, _POSITIONS = 64, 2


@cache
def block_size() -> int | None:
    """8 or 16; None where onnxruntime has no such layout. Found by looking where a reordering puts the second position."""
    import onnxruntime

    helper, opset = onnx.helper, 17
    shape = [1, _CHANNELS, 1, _POSITIONS]
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shape)
    graph = helper.make_graph([helper.make_node("ReorderInput", ["x"], ["y"], domain=DOMAIN)], "probe", [x], [y])
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, ir_version=MAX_IR_VERSION, opset_imports=imports)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, PROVIDERS[Device.CPU])
        numbered = np.arange(_CHANNELS * _POSITIONS, dtype=np.float32).reshape(shape)  # channel c, position p: 2 c + p
        blocked = session.run(None, {"x": numbered})[0].ravel()
    except Exception:  # onnxruntime's exceptions have no common base
        return None
    size = int(np.argmax(blocked == 1))
    return size if size in (8, 16) else None
