"""Computes in float32 what a model computes in float16 or bfloat16. All tensors keep their names.

| what | becomes |
|---|---|
| weight, Constant, fill value | the same numbers in float32: every half is one |
| `Cast` to a half, and other attributes that name a type (`TYPE_ATTRIBUTES`) | to float32 |
| value of the graph and of its subgraphs | float32, by what makes it |
| input x of the model | as it was; what read it reads `x/float32`, a Cast of it |
| output y of the model | a Cast, under its old name, of `y/float32` |

So callers see the types that the file declares. A value that overflowed in float16 no longer does.
"""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from gradserve.errors import UnsupportedGradient
from gradserve_server.graph.inference_form.convert_opset.writer import value_names
from gradserve_server.graph.values import describe, is_op, opset_of, unused_name

HALVES = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16})

TYPE_ATTRIBUTES = (
    ("Attention", "softmax_precision"),
    ("Bernoulli", "dtype"),
    ("BlackmanWindow", "output_datatype"),
    ("Cast", "to"),
    ("DequantizeLinear", "output_dtype"),
    ("EyeLike", "dtype"),
    ("GroupNormalization", "stash_type"),
    ("HammingWindow", "output_datatype"),
    ("HannWindow", "output_datatype"),
    ("LayerNormalization", "stash_type"),
    ("MelWeightMatrix", "output_datatype"),
    ("QuantizeLinear", "precision"),
    ("RMSNormalization", "stash_type"),
    ("RandomNormal", "dtype"),
    ("RandomNormalLike", "dtype"),
    ("RandomUniform", "dtype"),
    ("RandomUniformLike", "dtype"),
    ("Range", "stash_type"),
    ("SequenceEmpty", "dtype"),
)
"""(operator, attribute) of those that name an element type, of what is made or of what is computed with."""


def needs_float32(model: ir.Model) -> bool:
    """Whether a model takes, gives or computes with bfloat16.

    onnxruntime computes with it on GPUs only, and its Python interface has none. What is only cast to it and back runs as it
    is, and is rounded.
    """
    interface = {*model.graph.inputs, *model.graph.outputs}
    return any(
        value in interface
        or any(node is not None and node.op_type != "Cast" for node in (value.producer(), *value.consumers()))
        for value in _values(model)
        if value.dtype is ir.DataType.BFLOAT16
    )


def to_float32(model: ir.Model, *, interface: bool = False) -> list[str]:
    """Makes float16 and bfloat16 computation float32, in place. Without any, nothing changes.

    Args:
        model: With inferred types, and without functions of its own (they are inlined).
        interface: Whether inputs and outputs become float32 too, instead of being cast.

    Returns:
        What was done, in words.

    Raises:
        UnsupportedGradient: An input or output of halves is no tensor, or an operator reads their bits.
    """
    inputs = {value: value.dtype for value in model.graph.inputs if _has_halves(value.type)}
    # An input that is an output too has its type already.
    outputs = {value: value.dtype for value in model.graph.outputs if _has_halves(value.type) and value not in inputs}
    _check(model, [*inputs, *outputs])
    if interface:
        inputs, outputs = {}, {}
    values = [value for value in _values(model) if value not in inputs and _widen_value(value)]
    attributes = sum(_widen_attributes(node) for node in ir.traversal.RecursiveGraphIterator(model.graph))
    names = value_names(model)
    for value in inputs:
        _cast_input(model.graph, value, names)
    for value, dtype in outputs.items():
        _cast_output(model.graph, value, dtype, names)
    if not (inputs or values or attributes):
        return []
    return [f"made {len(values)} tensors and {attributes} attributes of float16 or bfloat16 float32"]


def _values(model: ir.Model) -> Iterator[ir.Value]:
    """All values, of subgraphs too, each once."""
    for graph in model.graphs():
        # A weight that a caller may override is an input.
        yield from {*graph.inputs, *graph.initializers.values()}
        for node in graph:
            yield from node.outputs


# ---- what cannot be done ---------------------------------------------------------------------------------------------


def _check(model: ir.Model, interface: list[ir.Value]) -> None:
    for value in interface:
        if not isinstance(value.type, ir.TensorType):
            msg = f"'{value.name}': expected a tensor, to be computed with in float32, got {value.type}"
            raise UnsupportedGradient(msg)
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if is_op(node, "BitCast") and any(
            value is not None and _has_halves(value.type) for value in (*node.inputs, *node.outputs)
        ):
            msg = f"{describe(node, opset_of(model))}: reads the bits of a float16 or bfloat16, which float32 does not have"
            raise UnsupportedGradient(msg)


# ---- types -----------------------------------------------------------------------------------------------------------


def _has_halves(kind: ir.TypeProtocol | None) -> bool:
    return kind is not None and kind.dtype in HALVES


def _widened(kind: ir.TypeProtocol) -> ir.TypeProtocol:
    """The type with float32 in the place of halves: of a tensor, or of what is made of tensors."""
    match kind:
        case ir.SequenceType():
            return ir.SequenceType(_widened(kind.elem_type), denotation=kind.denotation)
        case ir.OptionalType():
            return ir.OptionalType(_widened(kind.elem_type), denotation=kind.denotation)
        case ir.SparseTensorType():
            return ir.SparseTensorType(ir.DataType.FLOAT, denotation=kind.denotation)
        case _:
            return ir.TensorType(ir.DataType.FLOAT, denotation=kind.denotation)


def _widened_tensor(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return ir.tensor(tensor.numpy().astype(np.float32), name=tensor.name)


def _widen_value(value: ir.Value) -> bool:
    """Gives a value its new type, and its numbers if it is constant. Returns whether it had another."""
    constant = value.const_value
    if constant is not None and constant.dtype in HALVES:
        value.const_value = _widened_tensor(constant)
    elif not _has_halves(value.type):
        return False
    value.type = _widened(value.type) if value.type is not None else None
    return True


# ---- attributes ------------------------------------------------------------------------------------------------------


def _widen_attributes(node: ir.Node) -> int:
    changed = [new for old in node.attributes.values() if (new := _widened_attribute(node, old)) is not None]
    for attribute in changed:
        node.attributes[attribute.name] = attribute
    return len(changed)


def _widened_attribute(node: ir.Node, attribute: ir.Attr) -> ir.Attr | None:
    """The attribute in float32; None where it has no halves."""
    match attribute.type:
        case ir.AttributeType.TENSOR if attribute.as_tensor().dtype in HALVES:
            return ir.AttrTensor(attribute.name, _widened_tensor(attribute.as_tensor()))
        case ir.AttributeType.TYPE_PROTO if _has_halves(attribute.value.type):
            return ir.AttrTypeProto(attribute.name, ir.TypeAndShape(_widened(attribute.value.type), attribute.value.shape))
        case ir.AttributeType.INT if is_op(node, *_OPERATORS) and (node.op_type, attribute.name) in TYPE_ATTRIBUTES:
            return ir.AttrInt64(attribute.name, ir.DataType.FLOAT) if attribute.value in HALVES else None
    return None


_OPERATORS = frozenset(op_type for op_type, _ in TYPE_ATTRIBUTES)


# ---- inputs and outputs ----------------------------------------------------------------------------------------------


def _cast_input(graph: ir.Graph, value: ir.Value, names: set[str]) -> None:
    """What reads an input reads a Cast of it instead."""
    readers = list(value.uses())
    if not readers:
        return
    cast = _cast(value, ir.DataType.FLOAT, _new_name(value, names))
    for node, index in readers:
        node.replace_input_with(index, cast.outputs[0])
    graph.insert_before(graph[0], cast)


def _cast_output(graph: ir.Graph, value: ir.Value, dtype: ir.DataType | None, names: set[str]) -> None:
    """The output is a Cast of the value, and has its name."""
    assert dtype is not None
    name, value.name = value.name or "", _new_name(value, names)
    cast = _cast(value, dtype, name)
    graph.append(cast)
    graph.outputs[:] = [cast.outputs[0] if output is value else output for output in graph.outputs]


def _cast(value: ir.Value, dtype: ir.DataType, name: str) -> ir.Node:
    node = ir.node("Cast", [value], {"to": int(dtype)}, name=f"{name}/Cast")
    (out,) = node.outputs
    out.name, out.type, out.shape = name, ir.TensorType(dtype), value.shape
    return node


def _new_name(value: ir.Value, names: set[str]) -> str:
    name = unused_name(f"{value.name}/float32", names)
    names.add(name)
    return name
