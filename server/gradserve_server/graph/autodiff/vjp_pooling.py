"""Poolings. A mean or a sum is linear: its adjoint spreads each window's value over the window. A maximum chooses."""

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
import onnx_ir as ir

from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.autodiff.rules import Cotangent, rank_known, unsupported, vjp
from gradserve_server.graph.autodiff.site import Pull, Site
from gradserve_server.graph.autodiff.windows import Windows, ranked, scatter, skips, spatial_sizes, windows_of

# ---- windows ----------------------------------------------------------------------------------------------------------


def _windows(g: Emitter, n: Site) -> Windows:
    return windows_of(g, n, n.x, n.integers("kernel_shape"))


def _disagreements(n: Site) -> str | None:
    """Where runtimes disagree on which windows there are."""
    kernel = n.integers("kernel_shape")
    rank, mode = len(kernel), n.string("auto_pad", "NOTSET")
    strides, dilations = n.integers("strides", [1] * rank), n.integers("dilations", [1] * rank)
    if mode.startswith("SAME"):
        if any(dilation != 1 for dilation in dilations):
            return f"auto_pad={mode} with dilations: runtimes disagree on what it means"
        return skips(n, n.x, kernel)
    pads = n.integers("pads", [0] * 2 * rank) if mode == "NOTSET" else [0] * 2 * rank
    for size, k, s, d, begin, end in zip(
        spatial_sizes(n.x, rank), kernel, strides, dilations, pads[:rank], pads[rank:], strict=True
    ):
        extent = d * (k - 1) + 1
        if not n.integer("ceil_mode", 0) or end + s - 1 < extent:
            continue
        if size is None or -(-(size + begin + end - extent) // s) * s - begin >= size:
            return "ceil_mode with a last window that lies in the padding: runtimes disagree on whether there is one"
    return None


def _pool_refusal(n: Site) -> str | None:
    return rank_known(n) or _disagreements(n)


def _attributes(n: Site, *names: str) -> dict[str, Any]:
    return {name: n.node.attributes[name] for name in names if name in n.node.attributes}


_LARGEST_WEIGHT = 2**22
"""Numbers of a weight that only spreads values."""

GEOMETRY = ("auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides")


# ---- means and sums ---------------------------------------------------------------------------------------------------


def spread(g: Emitter, windows: Windows, t: Expr, x: Expr) -> Expr:
    """Each window's value over the elements of the window, divided by the kernel's size; where windows overlap, the sum.

    Args:
        g: Emits it.
        windows: Over x.
        t: [N, C, windows].
        x: [N, C, sizes]: what the result looks like.
    """
    kernel = windows.kernel
    assert kernel is not None
    rank, share = len(kernel), 1 / math.prod(kernel)
    if _is_whole(windows, t, x):
        return g.expand_like(t * share, x)
    if (pads := windows.flipped_pads()) is not None and set(windows.dilations) == {1}:
        # The mean over windows at stride 1 is its own adjoint, but for the padding.
        out = g.op("AveragePool", t, kernel_shape=kernel, pads=pads, count_include_pad=1)
        out.value.shape = x.value.shape
        return out
    if _tiles(windows, t, x):
        scales = g.const(np.array([1, 1, *kernel], np.float32))
        out = g.op(
            "Resize",
            t * share,
            None,
            scales,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        out.value.shape = x.value.shape
        return out
    channels = x.shape[1] if x.shape is not None else None
    if isinstance(channels, int) and channels * math.prod(kernel) <= _LARGEST_WEIGHT:
        weight = g.const(np.full((channels, 1, *kernel), share), x.dtype)
        return scatter(g, windows, t, weight, x, channels)
    # Channels that are known only in the run, or whose weights would be large, become samples.
    weight = g.const(np.full((1, 1, *kernel), share), x.dtype)
    space = range(2, 2 + rank)
    alone = [g.reshape(value, -1, 1, g.sizes(value, space)) for value in (t, x)]
    return g.reshape_like(scatter(g, windows, alone[0], weight, alone[1], 1), x)


def _is_whole(windows: Windows, t: Expr, x: Expr) -> bool:
    """Whether one window sees all of the image. Its kernel may be far larger: as a weight it could fill the memory."""
    rank = len(windows.axes)
    return all(
        count == 1 and size is not None and axis.begin is not None and axis.counts(size, 1)[0] == size
        for axis, size, count in zip(windows.axes, spatial_sizes(x, rank), spatial_sizes(t, rank), strict=True)
    )


def _tiles(windows: Windows, t: Expr, x: Expr) -> bool:
    """Whether the windows lie side by side and cover the image."""
    rank = len(windows.axes)
    return all(
        axis.dilation == 1 and axis.stride == axis.kernel and axis.begin == 0 and axis.overhang(size, count) == 0
        for axis, size, count in zip(windows.axes, spatial_sizes(x, rank), spatial_sizes(t, rank), strict=True)
    )


def _per_element(g: Emitter, n: Site, windows: Windows) -> Expr | float:
    """Kernel size / what each window's sum is divided by, [1, 1, windows]; a number where it is always the same."""
    rank = len(windows.axes)
    size: int = math.prod(n.integers("kernel_shape"))
    sizes, counts = spatial_sizes(n.x, rank), spatial_sizes(n.y, rank)
    over = [axis.overhang(*known) for axis, *known in zip(windows.axes, sizes, counts, strict=True)]
    with_padding = bool(n.integer("count_include_pad", 0))
    within = all(o is not None and o <= (axis.end or 0) for axis, o in zip(windows.axes, over, strict=True))
    if with_padding and (within or not n.integer("ceil_mode", 0)):
        return 1
    ones = g.op("Expand", g.const(1, n.x.dtype), g.concat(1, 1, g.sizes(n.x, range(2, 2 + rank))))
    elements: Expr
    if None in over:
        elements = g.op("LpPool", ones, p=1, **_attributes(n, *GEOMETRY))
    else:
        along = [axis.counts(int(s or 0), int(c or 0)) for axis, s, c in zip(windows.axes, sizes, counts, strict=True)]
        known = reduce(np.multiply.outer, along)
        if not with_padding and (known == size).all():
            return 1
        known = np.maximum(known, 1)[np.newaxis, np.newaxis]
        if not with_padding:
            return g.const(size / known, n.x.dtype)
        elements = g.const(known, n.x.dtype)
    # The last window reaches over the padding: what it is divided by differs between runtimes, so the runtime is asked.
    means: Expr | float = 1
    if with_padding:
        means = g.op("AveragePool", ones, **_attributes(n, *GEOMETRY, "count_include_pad"))
    shares: Expr = g.const(size, n.x.dtype) / elements
    return shares * means


@vjp("AveragePool", since=(11, 19, 22), refuse=_pool_refusal)
def average_pool(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = sum over the windows that cover X of dY / D, D = the window's elements; `count_include_pad`: and its padding.

    With `count_include_pad` and `ceil_mode`, a last window that reaches over the padding is divided by the kernel's size in
    onnxruntime 1.19, and by what lies within the padding in onnxruntime 1.32, in torch, and in the standard. The gradient
    follows the runtime that computes it.
    """
    windows = _windows(g, n)
    share = _per_element(g, n, windows)
    t = n.dy if share == 1 else n.dy * share
    if t is not n.dy:
        t.value.shape = n.y.value.shape
    return (spread(g, windows, t, n.x),)


@vjp("LpPool", since=(18, 22), refuse=_pool_refusal)
def lp_pool(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = (sum |X|^p)^(1/p):  dX = sum over the windows that cover X of dY (|X| / Y)^(p - 1) sign X; 0 where Y = 0."""
    windows, p = _windows(g, n), n.integer("p", 2)
    size = math.prod(n.integers("kernel_shape"))
    return (_powers(g, n.x, p, spread(g, windows, _over_norm(g, n.dy * size, n.y, p), n.x)),)


def _over_norm(g: Emitter, dy: Expr, y: Expr, p: int) -> Expr:
    """dY / Y^(p - 1)."""
    if p == 1:
        return dy
    divisor = g.where(y.equals(0), 1, y)
    return dy / (divisor if p == 2 else divisor ** (p - 1))


def _powers(g: Emitter, x: Expr, p: int, t: Expr) -> Expr:
    """T |X|^(p - 1) sign X."""
    if p % 2 == 0:
        return t * x ** (p - 1)
    signed = t * g.op("Sign", x)
    return signed if p == 1 else signed * g.op("Abs", x) ** (p - 1)


# ---- maxima -----------------------------------------------------------------------------------------------------------


def _max_refusal(n: Site) -> str | None:
    mode = n.string("auto_pad", "NOTSET")
    return rank_known(n) or (None if mode.startswith("SAME") else _disagreements(n))


@vjp("MaxPool", since=(12, 22), refuse=_max_refusal)
def max_pool(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = sum of dY over the windows that X is the maximum of; of equal maxima the first, in row-major order, takes all."""
    given = n.outputs[1] if len(n.outputs) > 1 and n.node.outputs[1].name and not n.integer("storage_order", 0) else None
    return (to_maxima(g, _windows(g, n), n.dy, n.x, _attributes(n, *GEOMETRY), given),)


def to_maxima(
    g: Emitter, windows: Windows, dy: Expr, x: Expr, attributes: dict[str, Any], indices: Expr | None = None
) -> Expr:
    """Each window's cotangent to where its maximum is.

    The forward MaxPool is left as it is: one that gives indices is twenty times slower, so it is a second one.
    """
    if indices is None:
        _, indices = g.op("MaxPool", x, outputs=2, **attributes)
    ceil = "ceil_mode" in attributes and bool(attributes["ceil_mode"].as_int())
    if (pads := _apart(windows, dy, x, ceil=ceil)) is not None and x.dtype == ir.DataType.FLOAT:
        out = g.op("MaxUnpool", dy, indices, g.shape(x), kernel_shape=windows.kernel, strides=windows.strides, pads=pads)
        out.value.shape = x.value.shape
        return out
    size = g.ints(math.prod(x.sizes)) if x.sizes is not None else g.op("Reshape", g.op("Size", x), g.ints(1))
    zeros = g.op("ConstantOfShape", size, value=ir.tensor(np.zeros(1, x.dtype.numpy())))
    flat = g.op("ScatterElements", zeros, g.reshape(indices, -1), g.reshape(dy, -1), axis=0, reduction="add")
    return g.reshape_like(flat, x)


def _apart(windows: Windows, dy: Expr, x: Expr, *, ceil: bool) -> list[int] | None:
    """Paddings with which MaxUnpool takes a result of x's sizes, if no two windows overlap."""
    rank, begins, ends = len(windows.axes), [], []
    for axis, size, count in zip(windows.axes, spatial_sizes(x, rank), spatial_sizes(dy, rank), strict=True):
        over = axis.overhang(size, count)
        end = over if over is not None or ceil else axis.end
        if axis.extent is None or axis.extent > axis.stride or axis.begin is None or end is None:
            return None
        begins.append(axis.begin)
        ends.append(max(end, 0))
    # onnxruntime refuses more padding than that, which a dilated window may have.
    fits = all(pad < (axis.kernel or 0) for pads in (begins, ends) for pad, axis in zip(pads, windows.axes, strict=True))
    return begins + ends if fits else None


@vjp("MaxUnpool", since=(11, 22), refuse=rank_known)
def max_unpool(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y[I] = X:  dX = dY[I]. Where two indices are the same, both get the cotangent (of one maximum seen by two windows)."""
    flat = g.reshape(ranked(n, n.dy), -1)
    return (g.reshape_like(g.op("GatherElements", flat, g.reshape(n.input(1), -1), axis=0), n.x),)


# ---- over everything --------------------------------------------------------------------------------------------------


@vjp("GlobalAveragePool", since=(1, 22), refuse=rank_known)
def global_average_pool(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY / number of elements."""
    return (global_average(g, n.dy, n.x),)


def global_average(g: Emitter, dy: Expr, x: Expr) -> Expr:
    """dY / number of elements, at every element."""
    sizes = spatial_sizes(x, x.rank)
    known = [size for size in sizes if size is not None]
    if len(known) == len(sizes):
        return g.expand_like(dy * (1 / math.prod(known)), x)
    count = g.op("ReduceProd", g.sizes(x, range(2, x.rank)), keepdims=0)
    return g.expand_like(dy / g.cast(count, x.dtype), x)


@vjp("GlobalLpPool", since=(2, 22))
def global_lp_pool(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = (sum |X|^p)^(1/p):  dX = dY (|X| / Y)^(p - 1) sign X; 0 where Y = 0."""
    p = n.integer("p", 2)
    return (_powers(g, n.x, p, _over_norm(g, n.dy, n.y, p)),)


@vjp("GlobalMaxPool", since=(1, 22), refuse=rank_known)
def global_max_pool(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = dY at the maximum; equal maxima share it equally, as in ReduceMax."""
    chosen = g.cast(n.x.equals(n.y), n.x.dtype)
    return (chosen * (n.dy / g.sum(chosen, range(2, n.x.rank))),)


# ---- other --------------------------------------------------------------------------------------------------------------


def _blocks_known(n: Site) -> str | None:
    return None if n.constant(2) is not None else "block_shape that is not constant"


@vjp("Col2Im", since=(18,), refuse=_blocks_known)
def col2im(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """dX = the blocks of dY, [N, C * block, positions]: a convolution whose kernels have one 1 each."""
    (block, rank) = ([int(k) for k in np.asarray(n.constant(2))], n.constant(2).size)  # type: ignore[union-attr]
    size = math.prod(block)
    ones = g.const(np.eye(size).reshape(size, 1, *block), n.x.dtype)
    alone = g.reshape(n.dy, -1, 1, g.op("Slice", g.op("Shape", n.dy), g.ints(2), g.ints(2 + rank), g.ints(0)))
    columns = g.op(
        "Conv",
        alone,
        ones,
        kernel_shape=block,
        strides=n.integers("strides", [1] * rank),
        dilations=n.integers("dilations", [1] * rank),
        pads=n.integers("pads", [0] * 2 * rank),
    )
    return (g.reshape_like(columns, n.x),)


unsupported("its bins are rounded to whole elements, and no rule has been written for that", {"MaxRoiPool": (1, 22)})
unsupported("no rule has been written for sampling at regions", {"RoiAlign": (16, 22)})
