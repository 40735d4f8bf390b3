"""Small questions that every pass asks about nodes and values."""

from collections.abc import Container

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
"""Element types that have a derivative."""

DEFAULT_DOMAINS = ("", "ai.onnx")


def opset_of(model: ir.Model, domain: str = "") -> int:
    """The version of an operator set that the model imports; 0 where it does not."""
    names = DEFAULT_DOMAINS if domain in DEFAULT_DOMAINS else (domain,)
    return max((model.opset_imports.get(name, 0) for name in names), default=0)


def is_op(node: ir.Node, *op_types: str) -> bool:
    """Whether the node is one of these operators of the default domain."""
    return node.domain in DEFAULT_DOMAINS and node.op_type in op_types


def describe(node: ir.Node, opset: int) -> str:
    """How errors name a node."""
    domain = "" if node.domain in DEFAULT_DOMAINS else f"{node.domain}."
    label = node.name or next((f"making {v.name}" for v in node.outputs if v.name), "unnamed")
    return f"node '{label}' ({domain}{node.op_type}, opset {opset})"


def constant(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    """The array of an initializer that no caller can override; None for anything else."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def attribute(node: ir.Node, name: str, default: float) -> float:
    """A numeric attribute, or its default."""
    return node.attributes[name].value if name in node.attributes else default


def unused_name(wanted: str, taken: Container[str]) -> str:
    """`wanted`, or the first of `wanted_1`, `wanted_2`, … that is free."""
    candidate, number = wanted, 0
    while candidate in taken:
        number += 1
        candidate = f"{wanted}_{number}"
    return candidate


def is_float(value: ir.Value) -> bool:
    """Whether the value has a derivative, as far as its element type goes."""
    return value.dtype in FLOATS


def shape_of(value: ir.Value) -> tuple[int | str | None, ...] | None:
    """Sizes and symbols; None where not even the rank is known."""
    if value.shape is None:
        return None
    return tuple(size if isinstance(size, int) else size.value for size in value.shape)


def same_shape(a: ir.Value, b: ir.Value) -> bool:
    """Whether two values surely have the same shape."""
    shape = shape_of(a)
    return shape is not None and None not in shape and shape == shape_of(b)


def supersede(out: ir.Value, by: ir.Value) -> None:
    """`by` takes the place of `out`: its readers, its name, its type. What made `out` is left for the caller to remove."""
    ir.convenience.replace_all_uses_with(out, by, replace_graph_outputs=True)
    name, out.name = out.name, f"{out.name}/superseded"
    by.name, by.type, by.shape = name, out.type, out.shape
