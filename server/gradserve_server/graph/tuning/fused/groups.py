"""Which nodes run together: each joins its operands' groups, where all that reads them comes later."""

import onnx_ir as ir

from gradserve_server.graph.autodiff.site import nested
from gradserve_server.graph.tuning.fused.fusion import Fusion, fused, operands

MOST_NODES = 48
MOST_INPUTS = 16


class Group:
    """Nodes that run together, at the place of the last of them.

    Attributes:
        nodes: Its own, in the graph's order.
        fusion: These and what it computes again, as one program.
    """

    def __init__(self, fusion: Fusion) -> None:
        self.nodes = fusion.nodes
        self.fusion = fusion


def groups_of(graph: ir.Graph) -> list[Group]:
    """All nodes that a program can have, in groups; a group may be one node."""
    order = places_of(graph)
    groups: dict[ir.Node, Group] = {}
    for node in graph:
        read = operands(node)
        if read is None:
            continue
        alone = fused([node])
        group = Group(alone) if alone is not None else None
        for producer in _producers(read):
            near = groups.get(producer)
            if near is None or near is group:
                continue
            own = group.nodes if group is not None else (node,)
            group = _together(near, own, order, order[node]) or group
        if group is not None:
            for member in group.nodes:
                groups[member] = group
    return list(dict.fromkeys(groups.values()))


def _producers(values: list[ir.Value]) -> list[ir.Node]:
    return [node for value in values if (node := value.producer()) is not None]


def places_of(graph: ir.Graph) -> dict[ir.Node, int]:
    """The place of each node, and of those in its subgraphs."""
    order: dict[ir.Node, int] = {}
    for place, node in enumerate(graph):
        order[node] = place
        for inner in nested(node):
            order.update(dict.fromkeys(inner.all_nodes(), place))
    return order


def _together(group: Group, nodes: tuple[ir.Node, ...], order: dict[ir.Node, int], place: int) -> Group | None:
    """The group with these nodes, at a later place; None where something between reads it, or they do not fit."""
    members = {*group.nodes, *nodes}
    if len(members) > MOST_NODES:
        return None
    for member in members:
        for user, _ in member.outputs[0].uses():
            # A user without a place is in a subgraph that was removed.
            if user not in members and order.get(user, place + 1) <= place:
                return None
    fusion = fused(sorted(members, key=order.__getitem__))
    return Group(fusion) if fusion is not None and len(fusion.inputs) <= MOST_INPUTS else None
