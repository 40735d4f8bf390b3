"""Cuts a model at layers: what those layers need, and nothing after them."""

from collections.abc import Sequence

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass


def cut(model: ir.Model, targets: Sequence[str]) -> ir.Model:
    """A copy of the model whose outputs are `targets`.

    Weights are shared with the original, not copied. Graph inputs that no target needs go too.

    Args:
        model: Not changed.
        targets: Names of values in the main graph, each once.
    """
    graph = ir.convenience.extract(model.graph, model.graph.inputs, list(targets))
    small = ir.Model(graph, ir_version=model.ir_version, producer_name="gradserve", functions=list(model.functions.values()))
    RemoveUnusedNodesPass()(small)
    for value in list(graph.inputs):
        if not value.uses() and not value.is_graph_output():
            graph.inputs.remove(value)
    return small
