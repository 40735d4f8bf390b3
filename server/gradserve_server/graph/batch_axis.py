"""Whether requests can share one run of a graph: whether axis 0 is the batch, everywhere that a caller can see."""

from collections.abc import Container

import onnx_ir as ir


def is_batched(model: ir.Model, broadcast: Container[str]) -> bool:
    """Whether axis 0 of every input and output, and no other axis of them, is one and the same open size.

    What happens to that axis inside is another question: a graph may mix what lies along it. (`runtime.batch` tries it.)

    Args:
        model: Has its shapes inferred.
        broadcast: Names of inputs that follow the others: each axis has their size or 1.
    """
    graph = model.graph
    values = [value for value in (*graph.inputs, *graph.outputs) if value.name not in broadcast]
    first = {_symbols(value)[:1] for value in values}
    others = {symbol for value in values for symbol in _symbols(value)[1:]}
    if len(first) != 1:
        return False
    (axis,) = first
    return len(axis) == 1 and axis[0] is not None and axis[0] not in others


def _symbols(value: ir.Value) -> tuple[str | None, ...]:
    """The name of each axis's size; None where it is a number, or open without a name."""
    return tuple(size.value if isinstance(size, ir.SymbolicDim) else None for size in value.shape or ())
