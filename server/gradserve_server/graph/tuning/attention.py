"""Attention weights are made again for the backward pass, from the queries and keys that it reads anyway.

They are the one activation that grows with the square of the sequence: [N, heads, T, T] by each attention, kept from the
forward pass to the backward pass. Of what FlashAttention does (Dao et al., 2022), this is the part that needs no kernel of
its own: softmax(Q K^T + mask), and what is done to it before it meets the values, is computed a second time where the
gradient reads it, by the same operators from the same numbers.

onnxruntime runs a node as soon as nothing that comes before it in the graph is ready, and merges nodes that compute the
same. So the second product starts from a copy of its queries that waits for a cotangent: our own operator, with an input
more than its program reads.
"""

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from gradserve_server.graph.tuning.fused.domains import DOMAIN, VERSION
from gradserve_server.graph.tuning.fused.groups import places_of
from gradserve_server.graph.values import is_op, shape_of

MADE_AGAIN = ("Add", "Div", "IsNaN", "Mul", "Softmax", "Sub", "Where")
"""What may lie between the product of queries and keys and that with the values."""

MOVED = ("Reshape", "Transpose")
"""What may lie between the queries that the backward pass reads and the product: rules read what was before."""

_COPY: dict[str, Any] = {
    "program": "y0 = copy x0",
    "axis": 0,
    "lanes": 1,
    "block": 1,
    "narrow": [0],
    "packed_inputs": [0, 0],
    "packed_outputs": [0],
}

Places = dict[ir.Node, int]


@dataclass(frozen=True)
class Weights:
    """What is kept of one attention's weights for the backward pass."""

    readers: dict[ir.Value, list[ir.Node]]
    """The weights before and after masks, and who reads them in the backward pass."""
    used: int
    """The place of the product with the values: all that comes later is not needed for the prediction."""

    def first(self, places: Places) -> ir.Node:
        """The first of the readers."""
        return min((user for users in self.readers.values() for user in users), key=places.__getitem__)


@dataclass(frozen=True)
class Again:
    """What makes them once more."""

    nodes: list[ir.Node]
    product: ir.Node
    """The one among them that makes all pairs of queries and keys."""
    queries: ir.Value
    """What they start from. The keys are read as they are: onnxruntime's products transpose them for nothing."""


def recompute_attention(model: ir.Model) -> None:
    """Has the backward pass compute attention weights again where it reads fewer numbers than are kept, in place.

    Args:
        model: With inferred shapes.
    """
    places = places_of(model.graph)
    for node in list(model.graph):
        if not is_op(node, "Softmax"):
            continue
        kept = _kept(node, places)
        again = _made_from(kept, places) if kept is not None else None
        if kept is None or again is None or not _is_worth(again, kept):
            continue
        cotangent = _cotangent(kept, places)
        if cotangent is not None:
            _insert(model.graph, kept, again, cotangent, places)


def _kept(softmax: ir.Node, places: Places) -> Weights | None:
    """What of the weights is kept; the forward pass ends with the first product that reads them: that with the values."""
    weights, products = [softmax.outputs[0]], list[int]()
    for value in weights:
        for user in _readers(value, places):
            if is_op(user, "MatMul"):
                products.append(places[user])
            elif is_op(user, *MADE_AGAIN):
                weights += [out for out in user.outputs if out not in weights]
    if not products:
        return None
    used = min(products)
    made = [value for value in weights if places[_maker(value)] < used]
    late = {value: [user for user in _readers(value, places) if places[user] > used] for value in made}
    readers = {value: users for value, users in late.items() if users}
    return Weights(readers, used) if readers and not any(value.is_graph_output() for value in made) else None


def _made_from(kept: Weights, places: Places) -> Again | None:
    """What makes those values from queries and keys; None: something else is between."""
    nodes: dict[ir.Node, None] = {}
    products: list[ir.Node] = []

    def visit(value: ir.Value) -> bool:
        node = value.producer()
        if node is None or node in nodes or _is_smaller(value, kept):  # a mask for all heads, say
            return True
        nodes[node] = None
        if is_op(node, "MatMul"):
            products.append(node)
            return True
        return is_op(node, *MADE_AGAIN) and all(visit(operand) for operand in node.inputs if operand is not None)

    if not all(map(visit, kept.readers)) or len(products) != 1:
        return None
    queries, moved = _source(products[0], places[kept.first(places)], places)
    return Again(sorted({*nodes, *moved}, key=places.__getitem__), products[0], queries)


def _source(product: ir.Node, until: int, places: Places) -> tuple[ir.Value, list[ir.Node]]:
    """The queries, or what they were before numbers were moved, if that is what lives until then; and who moves them."""
    (queries, *_), moved = product.inputs, list[ir.Node]()
    assert queries is not None
    value: ir.Value | None = queries
    while value is not None and all(places[user] < until for user in _readers(value, places)):
        node = value.producer()
        if node is None or not is_op(node, *MOVED):
            return queries, []
        moved.append(node)
        value = node.inputs[0]
    return value or queries, moved


def _cotangent(kept: Weights, places: Places) -> ir.Value | None:
    """What the first reader waits for, or what reads that: something that only the backward pass makes."""
    reached = [kept.first(places)]
    for node in reached:
        for value in node.inputs:
            maker = value.producer() if value is not None else None
            if value is None or maker is None or value.dtype is not ir.DataType.FLOAT or maker in reached:
                continue
            if places[maker] > kept.used:
                return value
        reached += [user for out in node.outputs for user in _readers(out, places) if user not in reached]
    return None


def _readers(value: ir.Value, places: Places) -> list[ir.Node]:
    """Who reads the value; not those in a subgraph that was removed."""
    return [user for user in value.consumers() if user in places]


def _is_smaller(value: ir.Value, kept: Weights) -> bool:
    """Whether it has one row of numbers where the weights have one for each head, or less."""
    shape, weights = shape_of(value), shape_of(next(iter(kept.readers)))
    if shape is None or weights is None or len(shape) > len(weights):
        return False
    return any(size == 1 and of != 1 for size, of in zip(reversed(shape), reversed(weights), strict=False))


def _is_worth(again: Again, kept: Weights) -> bool:
    """Whether the product reads fewer numbers than are kept, for each head of each sample: at most as many live longer."""
    queries, keys = (shape_of(value) for value in again.product.inputs if value is not None)
    match (queries or ())[-2:], (keys or ())[-2:]:
        case (int(rows), int(depth)), (_, int(columns)):
            return depth * (rows + columns) < rows * columns * len(kept.readers)
    return False


def _insert(graph: ir.Graph, kept: Weights, again: Again, cotangent: ir.Value, places: Places) -> None:
    first = kept.first(places)
    here = next(node for node in graph if places[node] == places[first])  # itself, or the node that has it in a subgraph
    now: dict[ir.Value | None, ir.Value] = {}
    waiting = ir.node("Fused", [again.queries, cotangent], _COPY, domain=DOMAIN, name=f"{again.queries.name}/waiting")
    now[again.queries] = _append(graph, here, waiting, again.queries)
    for node in again.nodes:
        inputs = [now.get(value, value) for value in node.inputs]
        copy = ir.node(node.op_type, inputs, dict(node.attributes), domain=node.domain, name=f"{node.outputs[0].name}/again")
        now[node.outputs[0]] = _append(graph, here, copy, node.outputs[0])
    for value, users in kept.readers.items():
        for user in users:
            for index, operand in enumerate(user.inputs):
                if operand is value:
                    user.replace_input_with(index, now[value])
    graph.opset_imports[DOMAIN] = VERSION


def _append(graph: ir.Graph, here: ir.Node, node: ir.Node, like: ir.Value) -> ir.Value:
    (made,) = node.outputs
    made.name, made.type, made.shape = node.name, like.type, like.shape
    graph.insert_before(here, node)
    return made


def _maker(value: ir.Value) -> ir.Node:
    node = value.producer()
    assert node is not None
    return node
