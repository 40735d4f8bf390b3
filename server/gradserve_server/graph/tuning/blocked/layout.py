"""A graph on its way into the blocked layout: which values have a blocked twin, and the reorderings between both forms."""

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from gradserve_server.graph.autodiff.site import nested
from gradserve_server.graph.tuning.blocked.filters import SMALLEST
from gradserve_server.graph.tuning.fused.domains import BLOCKED, mark_blocked
from gradserve_server.graph.tuning.fused.domains import DOMAIN as OURS
from gradserve_server.graph.values import shape_of, unused_name

DOMAIN = "com.microsoft.nchwc"
OPSET = 1


class Layout:
    """Builds the new node list of a graph, in order.

    Attributes:
        block: Channels of a block.
        fuses: Whether our own operators will run (`tuning.fused`).
        nodes: The new nodes so far.
    """

    def __init__(self, model: ir.Model, block: int, *, fuses: bool) -> None:
        self.block = block
        self.fuses = fuses
        self.nodes: list[ir.Node] = []
        self._graph = model.graph
        self._names = {value.name or "" for node in model.graph.all_nodes() for value in node.outputs}
        self._names |= {value.name or "" for value in (*model.graph.inputs, *model.graph.initializers.values())}
        self._twins: dict[ir.Value, ir.Value] = {}
        self._only_blocked: set[ir.Value] = set()
        self._plain: dict[ir.Value, ir.Value] = {}
        self._filling: dict[ir.Value, float] = {}

    # ---- both forms of a value ---------------------------------------------------------------------------------------

    def is_blocked(self, value: ir.Value | None) -> bool:
        """Whether the value has a blocked twin already."""
        return value in self._twins

    def is_only_blocked(self, value: ir.Value) -> bool:
        """Whether nothing has asked for the plain form of a blocked value so far."""
        return value in self._only_blocked

    def twin(self, value: ir.Value) -> ir.Value:
        """The blocked form, reordered where there is none yet."""
        if value not in self._twins and self._lies_alike(value):
            self._twins[value] = self.plain(value)
        elif value not in self._twins:
            self._twins[value] = self._emit("ReorderInput", [self.plain(value)], value.name or "", "blocked")
            self._like(self._twins[value], value)
        return self._twins[value]

    def plain(self, value: ir.Value) -> ir.Value:
        """The form [N, C, H, W], reordered where there is none yet."""
        if value in self._only_blocked:
            self._only_blocked.remove(value)
            if self._lies_alike(value):
                self.set_plain(value, self._twins[value])
                return self._plain[value]
            channels = value.shape[1] if value.shape is not None else None
            assert isinstance(channels, int)
            name, value.name = value.name, self._name(f"{value.name}/only_blocked")
            out = self._emit("ReorderOutput", [self._twins[value]], name or "", "plain", channels=channels)
            out.name, out.type, out.shape = name, value.type, value.shape
            self._plain[value] = out
        return self._plain.get(value, value)

    def can_be_blocked(self, value: ir.Value) -> bool:
        """Whether the value is an image whose channels can be put into blocks."""
        shape = shape_of(value)
        return (
            value.dtype is ir.DataType.FLOAT
            and shape is not None
            and len(shape) == 4
            and isinstance(shape[1], int)
            and (value in self._twins or shape[1] % SMALLEST == 0)
        )

    def is_full(self, value: ir.Value) -> bool:
        """Whether the value's channels make whole blocks."""
        shape = shape_of(value)
        return shape is not None and len(shape) == 4 and isinstance(shape[1], int) and shape[1] % self.block == 0

    def filling(self, value: ir.Value) -> float:
        """A bound of what fills up the blocks of a value's twin. See `filling`."""
        return 0.0 if self.is_full(value) else self._filling.get(value, 0.0)

    def _lies_alike(self, value: ir.Value) -> bool:
        """Whether both forms have their numbers in the same order: one for each channel, in whole blocks."""
        shape = shape_of(value)
        return self.is_full(value) and shape is not None and shape[2:] == (1, 1)

    # ---- emission ----------------------------------------------------------------------------------------------------

    def keep(self, node: ir.Node, captured: Sequence[ir.Value]) -> None:
        """The node as it is, on plain values; `captured` are those that its subgraphs read."""
        for index, value in enumerate(node.inputs):
            if value is not None and (plain := self.plain(value)) is not value:
                node.replace_input_with(index, plain)
        for value in captured:
            if (plain := self.plain(value)) is not value:
                _replace_inside(node, value, plain)
        self.nodes.append(node)

    def blocked(
        self, op: str, inputs: Sequence[ir.Value], out: ir.Value, *, filling: float = 0.0, **attributes: Any
    ) -> ir.Node:
        """One of onnxruntime's blocked operators, whose result is the twin of `out`."""
        return self._made(self._emit(op, inputs, out.name or "", "blocked", **attributes), out, filling)

    def our_operator(self, op: str, inputs: Sequence[ir.Value], out: ir.Value, **attributes: Any) -> None:
        """One of our own operators, whose result is the twin of `out`."""
        self._made(self._emit(op, inputs, out.name or "", "blocked", domain=OURS, **attributes), out)

    def our_plain_operator(self, op: str, inputs: Sequence[ir.Value], out: ir.Value, **attributes: Any) -> None:
        """One of our own operators on twins, whose result takes the place of `out`."""
        self.set_plain(out, self._emit(op, inputs, out.name or "", "plain", domain=OURS, **attributes))

    def block_operator(self, op: str, inputs: Sequence[ir.Value], name: str, **attributes: Any) -> ir.Value:
        """One of onnxruntime's blocked operators, whose result is no value of the graph."""
        return self._emit(op, inputs, name, "blocked", **attributes)

    def same(self, node: ir.Node, inputs: Sequence[ir.Value | None], filling: float = 0.0) -> None:
        """The node on other operands, whose results are the twins of its own."""
        attributes, count = list(node.attributes.values()), len(node.outputs)
        copy = ir.Node(node.domain, node.op_type, inputs, attributes, num_outputs=count, version=node.version)
        copy.name = node.name
        self.nodes.append(copy)
        for twin, out in zip(copy.outputs, node.outputs, strict=True):
            twin.name = self._name(f"{out.name}/blocked")
            self._made(twin, out, filling)

    def in_program(self, node: ir.Node, inputs: Sequence[ir.Value | None]) -> None:
        """The node on twins and on numbers for each channel, for `tuning.fused` to run; its result is blocked."""
        self._made(self._program_node(node, inputs), node.outputs[0])

    def numbers_in_program(self, node: ir.Node, inputs: Sequence[ir.Value | None]) -> None:
        """The same for a node whose result is numbers for each channel: they lie alike in both forms."""
        self.set_plain(node.outputs[0], self._program_node(node, inputs))

    def standard(self, op: str, inputs: Sequence[ir.Value], name: str, **attributes: Any) -> ir.Value:
        """A standard operator between twins and their other shapes."""
        return self._emit(op, inputs, name, op.lower(), domain="", **attributes)

    def set_twin(self, out: ir.Value, twin: ir.Value) -> None:
        """Declares what the blocked form of a value is."""
        self._made(twin, out)

    def set_plain(self, out: ir.Value, plain: ir.Value) -> None:
        """Declares what takes the place of a value."""
        name, out.name = out.name, self._name(f"{out.name}/replaced")
        plain.name, plain.type, plain.shape = name, out.type, out.shape
        self._plain[out] = plain

    def constant(self, name: str, array: Any) -> ir.Value:
        """An initializer."""
        tensor = ir.tensor(array, name=self._name(name))
        value = ir.Value(name=tensor.name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
        self._graph.register_initializer(value)
        return value

    def maker(self, value: ir.Value) -> ir.Node | None:
        """The node that makes the twin of a value."""
        return self._twins[value].producer() if value in self._twins else None

    def take_over(self, value: ir.Value, out: ir.Value, filling: float) -> None:
        """The twin of `value`, which nothing else reads, becomes that of `out`: an operator was fused into its maker."""
        self._only_blocked.discard(value)
        self._made(self._twins.pop(value), out, filling)

    def finish(self) -> None:
        """Puts the new nodes into the graph."""
        outputs = [self.plain(value) for value in self._graph.outputs]
        old = list(self._graph)
        kept = set(self.nodes)
        self._graph.outputs[:] = outputs
        for node in reversed(old):
            self._graph.remove(node)
            if node not in kept:
                node.resize_inputs(0)
        self._graph.extend(self.nodes)
        self._graph.opset_imports[DOMAIN] = OPSET
        if self.fuses:
            self._graph.opset_imports[OURS] = OPSET

    def _emit(
        self, op: str, inputs: Sequence[ir.Value], name: str, suffix: str, *, domain: str = DOMAIN, **attributes: Any
    ) -> ir.Value:
        node = ir.node(op, inputs, attributes, domain=domain, name=self._name(f"{name}/{op}"))
        self.nodes.append(node)
        node.outputs[0].name = self._name(f"{name}/{suffix}")
        return node.outputs[0]

    def _program_node(self, node: ir.Node, inputs: Sequence[ir.Value | None]) -> ir.Value:
        attributes = [*node.attributes.values(), ir.AttrInt64("block", self.block)]
        copy = ir.Node(BLOCKED, node.op_type, inputs, attributes, name=node.name)
        self.nodes.append(copy)
        copy.outputs[0].name = self._name(f"{node.outputs[0].name}/in_program")
        return copy.outputs[0]

    def _like(self, twin: ir.Value, value: ir.Value) -> None:
        """Type and shape of a twin: its channels fill up the last block."""
        sizes = shape_of(value)
        assert sizes is not None
        count, channels, *space = sizes
        assert isinstance(channels, int)
        mark_blocked(twin)
        twin.type = value.type
        twin.shape = ir.Shape([count, -(-channels // self.block) * self.block, *space])

    def _made(self, twin: ir.Value, out: ir.Value, filling: float = 0.0) -> ir.Node:
        self._like(twin, out)
        self._twins[out] = twin
        self._filling[out] = filling
        self._only_blocked.add(out)
        node = twin.producer()
        assert node is not None
        return node

    def _name(self, wanted: str) -> str:
        name = unused_name(wanted, self._names)
        self._names.add(name)
        return name


def _replace_inside(node: ir.Node, value: ir.Value, by: ir.Value) -> None:
    """In the node's subgraphs only: later nodes of the main graph still choose their form."""
    for graph in nested(node):
        for below in graph:
            for index, read in enumerate(below.inputs):
                if read is value:
                    below.replace_input_with(index, by)
        graph.outputs[:] = [by if output is value else output for output in graph.outputs]
