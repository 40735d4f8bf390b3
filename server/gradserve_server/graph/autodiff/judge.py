"""What each backend can differentiate: asked node by node, before anything is built.

A link of a node is one of its inputs or, after those, one of the values that its subgraphs read from outside. What flows
inside a subgraph is followed as in the main graph (`Body`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import onnx_ir as ir

from gradserve_server.graph.autodiff.emitter import Emitter
from gradserve_server.graph.autodiff.rules import Expansion, ProvenZero, Rule, lookup
from gradserve_server.graph.autodiff.site import Site, captured, subgraphs
from gradserve_server.graph.values import describe, is_float, is_op


class Judge(Protocol):
    """What one backend says of nodes."""

    backend: str
    """Its name, in errors."""

    def flows(self, node: ir.Node, live: Sequence[int]) -> list[int]:
        """Those of these links that the outputs depend on other than in jumps."""

    def problems(self, node: ir.Node, live: Sequence[int]) -> list[str]:
        """Why the node has no gradient with a derivative flowing through these links; empty if it has."""


def links(node: ir.Node) -> list[ir.Value | None]:
    """What the node reads: inputs, then captured values."""
    return [*node.inputs, *captured(node)]


def follow(
    nodes: Iterable[ir.Node], starts: Mapping[ir.Value, tuple[str, ...]], judge: Judge
) -> dict[ir.Value, tuple[str, ...]]:
    """Follows the derivative from some values through nodes in topological order.

    Returns:
        For each value that depends on them: the nodes on its way without a gradient, in words.
    """
    problems = dict(starts)
    for node in nodes:
        read = links(node)
        live = [i for i, value in enumerate(read) if value is not None and value in problems]
        live = judge.flows(node, live) if live else []
        if not live:
            continue
        known = [problem for i in live for problem in problems[read[i]]]  # type: ignore[index]
        found = tuple(dict.fromkeys([*known, *judge.problems(node, live)]))
        # What is asked for is where the derivative ends: what lies before a layer is no problem of what lies after it.
        problems.update((node.outputs[i], found) for i in carriers(node, live) if node.outputs[i] not in starts)
    return problems


def paths(
    g: Emitter, nodes: Iterable[ir.Node], starts: Iterable[ir.Value]
) -> tuple[dict[ir.Node, frozenset[int]], set[ir.Value]]:
    """What depends on some values: for each node that does, the links that it does by; and all values that do."""
    depends = set(starts)
    found: dict[ir.Node, frozenset[int]] = {}
    for node in nodes:
        live = [i for i, value in enumerate(links(node)) if value is not None and value in depends]
        live = flows(Site(g, node), live) if live else []
        if live:
            found[node] = frozenset(live)
            depends.update(node.outputs[i] for i in carriers(node, live))
    return found, depends


def flows(site: Site, live: Sequence[int]) -> list[int]:
    """Those of these links that are not proven zero by the table."""
    state = lookup(site.node, site.opset)
    if isinstance(state, ProvenZero) or (isinstance(state, Rule) and state.is_zero is not None and state.is_zero(site)):
        return []
    zero = state.zero if isinstance(state, (Rule, Expansion)) else frozenset()
    if isinstance(state, Expansion) and state.zero_here is not None:
        zero |= frozenset(state.zero_here(site))
    live = [index for index in live if index not in zero]
    inside = bodies(site.node) if isinstance(state, Rule) else []
    if not inside:
        return live
    return [
        index for index in live if any(not depend(site.emitter, body, [index]).isdisjoint(body.results) for body in inside)
    ]


# ---- subgraphs -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Body:
    """A subgraph, and how its values are tied to those of its node."""

    graph: ir.Graph
    entering: Mapping[int, ir.Value]
    """By which value each link comes in."""
    carried: Sequence[tuple[ir.Value, ir.Value]]
    """Outputs that are inputs of the next step."""
    results: Sequence[ir.Value]
    """What becomes the node's outputs, in their order."""


def bodies(node: ir.Node) -> list[Body]:
    """The subgraphs of a node of control flow; of other nodes none."""
    graphs, inputs = list(subgraphs(node)), len(node.inputs)
    outside = {inputs + i: value for i, value in enumerate(captured(node))} if graphs else {}
    if is_op(node, "If"):
        return [Body(graph, outside, (), graph.outputs) for graph in graphs]
    if is_op(node, "Scan"):
        states = inputs - node.attributes["num_scan_inputs"].as_int()
        (graph,) = graphs
        carried = list(zip(graph.outputs[:states], graph.inputs[:states], strict=True))
        return [Body(graph, dict(enumerate(graph.inputs)) | outside, carried, graph.outputs)]
    if is_op(node, "Loop"):
        (graph,) = graphs
        carried = list(zip(graph.outputs[1 : inputs - 1], graph.inputs[2:], strict=True))
        return [Body(graph, dict(enumerate(graph.inputs)) | outside, carried, graph.outputs[1:])]
    return []


def depend(g: Emitter, body: Body, live: Iterable[int]) -> set[ir.Value]:
    """The values in a subgraph that depend on these links of its node, in any step."""
    starts = {body.entering[index] for index in live}
    while True:
        _, found = paths(g, body.graph, starts)
        more = {into for out, into in body.carried if out in found} - starts
        if not more:
            return found
        starts |= more


# ---- the portable backend --------------------------------------------------------------------------------------------


class PortableJudge:
    """Of the reverse walk over our own table."""

    backend = "portable"

    def __init__(self, model: ir.Model, opset: int, *, straight_through: bool = False) -> None:
        self._opset = opset
        # It emits nothing: a Site wants one.
        self._emitter = Emitter(model.graph, opset, "", straight_through=straight_through)

    def flows(self, node: ir.Node, live: Sequence[int]) -> list[int]:
        """See `Judge`."""
        return flows(Site(self._emitter, node), live)

    def problems(self, node: ir.Node, live: Sequence[int]) -> list[str]:
        """See `Judge`."""
        name, state = describe(node, self._opset), lookup(node, self._opset)
        if not isinstance(state, (Rule, Expansion)):
            return [f"{name}: {state.reason}"]
        if _quantized(node, live) and not is_op(node, *MOVES):
            return [f"{name}: it computes with integers that a quantizer made"]
        site = Site(self._emitter, node)
        found = [f"{name}: {reason}" for refuse in state.refuse if (reason := refuse(site)) is not None]
        if isinstance(state, Rule):
            found += [f"{name}: no derivative by its {what}" for i, what in state.lacks.items() if i in live]
        inside = (problem for body in bodies(node) for problem in self._inside(body, live))
        return found + [f"in {name}: {problem}" for problem in dict.fromkeys(inside)]

    def _inside(self, body: Body, live: Iterable[int]) -> list[str]:
        """The problems on the way to a subgraph's outputs."""
        starts: dict[ir.Value, tuple[str, ...]] = {body.entering[index]: () for index in live}
        while True:
            found = follow(body.graph, starts, self)
            before = dict(starts)
            for out, into in body.carried:
                if out in found:
                    starts[into] = tuple(dict.fromkeys([*starts.get(into, ()), *found[out]]))
            if starts == before:
                return [problem for value in body.results for problem in found.get(value, ())]


# ---- values ----------------------------------------------------------------------------------------------------------

QUANTIZED = frozenset(
    dtype
    for dtype in ir.DataType
    if dtype.name.startswith(("INT", "UINT", "FLOAT4", "FLOAT8")) and dtype.name not in ("INT64", "UINT32", "UINT64")
)
"""Element types that stand for floats after a quantizer; int32 after a product of such."""
MOVES = ("Concat", "DequantizeLinear", "Flatten", "Identity", "Reshape", "Split", "Squeeze", "Transpose", "Unsqueeze")
"""Operators that do not compute with what a quantizer made."""


def carriers(node: ir.Node, live: Sequence[int]) -> list[int]:
    """Indices of the outputs that a derivative comes to: floats, and what a quantizer made of them."""
    quantized = is_op(node, "QuantizeLinear", "DynamicQuantizeLinear") or _quantized(node, live)
    found = set(floats(node.outputs))
    return [i for i, value in enumerate(node.outputs) if i in found or (quantized and value.dtype in QUANTIZED)]


def _quantized(node: ir.Node, live: Sequence[int]) -> bool:
    """Whether a derivative comes to the node by integers."""
    read = links(node)
    return any(value is not None and value.dtype in QUANTIZED for value in (read[i] for i in live))


def floats(values: Sequence[ir.Value | None]) -> list[int]:
    """Indices of the values that have a derivative, or whose type is not known."""
    return [i for i, value in enumerate(values) if value is not None and (value.dtype is None or is_float(value))]
