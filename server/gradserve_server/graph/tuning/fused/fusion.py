"""What nodes are together: one iteration space, its rows, and who reads whom. None where they cannot be one program."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from gradserve_server.graph.tuning.fused.domains import BLOCKED, is_blocked, is_packed
from gradserve_server.graph.tuning.fused.table import REDUCTIONS, TABLE, reduced_axes
from gradserve_server.graph.values import DEFAULT_DOMAINS, constant, shape_of

Shape = tuple[int | str, ...]

WORD = 16
"""Numbers of a mask in a word (csrc/kernels/fused/masks.h)."""

LANES = (8, 16)
"""Numbers that a reduction may leave of a row beside one: those of a block of channels."""

SHORTEST = 16
"""Numbers of a row, where they are known: for shorter ones the work around a row is more than that within it."""


@dataclass(frozen=True)
class Fusion:
    """Nodes as one program.

    Attributes:
        nodes: In an order in which they can run.
        shape: Of the iteration space, as the graph has it.
        block: Channels of a block; 1 for tensors in the plain layout.
        axis: Where the rows end. With blocks, of [N, C / block, H, W, block].
        lanes: Numbers that a reduction leaves of a row.
        inputs: What is read: each fits the space, or `narrow`'s shape.
        narrow: Values with `lanes` numbers for each row; all others are as large as the space.
    """

    nodes: tuple[ir.Node, ...]
    shape: Shape
    block: int
    axis: int
    lanes: int
    inputs: tuple[ir.Value, ...]
    narrow: frozenset[ir.Value]


def operands(node: ir.Node) -> list[ir.Value] | None:
    """What a node reads as numbers; None for a node that no program has."""
    if node.domain not in (*DEFAULT_DOMAINS, BLOCKED) or len(node.outputs) != 1:
        return None
    if node.op_type in REDUCTIONS:
        read = [node.inputs[0]] if node.inputs[0] is not None else None
    else:
        read = TABLE[node.op_type].reads(node) if node.op_type in TABLE else None
    if not read or any(value.dtype is not ir.DataType.FLOAT for value in (*read, *node.outputs)):
        return None
    return read if all(known(value) is not None for value in (*read, *node.outputs)) else None


def known(value: ir.Value) -> Shape | None:
    """The shape, if every size is a number or a symbol."""
    shape = shape_of(value)
    return None if shape is None or None in shape else shape  # type: ignore[return-value]


def is_number(value: ir.Value) -> bool:
    """Whether the value is a constant that programs have in their text."""
    array = constant(value)
    return array is not None and array.size == 1


def fused(nodes: Sequence[ir.Node]) -> Fusion | None:
    """The nodes as one program, if they can be.

    Args:
        nodes: In order, each with `operands`.
    """
    space = _space(nodes)
    members = _Members(nodes, space) if space is not None else None
    if space is None or members is None or not all(members.take(node) for node in nodes):
        return None
    axis = min(members.axes, default=None)
    if axis is None or not members.reads_whole or (space.block == 1 and _is_short(space.sizes[axis:])):
        return None
    if any(is_packed(node.outputs[0]) for node in nodes) and axis > 0 and not _is_in_words(space.sizes[axis:]):
        return None
    narrow = frozenset(members.narrow)
    return Fusion(tuple(nodes), space.shape, space.block, axis, space.lanes, tuple(members.inputs), narrow)


@dataclass(frozen=True)
class _Space:
    """What nodes run over.

    Attributes:
        sizes: In memory.
        axes: Where rows may end.
        narrow: Sizes of `lanes` numbers for each row, where it is fixed what a row is.
    """

    shape: Shape
    sizes: Shape
    block: int
    axes: frozenset[int]
    lanes: int
    narrow: Shape | None


class _Members:
    """Nodes of a program, one after the other: what they read, and what of theirs is narrow."""

    def __init__(self, nodes: Sequence[ir.Node], space: _Space) -> None:
        self._space = space
        self._made = {node.outputs[0] for node in nodes}
        self.axes = space.axes
        self.inputs: dict[ir.Value, None] = {}
        self.narrow: set[ir.Value] = set()
        self.reads_whole = False
        self._forms: set[bool] = set()

    def take(self, node: ir.Node) -> bool:
        """Adds a node; False where it does not fit."""
        read, out = operands(node) or [], node.outputs[0]
        reduces = node.op_type in REDUCTIONS
        wide = reduces or self._sizes(out) == self._space.sizes
        if wide and not reduces and not self._lies_right(out):
            return False
        if not wide and self._sizes(out) != self._space.narrow:
            return False
        if reduces and (self._sizes(read[0]) != self._space.sizes or read[0] in self.narrow):
            return False
        if reduces and not self._lies_right(read[0]):
            return False
        if reduces or not wide:
            self.narrow.add(out)
        return all(self._reads(value, wide=wide) for value in read if not is_number(value))

    def _reads(self, value: ir.Value, *, wide: bool) -> bool:
        if value in self._made:
            return (wide or value in self.narrow) and not is_packed(value)
        self.inputs[value] = None
        sizes = self._sizes(value)
        if sizes is None or (is_packed(value) and (not wide or sizes != self._space.sizes)):
            return False
        if not wide:
            return sizes == self._space.narrow or set(sizes) == {1}
        if not self._lies_right(value):
            return False
        self.axes &= fitting_axes(sizes, self._space.sizes)
        self.reads_whole |= sizes == self._space.sizes and not is_packed(value)
        return True

    def _lies_right(self, value: ir.Value) -> bool:
        """Whether the value's numbers lie where the space's do: an image in blocks has the shape of one that is not."""
        shape = known(value)
        if shape is None or len(shape) != 4 or shape[2:] == (1, 1):  # both forms lie alike
            return True
        if self._space.block > 1:
            return is_blocked(value)
        self._forms.add(is_blocked(value))
        return len(self._forms) == 1

    def _sizes(self, value: ir.Value) -> Shape | None:
        return in_blocks(known(value), self._space.block)


def in_blocks(shape: Shape | None, block: int) -> Shape | None:
    """The sizes of a tensor in memory; None where it cannot lie in blocks."""
    if shape is None or block == 1:
        return shape
    if set(shape) <= {1}:
        return (1, 1, 1, 1, 1)
    if len(shape) != 4 or not isinstance(shape[1], int) or shape[1] % block:
        return None
    return (shape[0], shape[1] // block, shape[2], shape[3], block)


def fitting_axes(shape: Shape, space: Shape) -> frozenset[int]:
    """Where rows may end for an operand that is repeated to fill the space."""
    if len(shape) > len(space):
        return frozenset()
    aligned: Shape = (1,) * (len(space) - len(shape)) + shape
    if any(size not in (1, whole) for size, whole in zip(aligned, space, strict=True)):
        return frozenset()
    return frozenset(axis for axis in range(len(space)) if _fits(aligned[axis:], space[axis:]))


def _fits(sizes: Shape, row: Shape) -> bool:
    """Whether an operand has all numbers of a row, or one, or those of a block again and again."""
    real = [(size, whole) for size, whole in zip(sizes, row, strict=True) if whole != 1]
    same = [size == whole for size, whole in real]
    return all(same) or not any(same) or (same == [False] * (len(same) - 1) + [True] and real[-1][1] in LANES)


def _space(nodes: Sequence[ir.Node]) -> _Space | None:
    blocks = {node.attributes["block"].as_int() for node in nodes if node.domain == BLOCKED}
    # What reductions run over; without one, what all nodes make.
    reduced = {known((operands(node) or [])[0]) for node in nodes if node.op_type in REDUCTIONS}
    shapes = reduced or {known(node.outputs[0]) for node in nodes}
    if len(blocks) > 1 or len(shapes) != 1:
        return None
    block, shape = next(iter(blocks), 1), next(iter(shapes))
    sizes = in_blocks(shape, block)
    rows = _rows(nodes, len(sizes), block) if sizes is not None else None
    if shape is None or sizes is None or rows is None:
        return None
    axes, lanes = rows
    narrow = None
    if len(axes) == 1:
        (axis,) = axes
        narrow = (*sizes[:axis], *(1,) * (len(sizes) - axis - 1), lanes)
    return _Space(shape, sizes, block, axes, lanes, narrow)


def _rows(nodes: Sequence[ir.Node], rank: int, block: int) -> tuple[frozenset[int], int] | None:
    """Where rows may end, and the lanes; None where reductions do not agree on it."""
    axes = frozenset(range(rank))
    reductions = [node for node in nodes if node.op_type in REDUCTIONS]
    for node in reductions:
        over = reduced_axes(node, 4 if block > 1 else rank)
        axis = over[0] if over else rank
        if over != ([2, 3] if block > 1 else list(range(axis, rank))):
            return None
        axes &= {axis}
    return (axes, block if reductions else 1) if axes else None


def _is_in_words(row: Shape) -> bool:
    """Whether rows are surely whole words of a mask."""
    return math.prod(size for size in row if isinstance(size, int)) % WORD == 0


def _is_short(row: Shape) -> bool:
    sizes = [size for size in row if isinstance(size, int)]
    return len(sizes) == len(row) and math.prod(sizes) < SHORTEST
