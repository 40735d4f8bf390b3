"""Our operators for onnxruntime, and whether the installed one runs them."""

import logging
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from gradserve_server.graph.tuning.fused import DOMAIN
from gradserve_server.runtime.device import PROVIDERS, Device
from gradserve_server.runtime.probe import open_probe, quiet_options

_log = logging.getLogger(__name__)


def add_operators(options: Any) -> None:
    """Makes them known to a session of these options, where they run."""
    if have_operators():
        options.register_custom_ops_library(str(_library()))


@cache
def have_operators() -> bool:
    """Whether they run here; found by running one. They are built beside the kernels (csrc/ort)."""
    import onnxruntime

    path = _library()
    if path is None or not path.exists():
        _log.warning("the library of operators was not built: gradients run without it, and slower")
        return False
    form = {"axis": 0, "lanes": 1, "block": 1, "narrow": [0], "packed_inputs": [0], "packed_outputs": [0]}
    attributes: dict[str, Any] = {"program": "y0 = neg x0", **form}
    node = onnx.helper.make_node("Fused", ["x"], ["y"], domain=DOMAIN, **attributes)
    options = quiet_options()
    try:
        options.register_custom_ops_library(str(path))
        session = open_probe(node, [2], PROVIDERS[Device.CPU], options=options)
        (result,) = session.run(None, {"x": np.array([1, -2], np.float32)})
    except Exception as error:  # onnxruntime's exceptions have no common base
        first = str(error).partition("\n")[0]
        _log.warning(
            "onnxruntime %s does not run our operators, and gradients are slower: %s", onnxruntime.__version__, first
        )
        return False
    return bool(np.array_equal(result, [-1, 2]))


def _library() -> Path | None:
    core = find_spec("gradserve_server._core")
    return Path(core.origin).parent / "lib" / "libgradserve_ops.so" if core is not None and core.origin is not None else None
