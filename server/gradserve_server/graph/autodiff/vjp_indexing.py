"""Operators that read or write where indices say. A cotangent goes back to where its value was read.

Values read twice get the sum. What is read from positions goes back by reading those positions: the same operator applied
to `positions(X)` tells where each value came from, negative indices and batch axes included.
"""

from collections.abc import Sequence

from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.autodiff.moving import add_at, count, place, positions, put, total
from gradserve_server.graph.autodiff.rules import Cotangent, rank_known, vjp
from gradserve_server.graph.autodiff.site import Pull, Site

# ---- reading ---------------------------------------------------------------------------------------------------------


def _index_rank_known(n: Site) -> str | None:
    return rank_known(n) if n.input(1).shape is not None else "rank of the indices not known before the run"


@vjp("Gather", since=(13,), refuse=_index_rank_known)
def gather(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY added up where it was read."""
    axis, index = n.integer("axis", 0) % n.x.rank, n.input(1)
    before, after = g.sizes(n.x, range(axis)), g.sizes(n.x, range(axis + 1, n.x.rank))
    # The axes of the index become one.
    dy = n.dy if index.rank == 1 else g.op("Reshape", n.dy, g.concat(before, total(g, index), after), allowzero=1)
    if index.constant is not None and index.constant.size == 1:
        return (_one(g, dy, int(index.constant.item()), n.x, axis),)
    return (_added(g, dy, index, n.x, axis),)


def _one(g: Emitter, dy: Expr, index: int, x: Expr, axis: int) -> Expr:
    """A single place along an axis, which Pad fills fastest."""
    if isinstance(size := x.shape[axis] if x.shape else None, int):
        return place(g, dy, [axis], [(index % size, size - 1 - index % size)])
    size_ = g.size(x, axis)
    return g.pad(dy, {axis: (index, size_ - (index + 1)) if index >= 0 else (size_ + index, -1 - index)})


def _added(g: Emitter, dy: Expr, index: Expr, x: Expr, axis: int, *, unique: bool = False) -> Expr:
    """dY, which was read at these places along an axis, added up there."""
    places = g.op("Expand", g.reshape(index, -1, *[1] * (x.rank - 1 - axis)), g.shape(dy))
    into = g.zeros_like(x)
    return g.op("ScatterElements", into, places, dy, axis=axis) if unique else add_at(g, into, places, dy, axis)


@vjp("GatherElements", since=(13,))
def gather_elements(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY added up where it was read."""
    return (add_at(g, g.zeros_like(n.x), n.input(1), n.dy, n.integer("axis", 0)),)


@vjp("GatherND", since=(13,))
def gather_nd(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY added up where it was read."""
    places = g.op("GatherND", positions(g, n.x), n.input(1), batch_dims=n.integer("batch_dims", 0))
    return (put(g, n.dy, places, n.x),)


def _rank_known_for_axis(n: Site) -> str | None:
    return rank_known(n) if "axis" in n.node.attributes else None


@vjp("Compress", since=(11, 28), refuse=_rank_known_for_axis)
def compress(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY where it was read; without an axis X is a vector."""
    if "axis" not in n.node.attributes:
        return (put(g, n.dy, g.op("Compress", positions(g, n.x), n.input(1)), n.x, unique=True),)
    return (_added(g, n.dy, g.op("NonZero", n.input(1)), n.x, n.axis, unique=True),)


@vjp("Unique", since=(11, 28), refuse=_rank_known_for_axis)
def unique(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY at the first of each value, where Y comes from; without an axis X is a vector."""
    first = n.outputs[1] if len(n.outputs) > 1 and n.outputs[1].value.name else None
    axis = n.axis if "axis" in n.node.attributes else None
    if first is None:
        first = g.op("Unique", n.x, axis=axis, sorted=n.integer("sorted", 1), outputs=2)[1]
    return (put(g, n.dy, first, n.x, unique=True) if axis is None else _added(g, n.dy, first, n.x, axis, unique=True),)


@vjp("TopK", since=(11, 24))
def top_k(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY at the indices; of equal values at the edge, only those that TopK chose (the first) get it."""
    return (g.op("ScatterElements", g.zeros_like(n.x), n.outputs[1], n.dy, axis=n.integer("axis", -1)),)


@vjp("OneHot", since=(11, 28), zero=(0, 1))
def one_hot(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = off, or on where the index says: doff = sum of dY off, don = sum of dY on."""
    values, axis = n.input(2), n.integer("axis", -1)

    def read(off: int, on: int) -> Expr:
        where = g.op("OneHot", n.input(0), n.input(1), g.const([off, on], values.dtype), axis=axis)
        return g.reshape(g.op("ReduceSum", n.dy * where, keepdims=0), 1)

    return None, None, lambda: g.concat(read(1, 0), read(0, 1))


# ---- writing ---------------------------------------------------------------------------------------------------------


@vjp("ScatterElements", "ScatterND", since=(18,))
def scatter(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = D with updates U at some places; dY[U] is dY read there.

    none: dD = dY without those places, dU = dY[U]; of two updates to one place both get it (onnx forbids it).
    add:  dD = dY, dU = dY[U].
    mul:  dD = dY * the product of all U there, dU = dY[U] * the product of D and the other U there.
    max, min: dY in equal parts to all that equal Y, D and U alike, as in torch.
    """
    data, index, updates = n.input(0), n.input(1), n.input(2)
    elements = n.node.op_type == "ScatterElements"
    axis = n.integer("axis", 0) if elements else None
    reduction = n.string("reduction", "none")

    def write(into: Expr, values: Expr, how: str) -> Expr:
        return g.op(n.node.op_type, into, index, values, axis=axis, reduction=how)

    def read(x: Expr) -> Expr:
        return g.op("GatherElements", x, index, axis=axis) if elements else g.op("GatherND", x, index)

    if reduction == "none":
        return lambda: write(n.dy, g.zeros_like(updates), "none"), None, lambda: read(n.dy)
    if reduction == "add":
        return n.dy, None, lambda: read(n.dy)
    if reduction == "mul":
        ones = g.expand_like(g.const(1, data.dtype), data)
        return (
            lambda: n.dy * write(ones, updates, "mul"),
            None,
            lambda: read(n.dy * data) * _others(g, read(positions(g, data)), updates),
        )

    data_reached = g.cast(data.equals(n.y), n.dy.dtype)
    reached = g.cast(updates.equals(read(n.y)), n.dy.dtype)
    share = n.dy / (data_reached + put(g, reached, read(positions(g, data)), data))
    return lambda: share * data_reached, None, lambda: read(share) * reached


def _others(g: Emitter, places: Expr, factors: Expr) -> Expr:
    """For each factor the product of the others at its place: of all pairs, so that a factor may be zero."""
    flat, where = g.reshape(factors, -1), g.reshape(places, -1)
    number = total(g, factors)
    same = g.op("Equal", g.unsqueeze(where, [0]), g.unsqueeze(where, [1]))
    itself = g.op("Equal", g.unsqueeze(count(g, number), [0]), g.unsqueeze(count(g, number), [1]))
    other = g.op("And", same, g.op("Not", itself))
    product = g.reduce("ReduceProd", g.where(other, g.unsqueeze(flat, [0]), 1), [1], keepdims=False)
    return g.reshape_like(product, factors)


@vjp("TensorScatter", since=(24,), refuse=rank_known)
def tensor_scatter(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = past with an update: dpast = dY without those places, dupdate = dY there."""
    update, index = n.input(1), n.optional(2)
    axis, mode = n.integer("axis", -2) % n.x.rank, n.string("mode", "linear")

    def dpast() -> Expr:
        return g.op("TensorScatter", n.dy, g.zeros_like(update), index, axis=axis, mode=mode)

    def dupdate() -> Expr:
        places = count(g, g.size(update, axis))
        if index is not None:
            places = g.unsqueeze(index, [1]) + g.unsqueeze(places, [0])
            if mode == "circular":
                places = g.op("Mod", places, g.op("Max", g.size(n.x, axis), 1))
            places = g.unsqueeze(places, range(1, axis))  # [batch, 1, ..., sequence]
        places = g.unsqueeze(places, range(-(n.x.rank - 1 - axis), 0))
        return g.op("GatherElements", n.dy, g.op("Expand", places, g.shape(update)), axis=axis)

    return dpast, dupdate
