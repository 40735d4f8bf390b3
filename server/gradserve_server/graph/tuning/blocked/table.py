"""The table of operators that run on blocked tensors, and the questions that its handlers ask. A handler may decline."""

from collections.abc import Callable

import onnx_ir as ir

from gradserve_server.graph.tuning.blocked.layout import Layout
from gradserve_server.graph.tuning.fused import DOMAIN
from gradserve_server.graph.values import DEFAULT_DOMAINS, constant, shape_of

Handler = Callable[[Layout, ir.Node], bool]
"""Puts a node into the layout; False where it cannot."""

TABLE: dict[str, list[Handler]] = {}
"""By operator of the default domain or ours; the first handler that does not decline."""


def handles(*ops: str) -> Callable[[Handler], Handler]:
    """Adds a handler for some operators."""

    def register(handler: Handler) -> Handler:
        for op in ops:
            TABLE.setdefault(op, []).append(handler)
        return handler

    return register


def put(layout: Layout, node: ir.Node) -> bool:
    """Puts a node into the layout, if it is one that can be."""
    return node.domain in (*DEFAULT_DOMAINS, DOMAIN) and any(
        handler(layout, node) for handler in TABLE.get(node.op_type, ())
    )


def is_image(value: ir.Value, channels: int | None = None) -> bool:
    """Whether the value is float32 [N, C, H, W] with a known C."""
    shape = shape_of(value)
    if value.dtype is not ir.DataType.FLOAT or shape is None or len(shape) != 4 or not isinstance(shape[1], int):
        return False
    return channels is None or shape[1] == channels


def fills_blocks(layout: Layout, value: ir.Value) -> bool:
    """Whether the value can be blocked and its channels make whole blocks."""
    return layout.can_be_blocked(value) and layout.is_full(value)


def static_image(value: ir.Value) -> tuple[int, int, int] | None:
    """C, H and W, where all are known."""
    shape = shape_of(value)
    if not is_image(value) or shape is None:
        return None
    sizes = tuple(size for size in shape[1:] if isinstance(size, int))
    return (sizes[0], sizes[1], sizes[2]) if len(sizes) == 3 else None


def is_scalar(value: ir.Value) -> bool:
    """Whether the value is a constant number."""
    array = constant(value)
    return array is not None and array.size == 1


def text(node: ir.Node, name: str, default: str) -> str:
    """A string attribute."""
    return node.attributes.get_string(name, default) or default
