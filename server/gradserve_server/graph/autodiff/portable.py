"""The portable backend: gradients in standard operators, that any runtime runs.

`build_vjp` is one reverse walk. The other two are that walk applied to its own result:

    J t  = d <J^T v, t> / d v          the vector-Jacobian product is linear in v, so v itself does not matter
    H t  = d <grad f, t> / d x
"""

from collections.abc import Sequence

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, RemoveUnusedOpsetsPass

from gradserve.errors import UnsupportedGradient
from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.autodiff.judge import PortableJudge
from gradserve_server.graph.autodiff.names import cotangent_name, gradient_name, hvp_name, tangent_name
from gradserve_server.graph.autodiff.path import reach
from gradserve_server.graph.autodiff.reverse import pull_back
from gradserve_server.graph.values import opset_of


def build_vjp(
    forward: ir.Model, wrt: Sequence[str], *, straight_through: bool = False, redirect_relu: bool = False
) -> ir.Model:
    """Appends the vector-Jacobian product to a model.

    Args:
        forward: In inference form, cut at its targets: its outputs are the targets. Not changed. Every node on the path has
            passed `path.check`.
        wrt: Names of what to differentiate with respect to: inputs, or any other float values of the graph.
        straight_through: Quantization passes derivatives as if it rounded nothing; otherwise it has none, and is refused.
        redirect_relu: What flows back is no derivative where an activation would block it (`redirected`).

    Returns:
        The model with one more input for each target (`cotangent_name`) and one more output for each of `wrt`
        (`gradient_name`).
    """
    model = forward.clone()
    graph = model.graph
    g = emitter_for(model, straight_through=straight_through, redirect_relu=redirect_relu)
    values = ir.convenience.create_value_mapping(graph)
    cotangents: dict[ir.Value, Expr] = {}
    for target in list(dict.fromkeys(graph.outputs)):
        cotangent = _input(graph, cotangent_name(target.name or ""), target)
        cotangents[target] = g.of(cotangent)
    pulled = pull_back(g, list(graph), cotangents, [values[name] for name in wrt])
    graph.extend(g.nodes)
    for name in wrt:
        _output(graph, pulled[values[name]], gradient_name(name), values[name])
    return _tidied(model)


def build_jvp(forward: ir.Model, wrt: Sequence[str], *, straight_through: bool = False) -> ir.Model:
    """Appends the Jacobian-vector product to a model.

    Returns:
        The model with one more input for each of `wrt` and one more output for each target (both `tangent_name`).
    """
    model = build_vjp(forward, wrt, straight_through=straight_through)
    graph = model.graph
    g = emitter_for(model, straight_through=straight_through)
    values = ir.convenience.create_value_mapping(graph)
    targets = [value.name or "" for value in forward.graph.outputs]
    pulled = _pull_again(model, g, wrt, [values[cotangent_name(target)] for target in targets])
    graph.extend(g.nodes)
    graph.outputs[:] = [values[target] for target in targets]
    for target in targets:
        cotangent = values[cotangent_name(target)]
        tangent = pulled.get(cotangent)
        assert tangent is not None, f"'{target}' does not depend on {wrt}"
        _output(graph, tangent, tangent_name(target), values[target])
    _tidied(model)
    _drop_cotangents(model, [values[cotangent_name(target)] for target in targets], [values[t] for t in targets])
    return _tidied(model)


def build_hvp(gradient: ir.Model, wrt: Sequence[str], *, straight_through: bool = False) -> ir.Model:
    """Appends the Hessian-vector product to a model that gives the gradient of a scalar per sample.

    Args:
        gradient: Has an output `gradient_name` for each of `wrt`, made by `build_vjp`. Not changed.
        wrt: Names of inputs.
        straight_through: As in `build_vjp`.

    Returns:
        The model with one more input (`tangent_name`) and one more output (`hvp_name`) for each of `wrt`. Where the
        objective is linear in an input, that output is zero.
    """
    model = gradient.clone()
    graph = model.graph
    g = emitter_for(model, straight_through=straight_through)
    values = ir.convenience.create_value_mapping(graph)
    pulled = _pull_again(model, g, wrt, [values[name] for name in wrt])
    graph.extend(g.nodes)
    for name in wrt:
        start = len(g.nodes)
        product = pulled.get(values[name]) or g.zeros_like(g.of(values[name]))
        graph.extend(g.nodes[start:])
        _output(graph, product, hvp_name(name), values[name])
    return _tidied(model)


def _pull_again(model: ir.Model, g: Emitter, wrt: Sequence[str], wanted: Sequence[ir.Value]) -> dict[ir.Value, Expr]:
    """Pulls a direction, one new input for each of `wrt`, back from the gradients to what they depend on."""
    graph = model.graph
    values = ir.convenience.create_value_mapping(graph)
    gradients = [values[gradient_name(name)] for name in wrt]
    judge = PortableJudge(model, g.opset, straight_through=g.straight_through)
    found = reach(model, [value.name or "" for value in wanted], judge).problems
    if problems := dict.fromkeys(problem for value in gradients for problem in found.get(value, ())):
        msg = f"no second derivative in the portable backend for {'; '.join(problems)}"
        raise UnsupportedGradient(msg)
    seeds = {
        gradient: g.of(_input(graph, tangent_name(name), values[name]))
        for name, gradient in zip(wrt, gradients, strict=True)
    }
    return pull_back(g, list(graph), seeds, wanted)


def emitter_for(model: ir.Model, *, straight_through: bool = False, redirect_relu: bool = False) -> Emitter:
    """An emitter whose names are free in the model."""
    taken = {value.name or "" for node in model.graph.all_nodes() for value in node.outputs} | set(model.graph.initializers)
    prefix, number = "vjp", 1
    while any(name.startswith(f"{prefix}/") for name in taken):
        number += 1
        prefix = f"vjp{number}"
    return Emitter(model.graph, opset_of(model), prefix, straight_through=straight_through, redirect_relu=redirect_relu)


def _input(graph: ir.Graph, name: str, like: ir.Value) -> ir.Value:
    value = ir.Value(name=name, type=like.type, shape=like.shape)
    graph.inputs.append(value)
    return value


def _output(graph: ir.Graph, expr: Expr, name: str, like: ir.Value) -> None:
    """An output of its own, by an Identity where the value has a name already (an input, or another output)."""
    value = expr.value
    if value.is_graph_output() or value.producer() is None or value.producer() not in expr.emitter.nodes:
        identity = ir.node("Identity", [value], name=name)
        graph.append(identity)
        value = identity.outputs[0]
    value.name, value.type, value.shape = name, like.type, like.shape
    graph.outputs.append(value)


def _drop_cotangents(model: ir.Model, cotangents: Sequence[ir.Value], targets: Sequence[ir.Value]) -> None:
    """A Jacobian-vector product has no cotangents: what still reads one reads only its shape, which is the target's."""
    graph = model.graph
    g = emitter_for(model)
    for cotangent, target in zip(cotangents, targets, strict=True):
        if cotangent.uses():
            g.scope = "tangent"
            zeros = g.zeros_like(g.of(target))
            ir.convenience.replace_all_uses_with(cotangent, zeros.value)
        graph.inputs.remove(cotangent)
    graph.extend(g.nodes)
    graph.sort()


def _tidied(model: ir.Model) -> ir.Model:
    RemoveUnusedNodesPass()(model)
    RemoveUnusedOpsetsPass()(model)
    return model
