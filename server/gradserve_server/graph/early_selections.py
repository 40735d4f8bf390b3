"""Only what is read is computed: places chosen along an axis are chosen before the operators that treat each place alike.

A network that reads one token at its end (BERT, ViT, the last word of a language model) computes its last layer for all of
them. Where a Gather or Slice alone reads a value, it is moved up, through products, normalizations and activations, to what
others read too: in an attention to the queries, beside keys and values of all tokens. The gradient goes the same way back.
"""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from gradserve_server.graph.values import attribute, constant, is_op, opset_of, shape_of, supersede, unused_name

END = 2**31 - 1
"""Slices that end here or later end where the axis does."""

Pulls = list[tuple[int, int]]
"""Inputs of a node that the places are chosen of, each with its axis."""

Rule = Callable[[ir.Node, int], Pulls | None]
"""What choosing along an axis of a node's output asks of its inputs; None where it cannot be chosen before."""


@dataclass(frozen=True)
class Selection:
    """A node that reads some places along an axis, and those."""

    node: ir.Node
    axis: int
    places: tuple[int, ...]
    drops: bool
    """Whether the axis is gone after it: one place, by a scalar index."""


def select_early(model: ir.Model, kept: Container[str]) -> None:
    """Moves selections up, in place.

    Args:
        model: With inferred shapes.
        kept: Names of values that stay as they are; outputs do in any case.
    """
    if opset_of(model) < FIRST_OPSET:
        return
    moved = False
    for node in list(model.graph):
        selection = _selection(node)
        if selection is not None:
            moved |= _move(model.graph, selection, kept)
    if moved:
        RemoveUnusedNodesPass()(model)


def _selection(node: ir.Node) -> Selection | None:
    x = node.inputs[0] if node.inputs else None
    shape = shape_of(x) if x is not None and constant(x) is None else None
    if not shape:
        return None
    if is_op(node, "Gather"):
        index = constant(node.inputs[1])
        if index is None or index.ndim > 1:
            return None
        axis, places = int(attribute(node, "axis", 0)) % len(shape), tuple(int(i) for i in index.ravel())
        drops = index.ndim == 0
    elif is_op(node, "Slice"):
        found = _sliced(node, shape)
        if found is None:
            return None
        (axis, places), drops = found, False
    else:
        return None
    size = shape[axis]
    few = 2 * len(places) <= size if isinstance(size, int) else len(places) == 1
    return Selection(node, axis, places, drops) if places and few else None


def _sliced(node: ir.Node, shape: Sequence[int | str | None]) -> tuple[int, tuple[int, ...]] | None:
    """The places of a Slice along one axis; of an open size the first or the last."""
    arrays = [constant(value) if value is not None else None for value in node.inputs[1:]]
    if len(arrays) < 3 or any(array is None or array.size != 1 for array in arrays):
        return None
    start, end, axis, *step = (int(array.item()) for array in arrays if array is not None)
    size = shape[axis]
    if isinstance(size, int):
        return axis % len(shape), tuple(range(size)[slice(start, end, *step)])
    whole = {(0, 1): (0,), (-1, END): (-1,)}
    return (axis % len(shape), places) if (places := whole.get((start, min(end, END)))) and step in ([], [1]) else None


def _move(graph: ir.Graph, selection: Selection, kept: Container[str]) -> bool:
    x = selection.node.inputs[0]
    assert x is not None
    axes = {x: selection.axis}  # of values of which only some places are asked for
    askers: dict[ir.Value, set[tuple[ir.Node, int]]] = {x: {(selection.node, 0)}}
    passed: dict[ir.Node, Pulls] = {}
    nodes = list(graph)
    for node in reversed(nodes[: nodes.index(selection.node)]):
        out = node.outputs[0]
        if out not in axes or any(other.uses() or other.is_graph_output() for other in node.outputs[1:]):
            continue
        if out.is_graph_output() or out.name in kept or {(use.node, use.idx) for use in out.uses()} != askers[out]:
            continue
        pulls = _pulls(node, axes[out])
        if pulls is None or any(axes.get(value, axis) != axis for value, axis in _pulled(node, pulls)):
            continue
        passed[node] = pulls
        for (index, axis), (value, _) in zip(pulls, _pulled(node, pulls), strict=True):
            axes[value] = axis
            askers.setdefault(value, set()).add((node, index))
    if not any(is_op(node, *WORTH) for node in passed):
        return False
    mover = _Mover(graph, selection)
    for node in reversed(passed):
        mover.narrow(node, axes[node.outputs[0]], passed[node], passed)
    mover.finish()
    return True


def _pulled(node: ir.Node, pulls: Pulls) -> list[tuple[ir.Value, int]]:
    return [(value, axis) for index, axis in pulls if (value := node.inputs[index]) is not None]


class _Mover:
    """Rewrites a graph.

    Args:
        graph: Changed.
        selection: What is moved.
    """

    def __init__(self, graph: ir.Graph, selection: Selection) -> None:
        self._graph, self._selection = graph, selection
        self._chosen: dict[ir.Value, ir.Value] = {}
        self._names = set(ir.convenience.create_value_mapping(graph))

    def narrow(self, node: ir.Node, axis: int, pulls: Pulls, passed: Container[ir.Node]) -> None:
        """A node computes the places only."""
        for (index, of), (value, _) in zip(pulls, _pulled(node, pulls), strict=True):
            if value.producer() not in passed:
                node.replace_input_with(index, self._choose(value, of, node))
        count, out = len(self._selection.places), node.outputs[0]
        if is_op(node, "Reshape"):
            target = constant(node.inputs[1])
            assert target is not None
            sizes = [int(size) for size in target]
            sizes[axis] = count
            node.replace_input_with(1, self._initializer(f"{out.name}/sizes", np.array(sizes)))
        out.shape = _with(out.shape, axis, count)

    def finish(self) -> None:
        """What read the places reads all that is left."""
        node, x = self._selection.node, self._selection.node.inputs[0]
        assert x is not None
        if self._selection.drops:
            node.replace_input_with(1, self._initializer(f"{x.name}/first", np.array(0)))
        else:
            supersede(node.outputs[0], x)
            self._graph.remove(node, safe=True)

    def _choose(self, value: ir.Value, axis: int, before: ir.Node) -> ir.Value:
        if value not in self._chosen:
            array, places = constant(value), np.array(self._selection.places)
            if array is not None:
                self._chosen[value] = self._initializer(f"{value.name}/chosen", np.take(array, places, axis))
            else:
                index = self._initializer(f"{value.name}/places", places)
                name = self._name(f"{value.name}/chosen")
                node = ir.node("Gather", [value, index], {"axis": axis}, name=name)
                (chosen,) = node.outputs
                chosen.name, chosen.type, chosen.shape = name, value.type, _with(value.shape, axis, len(places))
                self._graph.insert_before(before, node)
                self._chosen[value] = chosen
        return self._chosen[value]

    def _initializer(self, wanted: str, array: np.ndarray) -> ir.Value:
        name = self._name(wanted)
        tensor = ir.tensor(array, name=name)
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
        self._graph.register_initializer(value)
        return value

    def _name(self, wanted: str) -> str:
        name = unused_name(wanted, self._names)
        self._names.add(name)
        return name


def _with(shape: ir.Shape | None, axis: int, count: int) -> ir.Shape | None:
    return None if shape is None else ir.Shape([count if i == axis else size for i, size in enumerate(shape)])


# ---- rules -----------------------------------------------------------------------------------------------------------


def _pulls(node: ir.Node, axis: int) -> Pulls | None:
    rule = TABLE.get(node.op_type) if is_op(node, node.op_type) else None
    return rule(node, axis) if rule is not None else None


def _aligned(node: ir.Node, axis: int) -> Pulls | None:
    """Of operands that broadcast to the output: those that have the axis, and more than one place along it."""
    out = shape_of(node.outputs[0])
    if out is None:
        return None
    pulls = []
    for index, value in enumerate(node.inputs):
        if value is None:
            continue
        shape = shape_of(value)
        if shape is None:
            return None
        of = axis - (len(out) - len(shape))
        if of < 0 or shape[of] == 1:
            continue
        if shape[of] is None or shape[of] != out[axis]:  # it may be 1
            return None
        pulls.append((index, of))
    return pulls or None


def _numbers(node: ir.Node, axis: int) -> Pulls | None:
    given = [index for index, value in enumerate(node.inputs) if value is not None]
    return [(0, axis)] if given == [0] else _aligned(node, axis)


def _product(node: ir.Node, axis: int) -> Pulls | None:
    """Rows of the first matrix, columns of the second, or whole matrices of both."""
    left, right = (shape_of(value) if value is not None else None for value in node.inputs)
    if left is None or right is None or min(len(left), len(right)) < 2:
        return None
    match max(len(left), len(right)) - axis:
        case 1:
            return [(1, len(right) - 1)]
        case 2:
            return [(0, len(left) - 2)]
        case _:
            return _aligned(node, axis)


def _normalized(node: ir.Node, axis: int) -> Pulls | None:
    """Along an axis that comes before the normalized ones; Softmax has one."""
    shape = shape_of(node.outputs[0])
    first = int(attribute(node, "axis", -1))
    if shape is None:
        return None
    first %= len(shape)
    before = axis != first if is_op(node, "Softmax", "LogSoftmax") else axis < first
    return [(0, axis)] if before else None


def _transposed(node: ir.Node, axis: int) -> Pulls | None:
    perm = node.attributes.get_ints("perm", [])
    return [(0, perm[axis])] if perm else None


def _reshaped(node: ir.Node, axis: int) -> Pulls | None:
    """Where this axis and all before it are as they were."""
    before, after = (shape_of(value) if value is not None else None for value in (node.inputs[0], node.outputs[0]))
    if constant(node.inputs[1]) is None or before is None or after is None or axis >= len(before):
        return None
    same = before[: axis + 1] == after[: axis + 1] and None not in before[: axis + 1]
    return [(0, axis)] if same else None


_NUMBERS = (
    *("Abs", "Add", "And", "Cast", "Ceil", "Celu", "Clip", "Cos", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu"),
    *("Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Less"),
    *("LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu"),
    *("Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tanh"),
    *("ThresholdedRelu", "Where", "Xor"),
)

TABLE: dict[str, Rule] = {
    **dict.fromkeys(_NUMBERS, _numbers),
    "LayerNormalization": _normalized,
    "LogSoftmax": _normalized,
    "MatMul": _product,
    "RMSNormalization": _normalized,
    "Reshape": _reshaped,
    "Softmax": _normalized,
    "Transpose": _transposed,
}
"""By operator of the default domain."""

FIRST_OPSET = 13
"""From which on a Softmax is along one axis."""

WORTH = ("MatMul",)
"""Operators for which it is done: the others cost no more than the pass over memory that choosing is."""
