"""What a file may claim at most, found by counting, before anything is made of it."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

import onnx
import onnx_ir as ir

from gradserve.errors import InvalidModel
from gradserve_server.config import EngineConfig
from gradserve_server.graph.contained.files import MIB, Refused
from gradserve_server.graph.contained.tensors import check_held, external, nbytes
from gradserve_server.graph.values import describe, opset_of, shape_of

MAX_DEPTH = 16
"""Of subgraphs in one another, functions inlined. Recursions over them end long before the stack does."""

MAX_NAME = 4096
"""Characters of a name, which errors repeat."""


@dataclass(frozen=True)
class Limits:
    """What a model may have."""

    max_bytes: int = EngineConfig.max_model_mib * MIB
    """Of its file; of all its tensors together; of each value that it computes, with open sizes taken as 1."""
    max_nodes: int = EngineConfig.max_nodes
    """Nodes, tensors and named values together, functions inlined."""


DEFAULT = Limits()

_Function = tuple[str, str, str]
"""Domain, name and overload."""


@dataclass
class _Size:
    """Of a graph or function and all graphs in it."""

    nodes: int = 0
    depth: int = 0
    calls: Counter[_Function] = field(default_factory=Counter)
    call_depth: int = 0
    """Of the deepest call."""


class Count:
    """Counts through a model, and looks at each tensor of it.

    Args:
        model: As it was parsed.
        limits: Where to stop.
        beside: Whether tensors may lie in other files.

    Raises:
        Refused: The model exceeds a limit, or a tensor is not what it says.
    """

    def __init__(self, model: onnx.ModelProto, limits: Limits, *, beside: bool = True) -> None:
        self._limits, self._beside = limits, beside
        self._nodes = self._bytes = 0
        functions = {(each.domain, each.name, each.overload): each for each in model.functions}
        sizes = {key: self._size(each) for key, each in functions.items()}
        try:
            order = list(TopologicalSorter({key: size.calls.keys() & sizes for key, size in sizes.items()}).static_order())
        except CycleError as error:
            msg = f"functions that call one another in a circle: {', '.join(name for _, name, _ in error.args[1])}"
            raise Refused(msg) from error
        for key in order:
            self._inline(sizes[key], sizes)
        self._inline(self._size(model.graph), sizes)

    def _inline(self, size: _Size, functions: dict[_Function, _Size]) -> None:
        """Adds what is called, whose own calls are inlined already."""
        called = [(functions[key], times) for key, times in size.calls.items() if key in functions]
        size.nodes += sum(callee.nodes * times for callee, times in called)
        size.depth = max([size.depth, *(size.call_depth + callee.depth for callee, _ in called)])
        self._check_nodes(size.nodes)
        _check_depth(size.depth)

    def _size(self, root: onnx.GraphProto | onnx.FunctionProto) -> _Size:
        size = _Size()
        rest: list[tuple[onnx.GraphProto | onnx.FunctionProto, int]] = [(root, 0)]
        while rest:
            graph, depth = rest.pop()
            _check_depth(depth)
            size.depth = max(size.depth, depth)
            size.nodes += len(graph.node) + len(graph.input) + len(graph.output) + len(graph.value_info)
            if isinstance(graph, onnx.GraphProto):
                self._check_graph(graph, size)
            self._check_nodes(size.nodes)
            for node in graph.node:
                _check_names(node.name, node.op_type, node.domain, *node.input, *node.output)
                size.calls[node.domain, node.op_type, node.overload] += 1
                size.call_depth = max(size.call_depth, depth)
                rest.extend((inner, depth + 1) for inner in self._attributes(node, size))
        return size

    def _check_graph(self, graph: onnx.GraphProto, size: _Size) -> None:
        if graph.sparse_initializer:
            msg = "a sparse initializer, which is not supported"
            raise Refused(msg)
        size.nodes += len(graph.initializer)
        for tensor in graph.initializer:
            self._tensor(tensor)

    def _attributes(self, node: onnx.NodeProto, size: _Size) -> Iterator[onnx.GraphProto]:
        """Looks at the tensors among a node's attributes. Yields the graphs."""
        for attribute in node.attribute:
            if attribute.HasField("t"):
                size.nodes += 1
                self._tensor(attribute.t)
            size.nodes += len(attribute.tensors)
            for tensor in attribute.tensors:
                self._tensor(tensor, beside=False)
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs

    def _tensor(self, tensor: onnx.TensorProto, *, beside: bool = True) -> None:
        _check_names(tensor.name)
        self._bytes += nbytes(tensor)
        if self._bytes > self._limits.max_bytes:
            msg = f"more: '{tensor.name}' has the sizes {list(tensor.dims)}"
            raise Refused(msg, f"tensors of at most {_mib(self._limits)} together")
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            check_held(tensor)
        elif beside and self._beside:
            external(tensor)
        else:
            msg = f"external data of '{tensor.name}' where there can be none"
            raise Refused(msg)

    def _check_nodes(self, nodes: int) -> None:
        if nodes > self._limits.max_nodes:
            raise Refused(str(nodes), f"at most {self._limits.max_nodes} nodes and tensors (max_nodes)")


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise Refused(str(depth), f"at most {MAX_DEPTH} subgraphs in one another")


def _check_names(*names: str) -> None:
    for name in names:
        if len(name) > MAX_NAME:
            raise Refused(str(len(name)), f"names of at most {MAX_NAME} characters")


def check_values(model: ir.Model, limits: Limits, what: str) -> None:
    """Checks the sizes of the values that a model computes, as far as they are known: none may be out of all proportion.

    Args:
        model: With inferred shapes.
        limits: Of which `max_bytes` counts.
        what: Of whom the error speaks.

    Raises:
        InvalidModel: A value is larger.
    """
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        for value in node.outputs:
            shape = shape_of(value)
            if shape is None:
                continue
            elements = math.prod(max(size, 1) for size in shape if isinstance(size, int))
            width = 1 if value.dtype in (None, ir.DataType.STRING) else value.dtype.itemsize
            if elements * width > limits.max_bytes:
                got = f"'{value.name}' of the sizes {list(shape)} from {describe(node, opset_of(model))}"
                msg = f"{what}: expected values of at most {_mib(limits)}, got {got}"
                raise InvalidModel(msg)


def _mib(limits: Limits) -> str:
    return f"{limits.max_bytes // MIB} MiB (max_model_mib)"
