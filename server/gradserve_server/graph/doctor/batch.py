"""Is the inputs' first axis the batch? What names and the graph tell; what runs tell is in `runtime.doctor.batch`."""

import re
from dataclasses import dataclass

import onnx_ir as ir

from gradserve_server.graph.values import constant, is_op, shape_of

_BATCH = re.compile("b|n|batch.*", re.IGNORECASE)
"""What people call the batch axis."""
_OTHERS = re.compile(
    "[tlhwcd]|(seq|time|len|frame|step|token|point|node|row|col|height|width|depth|channel|feature|pixel)s?([_ ].*|len.*)?"
    "|.*(_len|length|_steps)",
    re.IGNORECASE,
)
"""And axes of sequences, pictures and sets."""


@dataclass(frozen=True)
class Batch:
    """The first axis of every input."""

    size: int | None
    """Where it is fixed."""
    is_called_so: bool
    """Whether its name says that it is the batch; otherwise it is only the custom."""


def batch_of(graph: ir.Graph) -> Batch | None:
    """The batch axis; None where the first axis is none, or the inputs disagree about its size.

    Args:
        graph: Of a model; outputs may have no shapes.
    """
    firsts = {shape[0] if shape else "" for shape in map(_sizes, graph.inputs)}
    if len(firsts) != 1 or (first := firsts.pop()) == "" or has_no_batch(graph):
        return None
    return Batch(first if isinstance(first, int) else None, _is_called(_BATCH, first))


def has_no_batch(graph: ir.Graph) -> bool:
    """Whether names or the graph say that an input's first axis is something else than the batch.

    The graph does where it puts another axis before it, or gives no output that has it.
    """
    firsts = [shape[0] for shape in map(_sizes, graph.inputs) if shape]
    if any(_is_called(_BATCH, size) for size in firsts):
        return False
    others = [size for value in graph.inputs for size in _sizes(value)[1:]]
    return (
        any(_is_called(_BATCH, size) for size in others)  # [T,N,C] of recurrent networks
        or any(_is_called(_OTHERS, size) for size in firsts)
        or all(map(_gets_another_axis, graph.inputs))
        or _is_lost(firsts, graph)
    )


def _sizes(value: ir.Value) -> tuple[int | str | None, ...]:
    return shape_of(value) or ()


def _is_called(names: re.Pattern[str], size: int | str | None) -> bool:
    return isinstance(size, str) and names.fullmatch(size) is not None


def _gets_another_axis(value: ir.Value) -> bool:
    """Whether everything that reads it first puts an axis before it."""
    return bool(value.consumers()) and not value.is_graph_output() and all(map(_puts_axis_first, value.consumers()))


def _puts_axis_first(node: ir.Node) -> bool:
    if not is_op(node, "Unsqueeze"):
        return False
    if (attribute := node.attributes.get("axes")) is not None:  # until opset 12
        return 0 in attribute.as_ints()
    axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return axes is not None and 0 in axes.ravel()


def _is_lost(firsts: list[int | str | None], graph: ir.Graph) -> bool:
    """Whether the inputs have fixed sizes there, and every output is known to have none of them."""
    shapes = [shape_of(output) for output in graph.outputs]
    return all(isinstance(size, int) for size in firsts) and all(
        shape is not None and (not shape or (isinstance(shape[0], int) and shape[0] not in firsts)) for shape in shapes
    )
