"""What is done to a graph right before it becomes a session on this machine's CPU. Nothing here is needed to be right.

1. `slopes`: masks and slopes of activations in fewer passes over memory.
2. `joins`: what was cut comes together by a Concat, not by a sum of padded parts.
3. `blocked`: onnxruntime's blocked layout, kept from one convolution to the next.

Files that users take away (`gradient-graph`) are not tuned.
"""

import onnx_ir as ir

from gradserve_server.graph.tuning.blocked import to_blocked_layout
from gradserve_server.graph.tuning.joins import join_parts
from gradserve_server.graph.tuning.slopes import fuse_slopes

__all__ = ["tune"]


def tune(model: ir.Model, block: int | None) -> None:
    """Makes a graph faster, in place.

    Args:
        model: With shapes inferred.
        block: Channels of a block in onnxruntime's convolutions (`runtime.block_size`); None where it has no such layout.
    """
    fuse_slopes(model)
    join_parts(model)
    if block is not None:
        to_blocked_layout(model, block)
