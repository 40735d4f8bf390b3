"""What is done to a graph right before it becomes a session on this machine. Nothing here is needed to be right.

1. `slopes`: masks and slopes of activations in fewer passes over memory.
2. `joins`: what was cut comes together by a Concat, not by a sum of padded parts.
3. `attention`: attention weights computed again by the backward pass, not kept for it.
4. `pools`: the gradient of a maximum over windows as one operator of ours.
5. `blocked`: onnxruntime's blocked layout, kept from one convolution to the next, and to the gradient of the image.
6. `fused`: chains of operators on numbers one by one as one operator of ours.
7. `covered_opset`, `maxima`, `subpixel`, `symmetric`, `unpooling`: what onnxruntime's providers for GPUs would leave to the
   processor, refuse, or compute otherwise, put differently.

3 to 6 are for CPUs, 7 is for GPUs.

Files that users take away (`gradient-graph`) are not tuned.
"""

from dataclasses import dataclass

import onnx_ir as ir

from gradserve_server.graph.tuning.attention import recompute_attention
from gradserve_server.graph.tuning.blocked import to_blocked_layout
from gradserve_server.graph.tuning.covered_opset import to_covered_opset
from gradserve_server.graph.tuning.fused import fuse
from gradserve_server.graph.tuning.joins import join_parts
from gradserve_server.graph.tuning.maxima import find_maxima_again
from gradserve_server.graph.tuning.pools import replace_max_pool_gradients
from gradserve_server.graph.tuning.slopes import fuse_slopes
from gradserve_server.graph.tuning.subpixel import convolve_transposed
from gradserve_server.graph.tuning.symmetric import pad_symmetrically
from gradserve_server.graph.tuning.unpooling import scatter_unpooled

__all__ = ["Machine", "tune"]


@dataclass(frozen=True)
class Machine:
    """What the runtime of this machine can do beyond the standard.

    Attributes:
        block: Channels of a block in onnxruntime's convolutions (`runtime.block_size`); None where it has no such layout.
        operators: Whether it runs our own operators (`runtime.operators`).
        gpu: Whether a provider for GPUs runs the graph.
    """

    block: int | None
    operators: bool
    gpu: bool = False


def tune(model: ir.Model, machine: Machine) -> None:
    """Makes a graph faster, in place.

    Args:
        model: With shapes inferred.
        machine: What will run it.
    """
    fuse_slopes(model)
    join_parts(model)
    if machine.operators:
        recompute_attention(model)
        replace_max_pool_gradients(model)
    if machine.block is not None:
        to_blocked_layout(model, machine.block, fuses=machine.operators)
    if machine.operators:
        fuse(model)
    if machine.gpu:
        to_covered_opset(model)
        find_maxima_again(model)
        convolve_transposed(model)
        pad_symmetrically(model)
        scatter_unpooled(model)
