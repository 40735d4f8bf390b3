"""Operators that ONNX itself defines by others: their bodies, emitted.

    @expansion("Swish", since=(24,))
    def swish(g, n):
        return expand_function(g, n)

A body that depends on the node ("context-dependent") is asked for with the node's attributes and the types of its inputs.
"""

from typing import Any

import onnx
import onnx_ir as ir

from gradserve_server.graph.autodiff.bodies import Resolve, copy
from gradserve_server.graph.autodiff.emitter import Emitter, Expr, type_proto
from gradserve_server.graph.autodiff.site import Site
from gradserve_server.graph.values import DEFAULT_DOMAINS


def expand_function(g: Emitter, n: Site) -> list[Expr | None]:
    """Emits the body of the function that defines an operator.

    Args:
        g: Gets the nodes.
        n: A node whose operator is a function. Where the body depends on types, those of all inputs must be known.

    Returns:
        One value for each output of the node.
    """
    function, defaults = definition(n)
    known: dict[ir.Value, ir.Value | None] = {}
    for index, value in enumerate(function.inputs):
        given = n.optional(index)
        known[value] = given.value if given is not None else None

    def resolve(attribute: ir.Attr) -> ir.Attr | None:
        if attribute.ref_attr_name is None:
            return attribute
        given = n.node.attributes.get(attribute.ref_attr_name) or defaults.get(attribute.ref_attr_name)
        return ir.Attr(attribute.name, given.type, given.value) if given is not None else None

    for node in function:
        if node.op_type == "Constant":
            known[node.outputs[0]] = _constant(g, node, resolve).value
        else:
            g.nodes.append(copy(g, node, known, resolve))
    made = {value.name: known[value] for value in function.outputs}
    names = [output.name for output in _schema(n).outputs][: len(n.outputs)]
    outputs = [made.get(name) for name in names]
    return [g.of(out) if out is not None else None for out in outputs]


def definition(n: Site) -> tuple[ir.Function, dict[str, ir.Attr]]:
    """The function that defines a node's operator, in the newest opset that is not newer than the model's.

    Returns:
        The function, and the defaults of the operator's attributes.
    """
    schema = _schema(n)
    if schema.has_function:
        opset = max(version for version in schema.function_opset_versions if version <= n.opset)
        data = schema.get_function_with_opset_version(opset)
    else:
        assert schema.has_context_dependent_function, f"{n.node.op_type} is no function"
        opset = max(version for version in schema.context_dependent_function_opset_versions if version <= n.opset)
        types = [type_proto(x.value).SerializeToString() if x is not None else b"" for x in n.inputs]
        data = schema.get_context_dependent_function_with_opset_version(
            opset, ir.to_proto(n.node).SerializeToString(), types
        )
    proto = onnx.FunctionProto.FromString(data)
    # A body may leave out outputs that the node does not have.
    written = {name for inside in proto.node for name in inside.output} | set(proto.input)
    proto.output[:] = [name for name in proto.output if name in written]
    function = ir.from_proto(proto)
    for node in function:
        assert _means_the_same(node, function, n.opset), f"{node.op_type} of '{schema.name}' is older than opset {n.opset}"
    defaults = [attribute.default_value for attribute in schema.attributes.values()]
    return function, {default.name: ir.serde.deserialize_attribute(default) for default in defaults if default.type}


def _schema(n: Site) -> Any:  # the stubs of onnx lack what is asked of functions
    return onnx.defs.get_schema(n.node.op_type, n.opset, n.node.domain)


def _means_the_same(node: ir.Node, function: ir.Function, opset: int) -> bool:
    """Whether an operator in the opset of the function takes what it does in that of the model."""
    if node.domain not in DEFAULT_DOMAINS:
        return True
    old, new = (onnx.defs.get_schema(node.op_type, version, "") for version in (function.opset_imports[""], opset))
    return set(old.attributes) <= set(new.attributes) and len(old.inputs) <= len(new.inputs)


def _constant(g: Emitter, node: ir.Node, resolve: Resolve) -> Expr:
    """The value of a Constant node."""
    resolved = [resolve(attribute) for attribute in node.attributes.values()]
    (given,) = (attribute for attribute in resolved if attribute is not None)
    match given.name:
        case "value":
            return g.const(given.as_tensor().numpy())
        case "value_float" | "value_floats":
            return g.const(given.value, ir.DataType.FLOAT)
        case "value_int" | "value_ints":
            return g.const(given.value, ir.DataType.INT64)
    msg = f"a Constant with '{given.name}'"
    raise AssertionError(msg)
