"""Operators on numbers one by one: they do not care in which order the numbers lie."""

import onnx_ir as ir

from gradserve_server.graph.tuning.blocked.convolution import activated, summed
from gradserve_server.graph.tuning.blocked.filling import BOUNDS, MOST, bound
from gradserve_server.graph.tuning.blocked.layout import Layout
from gradserve_server.graph.tuning.blocked.table import handles, is_scalar
from gradserve_server.graph.values import same_shape


@handles(*BOUNDS)
def _elementwise(layout: Layout, node: ir.Node) -> bool:
    if activated(layout, node) or summed(layout, node):
        return True
    tensors = [value for value in node.inputs if value is not None and not is_scalar(value)]
    fits = all(layout.can_be_blocked(value) and same_shape(value, tensors[0]) for value in tensors)
    if not tensors or not fits or not any(layout.is_blocked(value) for value in tensors):
        return False
    if not same_shape(node.outputs[0], tensors[0]):
        return False
    filling = bound(node, [layout.filling(value) for value in tensors])
    if not filling <= MOST and not layout.is_full(tensors[0]):
        return False
    layout.same(node, [layout.twin(value) if value in tensors else value for value in node.inputs], filling)
    return True
