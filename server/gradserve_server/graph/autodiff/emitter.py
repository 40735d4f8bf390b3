"""Writes ONNX nodes as formulas: `dy * y * (1 - y)`.

An `Expr` is a value of the graph with arithmetic; an `Emitter` appends the nodes that the arithmetic stands for. Types and
shapes are inferred as nodes are made, so that what was emitted can be differentiated again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from gradserve_server.graph.values import constant, is_op, shape_of

Array = npt.NDArray[Any]
Operand = "Expr | ir.Value | npt.ArrayLike | None"
Dim = int | str | None

SUBGRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)

MAX_KNOWN_SIZE = 64
"""Elements up to which a constant's values are shown to shape inference: shapes, axes, repeats."""


class Expr:
    """A value of a graph, with arithmetic that emits nodes. Numbers take the element type of the other operand."""

    __slots__ = ("emitter", "value")

    def __init__(self, emitter: "Emitter", value: ir.Value) -> None:
        self.emitter, self.value = emitter, value

    # ---- what is known before the run ----

    @property
    def dtype(self) -> ir.DataType:
        """The element type; float32 where inference did not tell."""
        return self.value.dtype or ir.DataType.FLOAT

    @property
    def shape(self) -> tuple[Dim, ...] | None:
        """Sizes and symbols; None where not even the rank is known."""
        return shape_of(self.value)

    @property
    def sizes(self) -> tuple[int, ...] | None:
        """The shape, if every size is a number."""
        return static(self.shape)

    @property
    def rank(self) -> int:
        """The number of axes; rules that need it refuse nodes without it (`rules.rank_known`)."""
        assert self.shape is not None, f"rank of '{self.value.name}' is not known"
        return len(self.shape)

    @property
    def constant(self) -> Array | None:
        """The values, if they are constant."""
        return constant(self.value)

    # ---- arithmetic ----

    def __add__(self, other: Any) -> "Expr":
        return self if _is_number(other, 0) else self.emitter.op("Add", self, other)

    def __radd__(self, other: Any) -> "Expr":
        return self.__add__(other)

    def __sub__(self, other: Any) -> "Expr":
        return self if _is_number(other, 0) else self.emitter.op("Sub", self, other)

    def __rsub__(self, other: Any) -> "Expr":
        return self.emitter.op("Sub", other, self)

    def __mul__(self, other: Any) -> "Expr":
        return self if _is_number(other, 1) else self.emitter.op("Mul", self, other)

    def __rmul__(self, other: Any) -> "Expr":
        return self.__mul__(other)

    def __truediv__(self, other: Any) -> "Expr":
        return self if _is_number(other, 1) else self.emitter.op("Div", self, other)

    def __rtruediv__(self, other: Any) -> "Expr":
        return self.emitter.op("Reciprocal", self) if _is_number(other, 1) else self.emitter.op("Div", other, self)

    def __neg__(self) -> "Expr":
        return self.emitter.op("Neg", self)

    def __pow__(self, other: Any) -> "Expr":
        return self if _is_number(other, 1) else self.emitter.op("Pow", self, other)

    def __gt__(self, other: Any) -> "Expr":
        return self.emitter.op("Greater", self, other)

    def __lt__(self, other: Any) -> "Expr":
        return self.emitter.op("Less", self, other)

    def __ge__(self, other: Any) -> "Expr":
        return self.emitter.op("GreaterOrEqual", self, other)

    def __le__(self, other: Any) -> "Expr":
        return self.emitter.op("LessOrEqual", self, other)

    def equals(self, other: Any) -> "Expr":
        """Element by element, bool."""
        return self.emitter.op("Equal", self, other)


@dataclass
class _Shared:
    """What an emitter and those of its subgraphs have in common."""

    graph: ir.Graph
    """The main graph, which holds the constants."""
    opset: int
    prefix: str
    straight_through: bool
    redirect_relu: bool
    count: int = 0
    constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = field(default_factory=dict)


class Emitter:
    """Collects new nodes of a graph, in `nodes`; whoever made it puts them into the graph.

    Args:
        graph: The main graph; gets the constants as initializers.
        opset: The version of the default operator set, 18 or newer.
        prefix: Begins every new name. The graph has no such name yet.
        straight_through: Quantization passes derivatives as if it rounded nothing.
        redirect_relu: Activations redirect what they would block (`redirected`).
    """

    def __init__(
        self, graph: ir.Graph, opset: int, prefix: str, *, straight_through: bool = False, redirect_relu: bool = False
    ) -> None:
        self.nodes: list[ir.Node] = []
        self.scope = ""
        """What the nodes are emitted for; stands in their names."""
        self._shared = _Shared(graph, opset, prefix, straight_through, redirect_relu)
        self._shapes: dict[ir.Value, ir.Value] = {}

    def for_subgraph(self) -> Self:
        """An emitter of nodes of a subgraph; constants still go to the main graph."""
        child = object.__new__(type(self))
        child.nodes, child.scope, child._shared = [], self.scope, self._shared
        # A subgraph sees the Shape nodes outside it, and nobody outside sees its own.
        child._shapes = dict(self._shapes)
        return child

    @property
    def opset(self) -> int:
        """The version of the default operator set."""
        return self._shared.opset

    @property
    def straight_through(self) -> bool:
        """Whether quantization passes derivatives as if it rounded nothing."""
        return self._shared.straight_through

    @property
    def redirect_relu(self) -> bool:
        """Whether activations redirect what they would block."""
        return self._shared.redirect_relu

    # ---- operators ----

    @overload
    def op(self, op_type: str, *inputs: Any, outputs: None = ..., domain: str = ..., **attributes: Any) -> Expr: ...
    @overload
    def op(self, op_type: str, *inputs: Any, outputs: int, domain: str = ..., **attributes: Any) -> tuple[Expr, ...]: ...

    def op(
        self, op_type: str, *inputs: Any, outputs: int | None = None, domain: str = "", **attributes: Any
    ) -> Expr | tuple[Expr, ...]:
        """Appends a node.

        Args:
            op_type: Of the operator.
            *inputs: `Expr`, `ir.Value`, None for an optional input left out, or numbers: Python numbers take the element
                type of the first `Expr`, arrays keep their own.
            outputs: How many; one, and not in a tuple, by default.
            domain: Of the operator.
            **attributes: Of the node; those that are None are left out.
        """
        like = next((x.dtype for x in inputs if isinstance(x, Expr)), ir.DataType.FLOAT)
        values = [self._operand(x, like) for x in inputs]
        while values and values[-1] is None:
            values.pop()
        attributes = {name: value for name, value in attributes.items() if value is not None}
        name = self.name(op_type)
        node = ir.node(op_type, values, attributes, domain=domain, num_outputs=outputs or 1, name=name)
        for i, out in enumerate(node.outputs):
            out.name = name if len(node.outputs) == 1 else f"{name}/{i}"
        infer(node, self.opset)
        self.nodes.append(node)
        results = tuple(Expr(self, out) for out in node.outputs)
        return results if outputs is not None else results[0]

    def name(self, kind: str) -> str:
        """A name that nothing has."""
        self._shared.count += 1
        return f"{self._shared.prefix}/{self.scope}/{kind}_{self._shared.count}"

    def of(self, value: ir.Value) -> Expr:
        """A value that is there already."""
        return Expr(self, value)

    def const(self, array: npt.ArrayLike, dtype: ir.DataType | None = None) -> Expr:
        """A constant, made once for equal values.

        Args:
            array: Its values. Python integers become int64, Python floats need a `dtype`.
            dtype: Its element type; that of the array by default.
        """
        values = np.asarray(array)
        values = np.ascontiguousarray(values.astype(dtype.numpy()) if dtype is not None else values).reshape(values.shape)
        shared, small = self._shared, values.size <= MAX_KNOWN_SIZE
        key = (values.dtype.name, values.shape, values.tobytes()) if small else None
        known = shared.constants.get(key) if key is not None else None
        if known is None:
            shared.count += 1
            known = initializer(shared.graph, f"{shared.prefix}/const_{shared.count}", values)
            if key is not None:
                shared.constants[key] = known
        return Expr(self, known)

    def ints(self, *numbers: int) -> Expr:
        """A constant int64 vector: axes, shapes, pads."""
        return self.const(np.array(numbers, np.int64))

    # ---- shapes ----

    def shape(self, x: Expr) -> Expr:
        """The shape, int64 [rank]: a constant where every size is known."""
        if x.sizes is not None:
            return self.ints(*x.sizes)
        if x.value not in self._shapes:
            self._shapes[x.value] = self.op("Shape", x).value
        return Expr(self, self._shapes[x.value])

    def size(self, x: Expr, axis: int) -> Expr:
        """One size, int64 [1]."""
        if x.shape is not None and isinstance(known := x.shape[axis], int):
            return self.ints(known)
        axis = axis + x.rank if axis < 0 else axis
        return self.op("Slice", self.shape(x), self.ints(axis), self.ints(axis + 1), self.ints(0))

    def sizes(self, x: Expr, axes: Sequence[int]) -> Expr:
        """Some sizes, int64 [len(axes)]."""
        axes = [axis % x.rank for axis in axes]
        shape = x.shape or ()
        if all(isinstance(shape[axis], int) for axis in axes):
            return self.ints(*(int(shape[axis]) for axis in axes))  # type: ignore[arg-type]
        return self.op("Gather", self.shape(x), self.ints(*axes))

    def concat(self, *parts: Expr | int, axis: int = 0) -> Expr:
        """Along an axis; numbers are int64 vectors of one element. Constants become one constant."""
        exprs = [self.ints(part) if isinstance(part, int) else part for part in parts]
        known = [expr.constant for expr in exprs]
        if all(array is not None for array in known):
            return self.const(np.concatenate([array for array in known if array is not None], axis))
        return exprs[0] if len(exprs) == 1 else self.op("Concat", *exprs, axis=axis)

    def reshape(self, x: Expr, *sizes: Expr | int) -> Expr:
        """To sizes that are numbers (-1 for what is left) or int64 vectors. No size may be 0."""
        return self.op("Reshape", x, self.concat(*sizes) if sizes else self.const(np.zeros(0, np.int64)))

    def reshape_like(self, x: Expr, like: Expr) -> Expr:
        """To the shape of another value with as many elements."""
        if x.shape == like.shape and _certain(x.shape):
            return x
        sizes = like.shape
        if sizes is not None and sum(not isinstance(size, int) for size in sizes) == 1 and 0 not in sizes:
            out = self.reshape(x, *(size if isinstance(size, int) else -1 for size in sizes))
        else:
            out = self.op("Reshape", x, self.shape(like), allowzero=1)
        out.value.shape = like.value.shape
        return out

    def expand_like(self, x: Expr, like: Expr) -> Expr:
        """Broadcast to the shape of another value."""
        if x.shape == like.shape and _certain(x.shape):
            return x
        out = self.op("Expand", x, self.shape(like))
        out.value.shape = like.value.shape
        return out

    def zeros_like(self, x: Expr) -> Expr:
        """Zeros of the type and shape of another value."""
        return self.expand_like(self.const(0, x.dtype), x)

    def unbroadcast(self, x: Expr, like: Expr) -> Expr:
        """The adjoint of broadcasting `like` to the shape of x: sums over the axes that were made."""
        if x.shape == like.shape and _certain(x.shape):
            return x
        if like.shape is not None and x.shape is not None:
            padded = (1,) * (len(x.shape) - len(like.shape)) + like.shape
            if all(b == 1 or (a == b and a is not None) for a, b in zip(x.shape, padded, strict=True)):
                axes = [i for i, (a, b) in enumerate(zip(x.shape, padded, strict=True)) if b == 1 and a != 1]
                return self.reshape_like(self.sum(x, axes) if axes else x, like)
        # Some size is known only in the run: sum over the axes where the sizes differ.
        to, into = self.shape(x), self.shape(like)
        missing = self.op("Sub", self.op("Size", to), self.op("Size", into))
        ones = self.op("ConstantOfShape", self.op("Reshape", missing, self.ints(1)), value=ir.tensor(np.ones(1, np.int64)))
        differs = self.op("Not", self.op("Equal", to, self.op("Concat", ones, into, axis=0)))
        where = self.op("Reshape", self.op("NonZero", differs), self.ints(-1))
        return self.reshape_like(self.op("ReduceSum", x, where, keepdims=1, noop_with_empty_axes=1), like)

    # ---- often used ----

    def sum(self, x: Expr, axes: Sequence[int], *, keepdims: bool = True) -> Expr:
        """Over these axes; over none it is x."""
        return self.reduce("ReduceSum", x, axes, keepdims=keepdims) if len(axes) else x

    def reduce(self, op_type: str, x: Expr, axes: Sequence[int] | Expr, *, keepdims: bool = True) -> Expr:
        """Any Reduce operator, over at least one axis."""
        return self.op(op_type, x, axes if isinstance(axes, Expr) else self.ints(*axes), keepdims=int(keepdims))

    def cast(self, x: Expr, dtype: ir.DataType) -> Expr:
        """To another element type."""
        return x if x.value.dtype == dtype else self.op("Cast", x, to=int(dtype))

    def where(self, condition: Expr, yes: Any, no: Any) -> Expr:
        """Element by element; numbers take the type of the other side."""
        like = next(side.dtype for side in (yes, no) if isinstance(side, Expr))
        return self.op("Where", condition, *(Expr(self, self._operand(side, like)) for side in (yes, no)))  # type: ignore[arg-type]

    def transpose(self, x: Expr, permutation: Sequence[int], *, merge: bool = False) -> Expr:
        """Axes in another order; x where the order is the old one.

        Args:
            x: The value.
            permutation: For each axis of the result, that of x.
            merge: Of something that is transposed already, make one Transpose instead of two. The result no longer depends
                on x then, but on what x was made of: never in an `Expansion`, which the derivative goes back through.
        """
        before = x.value.producer()
        if merge and before is not None and is_op(before, "Transpose") and "perm" in before.attributes:
            (source,), first = before.inputs, before.attributes["perm"].as_ints()
            assert source is not None
            return self.transpose(self.of(source), [first[axis] for axis in permutation], merge=True)
        if list(permutation) == list(range(len(permutation))):
            return x
        return self.op("Transpose", x, perm=list(permutation))

    def squeeze(self, x: Expr, axes: Sequence[int]) -> Expr:
        """Without axes of size 1."""
        return self.op("Squeeze", x, self.ints(*axes)) if axes else x

    def unsqueeze(self, x: Expr, axes: Sequence[int]) -> Expr:
        """With new axes of size 1."""
        return self.op("Unsqueeze", x, self.ints(*axes)) if axes else x

    def pad(
        self,
        x: Expr,
        borders: Mapping[int, tuple[Expr | int, Expr | int]],
        value: Any = None,
        *,
        mode: str | None = None,
    ) -> Expr:
        """With borders: for some axes, how many elements before and after."""
        # Every axis is written out: onnxruntime moves a Transpose through a Pad as if the input `axes` were not there.
        both = [borders.get(axis, borders.get(axis - x.rank, (0, 0))) for axis in range(x.rank)]
        widths = self.concat(*(before for before, _ in both), *(after for _, after in both))
        return self.op("Pad", x, widths, value, mode=mode)

    def slice(self, x: Expr, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int]) -> Expr:
        """With constant bounds."""
        return self.op("Slice", x, self.ints(*starts), self.ints(*ends), self.ints(*axes))

    def _operand(self, x: Any, like: ir.DataType) -> ir.Value | None:
        match x:
            case None:
                return None
            case Expr():
                return x.value
            case ir.Value():
                return x
            case np.ndarray() | np.generic():
                return self.const(x).value
            case _:
                return self.const(x, like).value


def initializer(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """Adds a constant to a graph."""
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
    graph.register_initializer(value)
    return value


def static(shape: tuple[Dim, ...] | None) -> tuple[int, ...] | None:
    """The shape if every size is a number, else None."""
    if shape is None or not all(isinstance(size, int) for size in shape):
        return None
    return tuple(size for size in shape if isinstance(size, int))


def infer(node: ir.Node, opset: int) -> None:
    """Gives a node's outputs their types, and shapes as far as they follow from its inputs.

    Not where the node has subgraphs: onnx would need what they read from outside. Their rules tell the types.
    """
    if any(attribute.type in SUBGRAPHS for attribute in node.attributes.values()):
        return
    inputs = [value for value in node.inputs if value is not None]
    if any(value.type is None for value in inputs) or not onnx.defs.has(node.op_type, opset, node.domain):
        return
    types = {value.name or "": type_proto(value) for value in inputs}
    data = {}
    for value in inputs:
        array = constant(value)
        if array is not None and array.size <= MAX_KNOWN_SIZE:
            data[value.name or ""] = onnx.numpy_helper.from_array(array, value.name)
    schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    try:
        inferred = onnx.shape_inference.infer_node_outputs(
            schema,
            ir.serde.serialize_node(node),
            types,
            data,
            opset_imports=[onnx.helper.make_opsetid("", opset)],
            ir_version=10,
        )
    except onnx.shape_inference.InferenceError as error:
        msg = f"emitted a node that makes no sense: {node}"
        raise AssertionError(msg) from error
    for out in node.outputs:
        known = inferred.get(out.name or "")
        if known is not None and known.HasField("tensor_type"):
            out.type = ir.TensorType(ir.DataType(known.tensor_type.elem_type))
            if known.tensor_type.HasField("shape"):
                out.shape = ir.Shape([_dim(dim) for dim in known.tensor_type.shape.dim])


def type_proto(value: ir.Value) -> onnx.TypeProto:
    """A value's type and shape, as onnx's shape inference takes them."""
    shape = shape_of(value)
    return onnx.helper.make_tensor_type_proto(int(value.dtype or ir.DataType.FLOAT), shape)


def _dim(dim: Any) -> int | str | None:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    return str(dim.dim_param) if dim.HasField("dim_param") else None


def _certain(shape: tuple[Dim, ...] | None) -> bool:
    """Whether two values with this shape have the same sizes in every run: symbols with a name are equal, nameless not."""
    return shape is not None and None not in shape


def _is_number(x: Any, number: float) -> bool:
    return isinstance(x, (int, float)) and x == number
