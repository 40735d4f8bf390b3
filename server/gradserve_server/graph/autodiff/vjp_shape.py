"""Operators that only move values: each cotangent moves back, and those of copies are added up."""

from collections.abc import Sequence

from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.autodiff.moving import END, count, fold, place, positions, put, total
from gradserve_server.graph.autodiff.rules import Cotangent, rank_known, vjp
from gradserve_server.graph.autodiff.site import Pull

# ---- one to one ------------------------------------------------------------------------------------------------------


@vjp("Reshape", since=(14, 19, 21, 23, 24, 25))
@vjp("Flatten", "Squeeze", "Unsqueeze", since=(13, 21, 23, 24, 25))
def reshape(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY in the shape of X."""
    return (g.reshape_like(n.dy, n.x),)


@vjp("Transpose", since=(13, 21, 23, 24, 25))
def transpose(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY with the axes put back; reversing them (no `perm`) is its own inverse."""
    order = n.integers("perm")
    return (g.op("Transpose", n.dy, perm=[order.index(axis) for axis in range(len(order))] or None),)


@vjp("ReverseSequence", since=(10, 28))
def reverse_sequence(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY reversed again."""
    batch_axis, time_axis = n.integer("batch_axis", 1), n.integer("time_axis", 0)
    return (g.op("ReverseSequence", n.dy, n.input(1), batch_axis=batch_axis, time_axis=time_axis),)


@vjp("SpaceToDepth", since=(13, 28))
def space_to_depth(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = DepthToSpace(dY)."""
    return (g.op("DepthToSpace", n.dy, blocksize=n.integer("blocksize", 1), mode=n.string("mode", "DCR")),)


@vjp("DepthToSpace", since=(13, 28))
def depth_to_space(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = SpaceToDepth(dY). It has no CRD mode before opset 28: [N, C, H b, W b] -> [N, C, b, b, H, W]."""
    block = n.integer("blocksize", 1)
    if n.string("mode", "DCR") == "DCR":
        return (g.op("SpaceToDepth", n.dy, blocksize=block),)
    batch, channels, height, width = (g.size(value, axis) for value, axis in ((n.y, 0), (n.y, 1), (n.x, 2), (n.x, 3)))
    apart = g.op("Reshape", n.dy, g.concat(batch, channels, height, block, width, block), allowzero=1)
    return (g.reshape_like(g.transpose(apart, [0, 1, 3, 5, 2, 4]), n.x),)


# ---- parts -----------------------------------------------------------------------------------------------------------


@vjp("Concat", since=(13,), refuse=rank_known)
def concat(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX_i = the part of dY that X_i became."""
    if len(n.inputs) == 1:
        return (n.dy,)
    inputs = [n.input(i) for i in range(len(n.inputs))]
    parts = g.op("Split", n.dy, g.concat(*(g.size(x, n.axis) for x in inputs)), axis=n.axis, outputs=len(inputs))
    return [g.reshape_like(part, x) if part.shape is None else part for part, x in zip(parts, inputs, strict=True)]


@vjp("Split", since=(18,))
def split(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = the dY_i in a row, zeros for those that nothing reads."""
    parts = [dy or g.zeros_like(y) for dy, y in zip(n.cotangents, n.outputs, strict=True)]
    return (g.concat(*parts, axis=n.integer("axis", 0)),)


@vjp("Slice", since=(13,))
def slice_(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY put back among zeros."""
    return (_unsliced(g, n) or put(g, n.dy, g.op("Slice", positions(g, n.x), *n.inputs[1:]), n.x, unique=True),)


def _unsliced(g: Emitter, n: Pull) -> Expr | None:
    """By padding; None where too little is known before the run."""
    starts, axes, steps = (n.constant(i) for i in (1, 3, 4))
    if starts is None or n.x.shape is None or n.y.shape is None or any(n.has(i) and n.constant(i) is None for i in (3, 4)):
        return None
    axes_ = [int(axis) % n.x.rank for axis in (range(len(starts)) if axes is None else axes)]
    cuts = [(int(a), int(b)) for a, b in zip(starts, [1] * len(starts) if steps is None else steps, strict=True)]
    static = all(isinstance(x.shape[axis], int) for x in (n.x, n.y) for axis in axes_)  # type: ignore[index]
    if 0 in n.y.shape:
        return g.zeros_like(n.x)
    if not static and any(abs(step) != 1 for _, step in cuts):
        return None
    back = [axis for axis, (_, step) in zip(axes_, cuts, strict=True) if step < 0]
    ones = [-1] * len(back)
    dy = g.op("Slice", n.dy, g.ints(*ones), g.ints(*[-END] * len(back)), g.ints(*back), g.ints(*ones)) if back else n.dy
    return _spread(g, n, dy, axes_, cuts) if static else _padded(g, n, dy, axes_, cuts)


def _spread(g: Emitter, n: Pull, dy: Expr, axes: Sequence[int], cuts: Sequence[tuple[int, int]]) -> Expr:
    """Sizes are known: zeros between the values, axis after axis, then around them."""
    around, rank = [], n.x.rank
    for axis, (start, step) in zip(axes, cuts, strict=True):
        size, kept = n.x.shape[axis], n.y.shape[axis]  # type: ignore[index]
        assert isinstance(size, int)
        assert isinstance(kept, int)
        lowest, stride = min(range(size)[start::step][:kept]), abs(step)
        phase = lowest % stride
        around.append((lowest - phase, size - (lowest - phase) - kept * stride))
        if stride == 1:
            continue
        # [.., s, ..] -> [.., s, stride, ..]. Pad is slow along a last axis, and Transpose is not.
        made = 0 if axis == rank - 1 else axis + 1
        apart = place(g, g.unsqueeze(dy, [made]), [made], [(phase, stride - 1 - phase)])
        apart = apart if made else g.transpose(apart, [*range(1, rank + 1), 0])
        sizes = [g.size(dy, i) if i != axis else g.ints(kept * stride) for i in range(rank)]
        dy = g.op("Reshape", apart, g.concat(*sizes), allowzero=1)
    return place(g, dy, axes, around)


def _padded(g: Emitter, n: Pull, dy: Expr, axes: Sequence[int], cuts: Sequence[tuple[int, int]]) -> Expr:
    """Every step is 1 or -1."""
    before, after = [], []
    for axis, (start, step) in zip(axes, cuts, strict=True):
        size, kept = g.size(n.x, axis), g.size(n.y, axis)
        last = 0 if step > 0 else -1  # where a start beyond the ends comes to lie: 0 and size, or -1 and size - 1
        first = g.op("Min", size + last, start) if start >= 0 else g.op("Max", size + start, last)
        lowest = first if step > 0 else first - (kept - 1)
        before.append(lowest)
        after.append(size - lowest - kept)
    return g.pad(dy, {axis: (first, last) for axis, first, last in zip(axes, before, after, strict=True)})


@vjp("Trilu", since=(14,))
def trilu(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = the same triangle of dY."""
    return (g.op("Trilu", n.dy, n.optional(1), upper=n.integer("upper", 1)),)


@vjp("CenterCropPad", since=(18,))
def center_crop_pad(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY cropped or padded back: both round the middle down."""
    axes = n.integers("axes")
    return (g.op("CenterCropPad", n.dy, g.sizes(n.x, axes) if axes else g.shape(n.x), axes=axes or None),)


# ---- copies ----------------------------------------------------------------------------------------------------------


@vjp("Expand", since=(13,), broadcasts=True)
def expand(g: Emitter, n: Pull) -> Sequence[Cotangent]:  # noqa: ARG001
    """dX = dY summed over the axes that were made."""
    return (n.dy,)


@vjp("Tile", since=(13,), refuse=rank_known)
def tile(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY as [r_0, s_0, r_1, s_1, ...], summed over the repeats r."""
    repeats = n.constant(1)
    if repeats is None:
        pairs = g.op("Concat", *(g.unsqueeze(v, [1]) for v in (n.input(1), g.shape(n.x))), axis=1)
        sizes, summed = g.reshape(pairs, -1), list(range(0, 2 * n.x.rank, 2))
    else:
        parts: list[Expr | int] = []
        summed = []
        for axis, repeat in enumerate(repeats.tolist()):
            if repeat != 1:
                summed.append(len(parts))
                parts.append(repeat)
            parts.append(g.size(n.x, axis))
        if not summed:
            return (n.dy,)
        sizes = g.concat(*parts)
    apart = g.op("Reshape", n.dy, sizes, allowzero=1)
    return (g.reshape_like(g.sum(apart, summed, keepdims=False), n.x),)


@vjp("Range", since=(11, 27), zero=(1,))
def range_(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y_i = start + i * delta: dstart = sum dY, ddelta = sum i * dY. How many there are changes in jumps."""

    def summed(x: Expr) -> Expr:
        return g.op("ReduceSum", x, keepdims=0)

    return lambda: summed(n.dy), None, lambda: summed(n.dy * g.cast(count(g, total(g, n.dy)), n.dy.dtype))


@vjp("Pad", since=(18, 19, 21, 23, 24, 25))
def pad(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY without the border; border values that are copies of others are added to those."""
    widths = _borders(n)
    mode = n.string("mode", "constant")

    def without_border(dy: Expr) -> Expr:
        if widths is None:
            return g.op("Pad", dy, g.op("Neg", n.input(1)), None, n.optional(3))
        return place(g, dy, list(widths), [(-before, -after) for before, after in widths.values()])

    def dx() -> Expr:
        if mode == "constant":
            return without_border(n.dy)
        if widths is None or n.x.shape is None:
            return put(g, n.dy, g.op("Pad", positions(g, n.x), n.input(1), None, n.optional(3), mode=mode), n.x)
        dy = n.dy
        for axis, (before, after) in widths.items():
            if max(before, after) > 0:
                dy = fold(g, dy, axis % n.x.rank, g.size(n.x, axis), (before, after), mode)
        return without_border(dy)

    def dvalue() -> Expr:
        if mode != "constant":
            return g.zeros_like(n.input(2))
        zeros = g.zeros_like(n.x)
        border = g.op("Pad", zeros, n.input(1), 1, n.optional(3)) if widths is None else g.pad(zeros, widths, 1)
        return g.reshape_like(g.op("ReduceSum", n.dy * border, keepdims=0), n.input(2))

    return dx, None, dvalue


def _borders(n: Pull) -> dict[int, tuple[int, int]] | None:
    """Axis -> widths before and after; None where they are known only in the run."""
    pads, axes = n.constant(1), n.constant(3)
    if pads is None or (axes is None and n.has(3)):
        return None
    half = len(pads) // 2
    named = range(half) if axes is None else axes.tolist()
    return {axis: (int(pads[i]), int(pads[half + i])) for i, axis in enumerate(named)}
