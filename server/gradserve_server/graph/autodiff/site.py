"""What a rule sees of a node: its attributes, its values, and (`Pull`) what flows back."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from gradserve_server.graph.autodiff.emitter import Emitter, Expr


class Site:
    """A node in the forward graph.

    Args:
        emitter: Makes the expressions of its values.
        node: The node.
    """

    def __init__(self, emitter: Emitter, node: ir.Node) -> None:
        self.emitter, self.node, self.opset = emitter, node, emitter.opset
        self.inputs = tuple(emitter.of(value) if value is not None else None for value in node.inputs)
        self.outputs = tuple(emitter.of(value) for value in node.outputs)

    @property
    def x(self) -> Expr:
        """The first input."""
        return self.input(0)

    @property
    def y(self) -> Expr:
        """The first output."""
        return self.outputs[0]

    def input(self, index: int) -> Expr:
        """An input that must be there."""
        value = self.inputs[index]
        assert value is not None
        return value

    def has(self, index: int) -> bool:
        """Whether an optional input is there."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def optional(self, index: int) -> Expr | None:
        """An input, or None where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def constant(self, index: int) -> npt.NDArray[Any] | None:
        """The values of an input; None where it is left out or not constant."""
        value = self.optional(index)
        return value.constant if value is not None else None

    # ---- attributes ----

    def number(self, name: str, default: float) -> float:
        """A float attribute."""
        return float(self.node.attributes[name].value) if name in self.node.attributes else default

    def integer(self, name: str, default: int) -> int:
        """An integer attribute."""
        return int(self.node.attributes[name].value) if name in self.node.attributes else default

    def integers(self, name: str, default: Sequence[int] = ()) -> list[int]:
        """A list of integers."""
        return list(self.node.attributes[name].as_ints()) if name in self.node.attributes else list(default)

    def numbers(self, name: str, default: Sequence[float] = ()) -> list[float]:
        """A list of floats."""
        return list(self.node.attributes[name].as_floats()) if name in self.node.attributes else list(default)

    def string(self, name: str, default: str) -> str:
        """A string attribute."""
        return self.node.attributes[name].as_string() if name in self.node.attributes else default

    def strings(self, name: str, default: Sequence[str] = ()) -> list[str]:
        """A list of strings."""
        return list(self.node.attributes[name].as_strings()) if name in self.node.attributes else list(default)

    @property
    def axis(self) -> int:
        """The attribute `axis`, counted from the front; -1 by default."""
        axis = self.integer("axis", -1)
        return axis + self.x.rank if axis < 0 else axis


class Pull(Site):
    """A node that a derivative flows back through.

    Args:
        emitter: Makes the expressions.
        node: The node.
        cotangents: What flows back from each output; None where nothing does.
        wanted: Indices of inputs (then of `captured`) whose cotangents somebody reads.
    """

    def __init__(self, emitter: Emitter, node: ir.Node, cotangents: Sequence[Expr | None], wanted: frozenset[int]) -> None:
        super().__init__(emitter, node)
        self.cotangents, self.wanted = tuple(cotangents), wanted
        self.captured = tuple(emitter.of(value) for value in captured(node))

    @property
    def dy(self) -> Expr:
        """What flows back from the first output. Nodes with more outputs must look at `cotangents`."""
        cotangent = self.cotangents[0]
        assert cotangent is not None
        return cotangent

    def wants(self, index: int) -> bool:
        """Whether somebody reads the cotangent of this input."""
        return index in self.wanted


def captured(node: ir.Node) -> list[ir.Value]:
    """Values from outside that the node's subgraphs read, in a fixed order."""
    graphs = list(nested(node))
    inside = {value for graph in graphs for value in (*graph.inputs, *graph.initializers.values())}
    inside.update(value for graph in graphs for below in graph for value in below.outputs)
    read = [value for graph in graphs for below in graph for value in below.inputs if value is not None]
    read += [value for graph in graphs for value in graph.outputs]
    return list(dict.fromkeys(value for value in read if value not in inside))


def nested(node: ir.Node) -> Iterator[ir.Graph]:
    """The node's subgraphs, theirs, and so on."""
    for graph in subgraphs(node):
        yield graph
        for below in graph:
            yield from nested(below)


def subgraphs(node: ir.Node) -> Iterator[ir.Graph]:
    """The graphs among the node's attributes."""
    for attribute in node.attributes.values():
        if attribute.type is ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type is ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()
