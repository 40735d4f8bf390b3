"""Masks in bits: all that is kept of an activation of which the backward pass wants to know only where it let through.

A mask is a HardSigmoid so steep that it is a step. The rules compute it where it is read, so that what it is computed from
lives until then. Here it moves to where that is made, while it is in the cache, and lives in its place: two bits for each
number instead of 32 (csrc/kernels/fused/masks.h). Only our own operator reads and writes it.
"""

import math

import onnx_ir as ir

from gradserve_server.graph.autodiff.vjp_activations import STEEP
from gradserve_server.graph.tuning.fused.domains import mark_packed
from gradserve_server.graph.tuning.fused.fusion import fused, known
from gradserve_server.graph.tuning.fused.groups import places_of
from gradserve_server.graph.values import attribute, is_op

FEWEST = 2**15
"""Numbers of a sample from which on; for fewer an operator more costs more than the memory is worth."""

NEAREST = 8
"""Nodes between the last other reader of an activation and the mask's: for fewer it lives as long in any case."""


def pack_masks(graph: ir.Graph) -> None:
    """Moves masks of large activations to where these are made, and marks them, in place."""
    places = places_of(graph)
    for node in list(graph):
        steps = _steps(node)
        if (
            steps
            and _is_large(node.outputs[0])
            and _is_last_to_read(steps, places)
            and _can_be_packed(node.outputs[0], graph)
        ):
            _move(graph, steps)


def _steps(node: ir.Node) -> list[ir.Node] | None:
    """The nodes that make a mask of an activation."""
    if not is_op(node, "HardSigmoid"):
        return None
    match attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5):
        case (alpha, 0.0) if math.isclose(alpha, STEEP, rel_tol=1e-6):  # Y > 0
            return [node]
        case (alpha, 1.0) if math.isclose(alpha, -STEEP, rel_tol=1e-6):  # X = clip(X): `tuning.slopes`
            distance = _maker(node, "Abs")
            difference = _maker(distance, "Sub") if distance is not None else None
            return [difference, distance, node] if distance is not None and difference is not None else None
    return None


def _maker(node: ir.Node, op: str) -> ir.Node | None:
    maker = node.inputs[0].producer() if node.inputs[0] is not None else None
    return maker if maker is not None and is_op(maker, op) else None


def _is_large(mask: ir.Value) -> bool:
    sizes = known(mask)
    if sizes is None:
        return False
    fixed = [size for size in sizes[1:] if isinstance(size, int)]
    return len(fixed) < len(sizes) - 1 or math.prod(fixed) >= FEWEST


def _read(steps: list[ir.Node]) -> list[ir.Value]:
    made = {step.outputs[0] for step in steps}
    return [value for step in steps for value in step.inputs if value is not None and value not in made]


def _is_last_to_read(steps: list[ir.Node], places: dict[ir.Node, int]) -> bool:
    """Whether what the mask is made of would be gone long before the mask is read."""
    read = _read(steps)
    if any(value.producer() is None or value.is_graph_output() for value in read):
        return False
    others = [places[user] for value in read for user, _ in value.uses() if user not in steps and user in places]
    users = [places[user] for user, _ in steps[-1].outputs[0].uses() if user in places]
    return bool(others and users) and min(users) - max(others) > NEAREST


def _can_be_packed(mask: ir.Value, graph: ir.Graph) -> bool:
    """Marks it, if all that read it are in programs then."""
    mark_packed(mask)
    users = [user for user, _ in mask.uses()]
    if not mask.is_graph_output() and all(user.graph is graph and fused([user]) is not None for user in users):
        return True
    mark_packed(mask, packed=False)
    return False


def _move(graph: ir.Graph, steps: list[ir.Node]) -> None:
    """To behind the last of what they read."""
    makers = {value.producer() for value in _read(steps)}
    last = next(node for node in reversed(graph) if node in makers)
    for step in steps:
        graph.remove(step)
    graph.insert_after(last, steps)
