"""Ways to move values that the rules of several operators share."""

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from gradserve_server.graph.autodiff.emitter import MAX_KNOWN_SIZE, Emitter, Expr

END = 2**63 - 1
"""A Slice that ends here goes to the end."""


def place(g: Emitter, x: Expr, axes: Sequence[int], widths: Sequence[tuple[int, int]]) -> Expr:
    """Puts zeros before and after along some axes; takes values away where a width is negative."""
    if cut := [i for i, width in enumerate(widths) if min(width) < 0]:
        starts, ends = ([max(-widths[i][0], 0) for i in cut], [min(widths[i][1], 0) or END for i in cut])
        x = g.slice(x, starts, ends, [axes[i] for i in cut])
    if add := [i for i, width in enumerate(widths) if max(width) > 0]:
        x = g.pad(x, {axes[i]: (max(widths[i][0], 0), max(widths[i][1], 0)) for i in add})
    return x


def zeros(g: Emitter, like: Expr, *sizes: Expr | int) -> Expr:
    """Of the type of another value."""
    return g.op("Expand", g.const(0, like.dtype), g.concat(*sizes))


def count(g: Emitter, number: Expr | int) -> Expr:
    """0, 1, 2, ...: as many as a number, or an int64 value of one element, says."""
    known = number if isinstance(number, int) else None if number.constant is None else int(number.constant.item())
    if known is not None and known <= MAX_KNOWN_SIZE:
        return g.const(np.arange(known))
    limit = g.const(known) if known is not None else number
    assert isinstance(limit, Expr)
    return g.op("Range", g.const(0), limit if limit.shape == () else g.op("Reshape", limit, g.ints()), g.const(1))


def total(g: Emitter, x: Expr) -> Expr:
    """How many elements, int64 [1]."""
    return g.ints(prod(x.sizes)) if x.sizes is not None else g.op("Reshape", g.op("Size", x), g.ints(1))


def positions(g: Emitter, x: Expr) -> Expr:
    """For each element its position in x as a vector, in the shape of x, int64."""
    return g.reshape_like(count(g, total(g, x)), x)


def put(g: Emitter, values: Expr, places: Expr, like: Expr, *, unique: bool = False) -> Expr:
    """The adjoint of reading x at some positions of it as a vector: zeros like x, with values added where they were read.

    Args:
        g: Emits it.
        values: What was read; its cotangent.
        places: For each value its position in `like` as a vector (`positions`).
        like: What x was.
        unique: Whether no position is there twice.
    """
    flat = zeros(g, values, total(g, like))
    places, values = g.reshape(places, -1), g.reshape(values, -1)
    write = g.op("ScatterElements", flat, places, values, axis=0) if unique else add_at(g, flat, places, values, 0)
    return g.reshape_like(write, like)


def add_at(g: Emitter, into: Expr, places: Expr, values: Expr, axis: int) -> Expr:
    """Adds values at places along an axis, as ScatterElements understands them; a place may be there many times."""
    # Not ScatterND: onnxruntime (1.19.2 and 1.32.0) adds there from several threads at once, and loses values.
    dtype = into.dtype
    if dtype.bitwidth < 32:  # onnxruntime adds no others; and many small numbers add up better so
        into, values = (g.cast(x, ir.DataType.FLOAT) for x in (into, values))
    return g.cast(g.op("ScatterElements", into, places, values, axis=axis, reduction="add"), dtype)


def fold(g: Emitter, dy: Expr, axis: int, size: Expr, widths: tuple[int, int], mode: str) -> Expr:
    """Adds a border along one axis to what it is a copy of. The border stays where it is."""
    before, after = (max(width, 0) for width in widths)
    inside = size + sum(min(width, 0) for width in widths)  # cutting off comes before copying
    source = g.op("Pad", count(g, inside), g.ints(before, after), mode=mode) + before
    parts = [count(g, before)] * (before > 0) + [count(g, after) + (inside + before)] * (after > 0)
    border = g.concat(*parts)
    values = g.op("Gather", dy, border, axis=axis)
    to = g.reshape(g.op("Gather", source, border), -1, *[1] * (dy.rank - axis - 1))
    return add_at(g, dy, g.op("Expand", to, g.shape(values)), values, axis)
