"""Convolutions. A cotangent goes through the adjoint convolution; the geometry stands in `windows`."""

from collections.abc import Sequence

from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.autodiff.rules import Cotangent, expansion, rank_known, unsupported, vjp
from gradserve_server.graph.autodiff.site import Pull, Site
from gradserve_server.graph.autodiff.windows import (
    Axis,
    Windows,
    correlate,
    extents,
    gather,
    halves,
    ranked,
    scatter,
    skips,
    spatial_sizes,
    windows_of,
)


def _kernel(n: Site) -> list[int | None]:
    """Sizes of the kernel: from the weight's shape, else from the attribute."""
    rank = n.x.rank - 2
    sizes = spatial_sizes(n.input(1), rank)
    return [*n.integers("kernel_shape")] or sizes


def _conv_skips(n: Site) -> str | None:
    return rank_known(n) or skips(n, n.x, _kernel(n))


@vjp("Conv", since=(11, 22), refuse=_conv_skips)
def conv(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = X * W + B:  dX = the adjoint convolution of dY with W, dW = sum over windows of dY X, dB = sum of dY."""
    group, dy = n.integer("group", 1), ranked(n, n.dy)
    windows = windows_of(g, n, n.x, _kernel(n), n.input(1))
    return (
        lambda: scatter(g, windows, dy, n.input(1), n.x, group, constant=n.constant(1)),
        lambda: correlate(g, windows, n.x, dy, n.input(1), group),
        lambda: _channel_sums(g, dy),
    )


@vjp("ConvTranspose", since=(11, 22), refuse=rank_known)
def conv_transpose(g: Emitter, n: Pull) -> Sequence[Cotangent]:
    """Y = the adjoint of Conv, + B:  dX = Conv(dY, W), dW = sum over windows of X dY, dB = sum of dY. Y is the image."""
    group, dy = n.integer("group", 1), ranked(n, n.dy)
    windows = _transposed_windows(g, n)
    return (
        lambda: gather(g, windows, dy, n.input(1), n.x, group),
        lambda: correlate(g, windows, dy, n.x, n.input(1), group),
        lambda: _channel_sums(g, dy),
    )


def _transposed_windows(g: Emitter, n: Pull) -> Windows:
    """The windows over Y = (X - 1) * stride + output_padding + extent - begin - end.

    `auto_pad=SAME_*` asks for stride elements for each of X, `output_shape` for what it says: the paddings follow, none
    below 0.
    """
    rank = n.x.rank - 2
    strides, dilations = n.integers("strides", [1] * rank), n.integers("dilations", [1] * rank)
    kernel, mode = _kernel(n), n.string("auto_pad", "NOTSET")
    extra, asked = n.integers("output_padding", [0] * rank), n.integers("output_shape")[-rank:]
    axes = []
    for i, (stride, dilation, k, size) in enumerate(zip(strides, dilations, kernel, spatial_sizes(n.x, rank), strict=True)):
        axis = Axis(stride, dilation, k, None, None)
        total: int | None = None
        if not asked and not mode.startswith("SAME"):
            given = n.integers("pads", [0] * 2 * rank) if mode in ("NOTSET", "") else [0] * 2 * rank
            axes.append(Axis(stride, dilation, k, given[i], given[rank + i]))
            continue
        if axis.extent is not None and not asked:
            total = max(0, axis.extent + extra[i] - stride)
        elif axis.extent is not None and size is not None:
            total = max(0, (size - 1) * stride + extra[i] + axis.extent - asked[i])
        if total is not None:
            begin = total // 2 if mode == "SAME_UPPER" else (total + 1) // 2
            axis = Axis(stride, dilation, k, begin, total - begin)
        axes.append(axis)

    def late_begin() -> Expr:
        full = extents(g, axes, n.input(1)) + g.ints(*extra)
        if asked:
            full = full + (g.sizes(n.x, range(2, 2 + rank)) - 1) * g.ints(*strides)
        total = g.op("Max", full - g.ints(*(asked or strides)), g.ints(0))
        return halves(g, total, upper=mode == "SAME_UPPER")

    return Windows(tuple(axes), late_begin)


def _channel_sums(g: Emitter, dy: Expr) -> Expr:
    return g.sum(dy, [0, *range(2, dy.rank)], keepdims=False)


def _channels(n: Site) -> int | None:
    sizes = [x.shape[axis] for x, axis in ((n.x, 1), (n.input(1), 0)) if x.shape is not None]
    return next((size for size in sizes if isinstance(size, int)), None)


def _channels_known(n: Site) -> str | None:
    return None if _channels(n) is not None else "number of channels not known before the run"


@expansion("CausalConvWithState", since=(27,), refuse=_channels_known)
def causal_conv_with_state(g: Emitter, n: Site) -> Sequence[Expr | None]:
    """Y = activation(conv(Z, W) + B), channel by channel; Z = the past state (or zeros), then X; the new state ends Z."""
    x, weight = n.x, n.input(1)
    before = g.size(weight, 2) - 1
    state = n.optional(3)
    if state is None:
        state = g.op("Expand", g.const(0, x.dtype), g.concat(g.sizes(x, [0, 1]), before))
    z = g.op("Concat", state, x, axis=2)
    y = g.op("Conv", z, weight, n.optional(2), group=_channels(n))
    activated = y if n.string("activation", "none") == "none" else y * g.op("Sigmoid", y)
    length = g.size(z, 2)
    return activated, g.op("Slice", z, length - before, length, g.ints(2))


unsupported(
    "where it reads depends on its offsets, and no rule has been written for that",
    {"DeformConv": (19, 22)},
)
