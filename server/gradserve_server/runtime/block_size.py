"""How many channels lie in a block of onnxruntime's convolution layout, on this processor."""

from functools import cache

import numpy as np
import onnx

from gradserve_server.graph.tuning.blocked import DOMAIN
from gradserve_server.runtime.device import PROVIDERS, Device
from gradserve_server.runtime.probe import open_probe

_CHANNELS, _POSITIONS = 64, 2


@cache
def block_size() -> int | None:
    """8 or 16; None where onnxruntime has no such layout. Found by looking where a reordering puts the second position."""
    shape = [1, _CHANNELS, 1, _POSITIONS]
    try:
        node = onnx.helper.make_node("ReorderInput", ["x"], ["y"], domain=DOMAIN)
        session = open_probe(node, shape, PROVIDERS[Device.CPU])
        numbered = np.arange(_CHANNELS * _POSITIONS, dtype=np.float32).reshape(shape)  # channel c, position p: 2 c + p
        blocked = session.run(None, {"x": numbered})[0].ravel()
    except Exception:  # onnxruntime's exceptions have no common base
        return None
    size = int(np.argmax(blocked == 1))
    return size if size in (8, 16) else None
