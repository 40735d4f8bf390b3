"""Puts an objective in front of a vector-Jacobian product."""

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from gradserve_server.graph.autodiff.emitter import Expr
from gradserve_server.graph.autodiff.names import cotangent_name
from gradserve_server.graph.autodiff.portable import emitter_for
from gradserve_server.graph.objectives.forms import INPUTS, VALUE, WEIGHTS, Head, Sizes
from gradserve_server.graph.objectives.formulas import value_and_cotangent


def append_heads(vjp: ir.Model, wanted: Sequence[Head]) -> None:
    """Puts an objective in front of a vector-Jacobian product, in place.

    Every cotangent input is replaced by the objective's derivative with respect to that layer; the model gets the inputs of
    the heads (`Head.inputs`) and, first among its outputs, `VALUE` [N]. The layers are no longer outputs.

    Raises:
        InvalidObjective: A form needs to know more of its layer than the graph tells.
    """
    graph = vjp.graph
    g = emitter_for(vjp)
    layers = {value.name: value for value in graph.outputs}
    cotangents: dict[str, Expr] = {}
    total: Expr | None = None
    for head in wanted:
        layer = layers[head.layer]
        g.scope = head.name
        like_layer: Sizes | None = None if layer.shape is None else (None,) * (len(layer.shape) - 1)
        sizes: Mapping[str, Sizes | None] = INPUTS[head.form] or {WEIGHTS: like_layer}
        inputs = {what: g.of(_input(graph, head.input_name(what), layer, size)) for what, size in sizes.items()}
        value, cotangent = value_and_cotangent(g, head, g.of(layer), inputs)
        total = value if total is None else total + value
        known = cotangents.get(head.layer)
        cotangents[head.layer] = cotangent if known is None else known + cotangent
    assert total is not None
    for name, cotangent in cotangents.items():
        old = next(value for value in graph.inputs if value.name == cotangent_name(name))
        cotangent.value.shape = layers[name].shape
        ir.convenience.replace_all_uses_with(old, cotangent.value, replace_graph_outputs=True)
        graph.inputs.remove(old)
    samples = next((layer.shape[0] for layer in layers.values() if layer.shape is not None and len(layer.shape)), None)
    total.value.name, total.value.shape = VALUE, ir.Shape([samples])
    graph.outputs[:] = [total.value, *(out for out in graph.outputs if out.name not in cotangents)]
    graph.extend(g.nodes)
    graph.sort()


def _input(graph: ir.Graph, name: str, like: ir.Value, sizes: Sizes | None) -> ir.Value:
    """An input with one entry for each sample, or one for all; None: of any rank."""
    axes = None if sizes is None else enumerate((None, *sizes))
    shape = None if axes is None else ir.Shape([f"{name}/{axis}" if size is None else size for axis, size in axes])
    value = ir.Value(name=name, type=like.type, shape=shape)
    graph.inputs.append(value)
    return value
