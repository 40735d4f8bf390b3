"""Lowers a model to an older opset.

Most operators of a newer opset only gained element types, so a node that uses none of those stays as it is. What else it has
that the older opset does not know:

| what | then |
|---|---|
| an operator that ONNX itself defines by others (RMSNormalization, Attention, Swish, ...) | its body takes its place |
| an attribute that says what its default says, or nothing here (`IGNORABLE`) | it goes |
| an attribute that says more, of an operator that has a body | the body takes its place |
| anything else: operator, attribute, input, element type | refused |

A body is written in the model's opset and lowered in turn.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import onnx
import onnx_ir as ir

from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.autodiff.functions import expand_function
from gradserve_server.graph.autodiff.rules import RUNTIME_ONLY
from gradserve_server.graph.autodiff.site import Site, subgraphs
from gradserve_server.graph.inference_form.convert_opset.writer import Writer, default_of, used, value_names
from gradserve_server.graph.values import DEFAULT_DOMAINS, supersede

Schema = Any
"""`onnx.defs.OpSchema`, whose stub leaves out what it says of functions."""


def lower(model: ir.Model, target: int) -> None:
    """Lowers all nodes, in place; the import is left to the caller.

    Raises:
        CannotConvert: A node cannot be lowered. The model is then half converted.
    """
    lowering = _Lowering(model, target)
    for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
        lowering.node(node)


class _Lowering:
    def __init__(self, model: ir.Model, target: int) -> None:
        self._target, self._writer = target, Writer(model)
        self._emitter = Emitter(model.graph, self._writer.opset, _unused_prefix(model))

    def node(self, node: ir.Node) -> None:
        """Lowers one node, without those of its subgraphs."""
        if node.domain not in DEFAULT_DOMAINS or node.op_type in RUNTIME_ONLY:
            return
        new, old = (_schema(node.op_type, opset) for opset in (self._writer.opset, self._target))
        if new is None:
            self._writer.refuse(
                node, f"expected an operator of opset {self._writer.opset}, got one that onnx does not define there"
            )
        if old is not None and old.since_version == new.since_version:
            return
        if old is None:
            self._expand(node, new, f"opset {self._target} has no such operator, and ONNX does not define it by others")
            return
        _drop_ignorable(node, new, old)
        if reason := _unknown_before(node, new, old):
            self._expand(node, new, f"opset {self._target} does not know its {reason}")
        elif reason := _types_unknown_before(node, old):
            self._writer.refuse(node, f"in opset {self._target} it does not take {reason}")

    def _expand(self, node: ir.Node, schema: Schema, reason: str) -> None:
        """Puts the body of the operator's function in the node's place, if it has one."""
        if not (schema.has_function or schema.has_context_dependent_function):
            self._writer.refuse(node, reason)
        if unknown := [value.name for value in node.inputs if value is not None and value.dtype is None]:
            self._writer.refuse(
                node, f"expected known element types of its inputs, got none of {', '.join(map(repr, unknown))}"
            )
        assert node.graph is not None
        # A Shape node of another body may stand in another graph, or later: each body has its own.
        g = self._emitter.for_subgraph()
        g.scope = node.name or node.outputs[0].name or node.op_type
        made = expand_function(g, Site(g, node))
        for out, value in zip(node.outputs, made, strict=False):
            if value is None and used(out):
                self._writer.refuse(
                    node, f"expected its output '{out.name}' unused, got readers; its definition does not make it"
                )
        for out, value in zip(node.outputs, made, strict=False):
            if value is not None:
                supersede(out, _own(g, value))
        node.graph.insert_before(node, g.nodes)
        node.graph.remove(node, safe=True)
        for inner in [inner for written in g.nodes for inner in _with_subgraphs(written)]:
            self.node(inner)


def _own(g: Emitter, value: Expr) -> ir.Value:
    """A value that the body made and that has no name yet: of what it only hands on, a copy."""
    producer = value.value.producer()
    return value.value if producer in g.nodes else g.op("Identity", value).value


def _with_subgraphs(node: ir.Node) -> Iterator[ir.Node]:
    yield node
    for graph in subgraphs(node):
        yield from ir.traversal.RecursiveGraphIterator(graph)


def _unused_prefix(model: ir.Model) -> str:
    names, number = value_names(model), 1
    while any(name.startswith(f"lowered{number}/") for name in names):
        number += 1
    return f"lowered{number}"


def _schema(op_type: str, opset: int) -> Schema | None:
    if not onnx.defs.has(op_type, opset, ""):
        return None
    schema = onnx.defs.get_schema(op_type, opset, "")
    return None if schema.deprecated else schema


# ---- what an older opset does not know -------------------------------------------------------------------------------


def _of_scale_type(node: ir.Node, attribute: ir.Attr) -> bool:
    scale = node.inputs[1]
    return scale is not None and scale.dtype is not None and attribute.as_int() == scale.dtype.value


def _always(node: ir.Node, attribute: ir.Attr) -> bool:  # noqa: ARG001
    return True


IGNORABLE: dict[tuple[str, str], Callable[[ir.Node, ir.Attr], bool]] = {
    # Says how to round to float8e8m0, which no opset has that lacks the attribute.
    ("Cast", "round_mode"): _always,
    ("CastLike", "round_mode"): _always,
    # Left out, they are the type of the scale.
    ("DequantizeLinear", "output_dtype"): _of_scale_type,
    ("QuantizeLinear", "precision"): _of_scale_type,
}
"""(operator, attribute): whether it may be left out although it is not the default."""


def _drop_ignorable(node: ir.Node, new: Schema, old: Schema) -> None:
    for name, attribute in list(node.attributes.items()):
        if name in old.attributes:
            continue
        default = new.attributes[name].default_value
        ignorable = IGNORABLE.get((node.op_type, name))
        says_default = bool(default.name) and onnx.helper.get_attribute_value(default) == _plain(attribute)
        if says_default or (ignorable is not None and ignorable(node, attribute)):
            del node.attributes[name]


def _plain(attribute: ir.Attr) -> Any:
    return attribute.as_string().encode() if attribute.type is ir.AttributeType.STRING else attribute.value


def _unknown_before(node: ir.Node, new: Schema, old: Schema) -> str | None:
    """What of a node the older schema lacks or reads otherwise; None where nothing."""
    names = [name for name in node.attributes if name not in old.attributes]
    # Left out, it would be another one there.
    names += [
        name
        for name in new.attributes.keys() & old.attributes.keys() - node.attributes.keys()
        if default_of(new, name) != default_of(old, name)
    ]
    if names:
        return f"attribute {' and '.join(map(repr, sorted(names)))}"
    inputs, outputs = _length(node.inputs), _length([out if out.name else None for out in node.outputs])
    if not old.min_input <= inputs <= old.max_input or not old.min_output <= outputs <= old.max_output:
        return f"{inputs} inputs and {outputs} outputs"
    return None


def _length(values: Sequence[ir.Value | None]) -> int:
    """Without those left out at the end."""
    return max((index for index, value in enumerate(values, start=1) if value is not None), default=0)


def _types_unknown_before(node: ir.Node, old: Schema) -> str | None:
    """The first input or output of an element type that the older schema does not have; None where there is none."""
    for values, formals in ((node.inputs, old.inputs), (node.outputs, old.outputs)):
        for index, value in enumerate(values):
            if value is None or value.dtype is None or not isinstance(value.type, ir.TensorType):
                continue
            formal = formals[min(index, len(formals) - 1)]  # the last may stand for many
            name = f"tensor({value.dtype.name.lower()})"
            if name not in formal.types:
                return f"{name} as '{formal.name}' ('{value.name}')"
    return None
