"""The reverse walk: no operator is known here.

    pull back:  for nodes from last to first:   cotangents of outputs -> rule -> cotangents of inputs, added up

Only nodes on a path from what is wanted to what has a cotangent are visited.
"""

from collections.abc import Iterable, Mapping, Sequence

import onnx_ir as ir

from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.autodiff.judge import links, paths
from gradserve_server.graph.autodiff.rules import Cotangent, Expansion, Rule, lookup
from gradserve_server.graph.autodiff.site import Pull, Site
from gradserve_server.graph.values import describe, shape_of


def pull_back(
    g: Emitter, nodes: Sequence[ir.Node], cotangents: Mapping[ir.Value, Expr], wanted: Iterable[ir.Value]
) -> dict[ir.Value, Expr]:
    """Emits the vector-Jacobian product through some nodes.

    Args:
        g: Gets the new nodes.
        nodes: In topological order.
        cotangents: What flows back into values that the nodes make.
        wanted: Values whose cotangents are asked for.

    Returns:
        For each wanted value that the given ones depend on, its cotangent.
    """
    wanted = list(wanted)
    through, _ = paths(g, nodes, wanted)
    arrived: dict[ir.Value, list[Expr]] = {value: [expr] for value, expr in cotangents.items()}
    settled: dict[ir.Value, Expr] = {}

    def settle(value: ir.Value) -> Expr | None:
        if value in arrived:
            settled[value] = cotangent = _add(g, arrived.pop(value))
            _tell_shape(cotangent.value, value)
        return settled.get(value)

    for node in reversed(nodes):
        live = through.get(node)
        if live is None or not any(out in arrived for out in node.outputs):
            continue
        g.scope = node.name or (node.outputs[0].name or "")
        given = [settle(out) for out in node.outputs]
        for value, part in _through(g, node, given, live):
            arrived.setdefault(value, []).append(part)
    g.scope = "sum"
    return {value: cotangent for value in wanted if (cotangent := settle(value)) is not None}


def _through(
    g: Emitter, node: ir.Node, given: Sequence[Expr | None], live: frozenset[int]
) -> Iterable[tuple[ir.Value, Expr]]:
    """The cotangents of a node's links."""
    state = lookup(node, g.opset)
    values = links(node)
    if isinstance(state, Expansion):
        start = len(g.nodes)
        expanded = state.expand(g, Site(g, node))
        # Nothing would flow back into an input that what was spelled out does not read.
        read = {value for made in g.nodes[start:] for value in links(made)} | {out.value for out in expanded if out}
        unread = [i for i in live if values[i] not in read]
        assert not unread, f"{describe(node, g.opset)} is spelled out without its inputs {unread}"
        seeds = {
            out.value: cotangent
            for out, cotangent in zip(expanded, given, strict=False)
            if out is not None and cotangent is not None
        }
        scope, wanted = g.scope, list(dict.fromkeys(values[i] for i in sorted(live)))
        pulled = pull_back(g, g.nodes[start:], seeds, [value for value in wanted if value is not None])
        g.scope = scope
        yield from pulled.items()
        return
    assert isinstance(state, Rule), f"{describe(node, g.opset)} was not refused"
    pull = Pull(g, node, given, live)
    results: list[Cotangent] = list(state.pull(g, pull))
    results += [None] * (len(values) - len(results))
    for index in sorted(live):
        value, result = values[index], results[index]
        assert value is not None
        cotangent = result() if callable(result) else result
        assert cotangent is not None, f"the rule of {describe(node, g.opset)} gives nothing for input {index}"
        yield value, g.unbroadcast(cotangent, g.of(value)) if state.broadcasts else cotangent


def _tell_shape(cotangent: ir.Value, value: ir.Value) -> None:
    """A cotangent has the shape of its value: where inference lost a size, it is not asked for again in the run."""
    known, told = shape_of(cotangent), shape_of(value)
    if known is None or (told is not None and None in known and None not in told and not cotangent.is_graph_input()):
        cotangent.shape = value.shape


def _add(g: Emitter, parts: Sequence[Expr]) -> Expr:
    if len(parts) == 1:
        return parts[0]
    total = g.op("Sum", *parts) if len(parts) > 2 else parts[0] + parts[1]
    total.value.shape = parts[0].value.shape
    return total
