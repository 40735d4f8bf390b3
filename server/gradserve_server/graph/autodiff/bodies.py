"""Subgraphs: copied into the nodes of an emitter, and made of them."""

from collections.abc import Callable, Iterable, Sequence

import onnx_ir as ir

from gradserve_server.graph.autodiff.emitter import SUBGRAPHS, Dim, Emitter, Expr, infer
from gradserve_server.graph.autodiff.site import subgraphs

BACKWARDS = (-1, -(2**63), 0, -1)
"""Slice's start, end, axis and step that turn the first axis around."""

Known = dict[ir.Value, ir.Value | None]
"""What takes the place of which value; None: of an optional input that is left out."""
Resolve = Callable[[ir.Attr], ir.Attr | None]

Step = Callable[[Emitter, list[Expr], list[Expr]], tuple[Sequence[Expr], Sequence[Expr]]]
"""Emits one step: of the states and this step's elements, the next states and what is collected."""


# ---- copies ----------------------------------------------------------------------------------------------------------


def replay(g: Emitter, graph: ir.Graph, inputs: Sequence[Expr]) -> list[Expr]:
    """Appends copies of a subgraph's nodes; gives copies of its outputs.

    Args:
        g: Gets the nodes.
        graph: The subgraph.
        inputs: What takes the place of its inputs.
    """
    known: Known = {value: x.value for value, x in zip(graph.inputs, inputs, strict=True)}
    known.update(constants(g, graph))
    g.nodes += [copy(g, node, known) for node in graph]
    return [g.of(known.get(value) or value) for value in graph.outputs]


def constants(g: Emitter, graph: ir.Graph) -> dict[ir.Value, ir.Value]:
    """Those that a subgraph still holds: inference form lifts all that are not outputs."""
    held = ((value, value.const_value) for value in graph.initializers.values())
    return {value: g.const(tensor.numpy()).value for value, tensor in held if tensor is not None}


def copy(g: Emitter, node: ir.Node, known: Known, resolve: Resolve = lambda given: given) -> ir.Node:
    """A node like this one. Not put anywhere.

    Args:
        g: Gives names, and gets constants.
        node: The original.
        known: What takes the place of which value; gets the node's outputs.
        resolve: What each attribute becomes; None leaves it out.
    """
    resolved = [attribute for given in node.attributes.values() if (attribute := resolve(given)) is not None]
    attributes = [_copy_graph(g, given, known, resolve) if given.type in SUBGRAPHS else given for given in resolved]
    inputs = [known.get(value, value) if value is not None else None for value in node.inputs]
    new = ir.Node(node.domain, node.op_type, inputs, attributes, num_outputs=len(node.outputs), name=g.name(node.op_type))
    for out, original in zip(new.outputs, node.outputs, strict=True):
        known[original] = _like(out, original, g.name(node.op_type) if original.name else "")
    if any(out.type is None for out in new.outputs):
        infer(new, g.opset)
        for graph in subgraphs(new) if new.op_type == "If" else ():
            for out, inside in zip(new.outputs, graph.outputs, strict=True):
                out.type = out.type or inside.type
    return new


def _copy_graph(g: Emitter, attribute: ir.Attr, outside: Known, resolve: Resolve) -> ir.Attr:
    assert attribute.type is ir.AttributeType.GRAPH, "no operator has a list of graphs"
    graph = attribute.as_graph()
    inputs = [_like(ir.Value(), value, g.name("in")) for value in graph.inputs]
    known = outside | dict(zip(graph.inputs, inputs, strict=True)) | constants(g, graph)
    nodes = [copy(g, node, known, resolve) for node in graph]
    outputs = [known.get(value) or value for value in graph.outputs]
    return ir.AttrGraph(attribute.name, ir.Graph(inputs, outputs, nodes=nodes, name=g.name("body")))


def _like(value: ir.Value, original: ir.Value, name: str) -> ir.Value:
    value.name, value.type, value.shape = name, original.type, original.shape
    return value


# ---- new ones --------------------------------------------------------------------------------------------------------


def entry(g: Emitter, dtype: ir.DataType, shape: Sequence[Dim] | None) -> Expr:
    """A new input of a subgraph."""
    kind, sizes = ir.TensorType(dtype), ir.Shape(shape) if shape is not None else None
    return g.of(ir.Value(name=g.name("in"), type=kind, shape=sizes))


def closed(g: Emitter, inputs: Sequence[Expr], outputs: Sequence[Expr]) -> ir.Graph:
    """The subgraph that an emitter's nodes make. What the outputs do not need is left out."""
    made = {out for node in g.nodes for out in node.outputs}
    results: list[ir.Value] = []
    for out in outputs:
        # An output must be made inside, and be no other output.
        own = out.value in made and out.value not in results
        results.append(out.value if own else g.op("Identity", g.of(out.value)).value)
    return ir.Graph([x.value for x in inputs], results, nodes=_needed(g.nodes, results), name=g.name("body"))


def _needed(nodes: Sequence[ir.Node], outputs: Iterable[ir.Value]) -> list[ir.Node]:
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        below = [node, *(inner for graph in subgraphs(node) for inner in ir.traversal.RecursiveGraphIterator(graph))]
        if wanted.isdisjoint(node.outputs):
            for inner in below:  # so that what it read does not look used
                for index in range(len(inner.inputs)):
                    inner.replace_input_with(index, None)
        else:
            wanted.update(value for inner in below for value in inner.inputs if value is not None)
            wanted.update(value for inner in below for graph in subgraphs(inner) for value in graph.outputs)
            kept.append(node)
    return kept[::-1]


def backwards(g: Emitter, x: Expr) -> Expr:
    """The first axis the other way around."""
    return g.op("Slice", x, *(g.ints(number) for number in BACKWARDS))


def scan(g: Emitter, states: Sequence[Expr], elements: Sequence[Expr], step: Step) -> tuple[list[Expr], list[Expr]]:
    """Emits a Scan along the first axis.

    Args:
        g: Gets the node.
        states: At the start.
        elements: What is run through; one at least.
        step: Emits one step. May read any values from outside.

    Returns:
        The states at the end, and what was collected, stacked.
    """
    inner = g.for_subgraph()
    held = [entry(inner, x.dtype, x.shape) for x in states]
    taken = [entry(inner, x.dtype, x.shape[1:] if x.shape is not None else None) for x in elements]
    after, collected = step(inner, held, taken)
    body = closed(inner, [*held, *taken], [*after, *collected])
    for made, before in zip(body.outputs, held, strict=False):
        made.shape = made.shape or before.value.shape  # onnxruntime wants to know it, and a state keeps it
    unread = [i for i, x in enumerate(taken) if not x.value.uses()]
    if len(unread) == len(taken):
        unread = unread[1:]
    for i in reversed(unread):
        del body.inputs[len(held) + i]
    read = [x for i, x in enumerate(elements) if i not in unread]
    results = g.op("Scan", *states, *read, outputs=len(body.outputs), body=body, num_scan_inputs=len(read))
    for out, like in zip(results, states, strict=False):
        out.value.type, out.value.shape = ir.TensorType(like.dtype), like.value.shape
    length = read[0].shape[0] if read[0].shape else None
    for out, one in zip(results[len(states) :], collected, strict=True):
        out.value.type = ir.TensorType(one.dtype)
        if one.shape is not None:
            out.value.shape = ir.Shape([length, *one.shape])
    return list(results[: len(states)]), list(results[len(states) :])
