"""Parts of a tensor that come back together: a sum of padded parts is a Concat.

The gradient of slices is a sum of Pads with zeros. Where each number gets exactly one part, joining them reads and writes
every number once instead of three times (queries, keys and values of an attention; windows of Swin).
"""

from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from gradserve_server.graph.values import constant, is_op, same_shape, shape_of, supersede


@dataclass(frozen=True)
class Part:
    """One term of a sum: `value`, with zeros before and after it along one axis."""

    value: ir.Value
    axis: int
    before: int
    size: int
    after: int


def join_parts(model: ir.Model) -> None:
    """Rewrites such sums, in place, in the main graph."""
    for node in list(model.graph):
        terms = [value for value in node.inputs if value is not None]
        if is_op(node, "Add", "Sum") and all(same_shape(value, terms[0]) for value in terms):
            parts = [_part(value) for value in node.inputs]
            joined = _in_order([part for part in parts if part is not None]) if None not in parts else None
            if joined is not None:
                _join(model.graph, node, joined)
    RemoveUnusedNodesPass()(model)


def _part(value: ir.Value | None) -> Part | None:
    node = value.producer() if value is not None else None
    if value is None or node is None or not is_op(node, "Pad") or len(value.uses()) != 1 or value.is_graph_output():
        return None
    if len(node.inputs) < 2:  # until opset 11 the sizes are attributes
        return None
    source, pads = node.inputs[0], constant(node.inputs[1])
    fill = node.inputs[2] if len(node.inputs) > 2 else None
    if source is None or pads is None or node.attributes.get_string("mode", "constant") != "constant":
        return None
    shape, zero, axes = shape_of(source), constant(fill), node.inputs[3] if len(node.inputs) > 3 else None
    if (
        shape is None
        or axes is not None
        or len(pads) != 2 * len(shape)
        or (fill is not None and (zero is None or zero.any()))
    ):
        return None
    moved = [axis for axis in range(len(shape)) if pads[axis] or pads[axis + len(shape)]]
    if len(moved) != 1 or min(pads) < 0:
        return None
    axis = moved[0]
    size = shape[axis]
    return Part(source, axis, int(pads[axis]), size, int(pads[axis + len(shape)])) if isinstance(size, int) else None


def _in_order(parts: list[Part]) -> list[Part] | None:
    """The parts along their axis, if they cover it once."""
    ordered = sorted(parts, key=lambda part: part.before)
    total = ordered[0].before + ordered[0].size + ordered[0].after
    end = 0
    for part in ordered:
        if part.axis != ordered[0].axis or part.before != end or part.before + part.size + part.after != total:
            return None
        end += part.size
    return ordered if end == total else None


def _join(graph: ir.Graph, node: ir.Node, parts: list[Part]) -> None:
    out = node.outputs[0]
    concat = ir.node("Concat", [part.value for part in parts], {"axis": parts[0].axis}, name=f"{out.name}/joined")
    graph.insert_before(node, concat)
    supersede(out, concat.outputs[0])
    graph.remove(node, safe=True)
