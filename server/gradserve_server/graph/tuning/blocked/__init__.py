"""onnxruntime's blocked layout, kept from one convolution to the next.

On CPUs onnxruntime convolves tensors whose channels lie in blocks of 8 or 16, [N, C / B, H, W, B], and its optimizer puts
convolutions, pools and little else into that layout. A gradient is half element-wise operators: each mask between two
convolutions costs three reorderings. But an element-wise operator does not care in which order the elements lie, as long as
all its operands agree. Here a graph is put into that layout as a whole.

Only for a session on this machine: the block size is the processor's, and the operators (com.microsoft.nchwc) are
onnxruntime's own. Sums that run inside a convolution are rounded in another order; every other result keeps its bits.
"""

from importlib import import_module

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from gradserve_server.graph.autodiff.site import captured
from gradserve_server.graph.tuning.blocked.layout import DOMAIN, Layout
from gradserve_server.graph.tuning.blocked.table import TABLE, put
from gradserve_server.graph.values import is_op

for _module in ("convolution", "images", "per_channel", "pointwise", "transposed", "windows"):  # they enter the table
    import_module(f"{__name__}.{_module}")

__all__ = ["DOMAIN", "TABLE", "to_blocked_layout"]


def to_blocked_layout(model: ir.Model, block: int, *, fuses: bool) -> None:
    """Puts a graph into the blocked layout, in place.

    Args:
        model: Float32, with shapes inferred.
        block: Channels of a block, `runtime.block_size`.
        fuses: Whether `tuning.fused` comes after it.
    """
    if not any(is_op(node, "Conv") for node in model.graph):
        return
    layout = Layout(model, block, fuses=fuses)
    for node in list(model.graph):
        if not put(layout, node):
            layout.keep(node, captured(node))
    layout.finish()
    RemoveUnusedNodesPass()(model)
