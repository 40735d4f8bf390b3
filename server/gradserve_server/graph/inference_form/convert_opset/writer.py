"""Writes new nodes and constants beside a node that is being rewritten."""

from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from gradserve_server.graph.values import describe, opset_of, supersede


class CannotConvert(Exception):
    """A model stays at its opset; the text names the node and the reason."""


class Writer:
    """Gives everything new a name that nothing has.

    Args:
        model: Its main graph gets the constants.
    """

    def __init__(self, model: ir.Model) -> None:
        self.opset = opset_of(model)
        self._graph = model.graph
        self._names = value_names(model)

    def refuse(self, node: ir.Node, reason: str) -> NoReturn:
        """Says that a node cannot be converted."""
        msg = f"{describe(node, self.opset)}: {reason}"
        raise CannotConvert(msg)

    def constant(self, node: ir.Node, what: str, array: npt.NDArray[Any]) -> ir.Value:
        """A constant for a node: an initializer of the main graph, which subgraphs see too."""
        name = self._free(f"{node.outputs[0].name}/{what}")
        tensor = ir.tensor(array, name=name)
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
        self._graph.register_initializer(value)
        return value

    def scalar_like(self, node: ir.Node, what: str, number: float) -> ir.Value:
        """A constant number of the element type of the node's first input."""
        x = node.inputs[0]
        if x is not None and x.dtype is not None:
            # Out of the type's range is infinity, which is what it means: the lowest float32 for a float16, say.
            with np.errstate(over="ignore"):
                return self.constant(node, what, np.asarray(number, np.float64).astype(x.dtype.numpy()))
        return self.before(node, "CastLike", self.constant(node, what, np.array(number, np.float32)), x)

    def before(self, node: ir.Node, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """Puts a new node before another; gives its output."""
        name = self._free(f"{node.outputs[0].name}/{op_type}")
        new = ir.node(op_type, inputs, attributes, name=name)
        new.outputs[0].name = name
        _graph(node).insert_before(node, new)
        return new.outputs[0]

    def replace(self, node: ir.Node, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> None:
        """Puts a new node in the place of one with a single output."""
        supersede(node.outputs[0], self.before(node, op_type, *inputs, **attributes))
        _graph(node).remove(node, safe=True)

    def _free(self, wanted: str) -> str:
        name, number = wanted, 0
        while name in self._names:
            number += 1
            name = f"{wanted}_{number}"
        self._names.add(name)
        return name


def value_names(model: ir.Model) -> set[str]:
    """The names of all tensors, those of subgraphs too."""
    values = [out for node in model.graph.all_nodes() for out in node.outputs]
    for graph in model.graphs():
        values += [*graph.inputs, *graph.initializers.values()]
    return {value.name for value in values if value.name}


def default_of(schema: onnx.defs.OpSchema, name: str) -> bytes:
    """An attribute's default, to be compared; empty where it has none."""
    default: bytes = schema.attributes[name].default_value.SerializeToString()
    return default


def used(value: ir.Value) -> bool:
    """Whether anybody reads a value."""
    return bool(value.uses()) or value.is_graph_output()


def _graph(node: ir.Node) -> ir.Graph:
    assert isinstance(node.graph, ir.Graph)
    return node.graph
