"""What a group computes again instead of reading it: an activation, where what went into it is read anyway."""

from collections.abc import Iterable

import onnx_ir as ir

from gradserve_server.graph.autodiff.site import captured
from gradserve_server.graph.tuning.fused.fusion import fused, is_number, operands
from gradserve_server.graph.tuning.fused.groups import MOST_NODES, Group
from gradserve_server.graph.tuning.fused.table import REDUCTIONS

FARTHEST = 8
"""Nodes that are computed again for one input at most."""


def recompute(groups: Iterable[Group]) -> None:
    """Lets each group compute again what saves it reads, in place."""
    known = {node for group in groups for node in group.nodes}
    for group in groups:
        if len(group.nodes) > 1 or group.fusion.block > 1:
            while any(_instead_of_reading(group, value, known) for value in group.fusion.inputs):
                pass


def exports(graph: ir.Graph, groups: Iterable[Group]) -> dict[Group, list[ir.Value]]:
    """The values of each group's own nodes that something reads which does not compute them itself, in the groups' order."""
    group_of = {node: group for group in groups for node in group.nodes}
    needed = set(graph.outputs)
    found: dict[Group, list[ir.Value]] = {}
    for node in reversed(graph):
        group = group_of.get(node)
        if group is None:
            needed.update(value for value in (*node.inputs, *captured(node)) if value is not None)
        elif node is group.nodes[-1]:
            found[group] = [member.outputs[0] for member in group.nodes if member.outputs[0] in needed]
            if found[group]:
                needed.update(group.fusion.inputs)
    return dict(reversed(found.items()))


def _instead_of_reading(group: Group, value: ir.Value, known: set[ir.Node]) -> bool:
    """Computes the value, and what comes for free with it, from what went into it, if that is fewer reads."""
    again: list[ir.Node] = []
    reads = set(group.fusion.inputs)
    inside = {node.outputs[0] for node in group.fusion.nodes}
    wanted: ir.Value | None = value
    while wanted is not None and len(again) < FARTHEST:
        node = wanted.producer()
        if node is None or node not in known or node.op_type in REDUCTIONS:
            break
        again.append(node)
        reads.discard(wanted)
        inside.add(wanted)
        reads |= _numbers(node) - inside
        wanted = next((read for read in reads if _is_free(read, reads, inside, known)), None)
    before = group.fusion
    nodes = [*reversed(again), *before.nodes]
    if not again or len(reads) >= len(before.inputs) or len(nodes) > MOST_NODES:
        return False
    after = fused(_in_order(nodes))
    if after is None or (after.axis, after.lanes, after.block) != (before.axis, before.lanes, before.block):
        return False
    group.fusion = after
    return True


def _numbers(node: ir.Node) -> set[ir.Value]:
    return {value for value in operands(node) or [] if not is_number(value)}


def _is_free(value: ir.Value, reads: set[ir.Value], inside: set[ir.Value], known: set[ir.Node]) -> bool:
    """Whether all that makes the value is read or computed already."""
    node = value.producer()
    if node is None or node not in known or node.op_type in REDUCTIONS:
        return False
    return _numbers(node) <= (reads - {value}) | inside


def _in_order(nodes: list[ir.Node]) -> list[ir.Node]:
    """The nodes, each after what it reads."""
    members, done = dict.fromkeys(nodes), dict[ir.Node, None]()

    def visit(node: ir.Node) -> None:
        if node in done:
            return
        for value in operands(node) or []:
            producer = value.producer()
            if producer in members:
                visit(producer)
        done[node] = None

    for node in members:
        visit(node)
    return list(done)
