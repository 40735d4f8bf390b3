"""The operator `Gradient` of ai.onnx.preview.training becomes the nodes of the gradient it stands for.

    dX_1, ..., dX_k = Gradient<xs, zs, y>(X_1, ..., X_k, Z_1, ..., Z_m)

is the gradient of the sum of tensor y with respect to the tensors named in xs, in the graph between xs, zs and y, with the
tensors named in xs and zs having the values X and Z. In a model that only names what it passes, that graph is the model's
own; otherwise it is copied, reading the values. A Gradient of a Gradient works: they are expanded in the order of the graph.
"""

from itertools import takewhile

import onnx_ir as ir

from gradserve.errors import InvalidModel, UnsupportedGradient
from gradserve_server.graph.autodiff.emitter import Emitter
from gradserve_server.graph.autodiff.judge import PortableJudge
from gradserve_server.graph.autodiff.path import reach
from gradserve_server.graph.autodiff.portable import emitter_for
from gradserve_server.graph.autodiff.reverse import pull_back
from gradserve_server.graph.values import describe, opset_of, supersede

DOMAIN = "ai.onnx.preview.training"


def has_gradient(model: ir.Model) -> bool:
    """Whether there is one."""
    return any(node.domain == DOMAIN for node in model.graph)


def expand_gradient(model: ir.Model) -> list[str]:
    """Expands every Gradient node of the main graph, in place.

    Args:
        model: With inferred shapes, at an opset that has rules.

    Returns:
        What was done, in words.

    Raises:
        InvalidModel: A name that the graph has not.
        UnsupportedGradient: A node on the way has no gradient.
    """
    done = []
    for node in list(model.graph):
        if node.domain == DOMAIN and node.op_type == "Gradient":
            _expand(model, node)
            done.append(f"expanded {describe(node, opset_of(model))}")
    if done:
        model.graph.opset_imports.pop(DOMAIN, None)
    return done


def _expand(model: ir.Model, node: ir.Node) -> None:
    graph, label = model.graph, describe(node, opset_of(model))
    values = ir.convenience.create_value_mapping(graph)
    xs, zs = (list(node.attributes[name].as_strings()) if name in node.attributes else [] for name in ("xs", "zs"))
    y = node.attributes["y"].as_string()
    if unknown := [name for name in (*xs, *zs, y) if name not in values]:
        msg = f"{label}: expected names of tensors of the graph, got {', '.join(map(repr, unknown))}"
        raise InvalidModel(msg)
    g = emitter_for(model)
    g.scope = node.name or "Gradient"
    target, starts, nodes = values[y], {values[name]: values[name] for name in (*xs, *zs)}, _before(graph, node)
    if any(values[name] is not value for name, value in zip([*xs, *zs], node.inputs, strict=True)):
        for name, value in zip([*xs, *zs], node.inputs, strict=True):
            starts[values[name]] = g.op("Identity", value).value
        target = _copy(g, nodes, dict(starts)).get(target, target)
        graph.insert_before(node, g.nodes)
        nodes, g = _before(graph, node), emitter_for(model)
    wanted = [starts[values[name]] for name in xs]
    problems = reach(model, [value.name or "" for value in wanted], PortableJudge(model, g.opset)).problems
    if found := problems.get(target):
        msg = f"{label}: no gradient for {'; '.join(found)}"
        raise UnsupportedGradient(msg)
    one = g.expand_like(g.const(1, target.dtype), g.of(target))
    pulled = pull_back(g, nodes, {target: one}, wanted)
    for value, out in zip(wanted, node.outputs, strict=False):
        gradient = pulled[value] if value in pulled else g.zeros_like(g.of(value))
        # By an Identity: a gradient may be a value of the model itself, or the same for two inputs.
        supersede(out, g.op("Identity", gradient).value)
    graph.insert_before(node, g.nodes)
    graph.remove(node, safe=True)


def _before(graph: ir.Graph, node: ir.Node) -> list[ir.Node]:
    return list(takewhile(lambda other: other is not node, graph))


def _copy(g: Emitter, nodes: list[ir.Node], copies: dict[ir.Value, ir.Value]) -> dict[ir.Value, ir.Value]:
    """Copies what depends on the replaced values; gives the replacement of each value that has one."""
    for node in nodes:
        replaced = [copies.get(value, value) if value is not None else None for value in node.inputs]
        if replaced == list(node.inputs) or all(out in copies for out in node.outputs):
            continue
        outputs = g.op(node.op_type, *replaced, outputs=len(node.outputs), domain=node.domain, **node.attributes)
        for old, new in zip(node.outputs, outputs, strict=True):
            new.value.type, new.value.shape = old.type, old.shape
            copies.setdefault(old, new.value)
    return copies
