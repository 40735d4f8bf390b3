"""Windows over an image: the geometry and the adjoints that convolutions and poolings share.

    along each axis:   window p sees   image[p * stride - begin + j * dilation],   j = 0 .. kernel - 1

| emits | what | by |
|---|---|---|
| `gather` | each window's products with a kernel | Conv |
| `scatter` | the adjoint of that in the image | Conv with the flipped kernel at stride 1, else ConvTranspose |
| `correlate` | the adjoint of that in the kernel | Conv, batch and channels swapped, strides and dilations swapped |

Sizes and paddings that are known only in the run cost a Slice (and, for automatic padding, a Pad).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gradserve_server.graph.autodiff.emitter import Array, Emitter, Expr
from gradserve_server.graph.autodiff.site import Site


@dataclass(frozen=True)
class Axis:
    """The windows along one axis. None is what is known only in the run."""

    stride: int
    dilation: int
    kernel: int | None
    begin: int | None
    """Padding before the image."""
    end: int | None
    """Padding after it, as the node says; windows may reach further (ceil_mode), or not so far (a remainder)."""

    @property
    def extent(self) -> int | None:
        """Elements from a window's first to its last."""
        return None if self.kernel is None else self.dilation * (self.kernel - 1) + 1

    def overhang(self, image: int | None, windows: int | None) -> int | None:
        """How far the last window reaches over the end of the image; below 0 what it leaves over."""
        if image is None or windows is None or self.begin is None or self.extent is None:
            return None
        return (windows - 1) * self.stride + self.extent - self.begin - image

    def counts(self, image: int, windows: int) -> npt.NDArray[np.int64]:
        """Elements of the image in each window, [windows]."""
        assert self.kernel is not None
        assert self.begin is not None
        first = np.arange(windows) * self.stride - self.begin
        seen = first[:, np.newaxis] + np.arange(self.kernel) * self.dilation
        counts: npt.NDArray[np.int64] = ((seen >= 0) & (seen < image)).sum(1)
        return counts


@dataclass(frozen=True)
class Windows:
    """The windows along all axes after batch and channels."""

    axes: tuple[Axis, ...]
    late_begin: Callable[[], Expr] | None = None
    """Emits the paddings before the image, int64 [axes], where some are known only in the run."""

    @property
    def strides(self) -> list[int]:
        """One for each axis."""
        return [axis.stride for axis in self.axes]

    @property
    def dilations(self) -> list[int]:
        """One for each axis."""
        return [axis.dilation for axis in self.axes]

    @property
    def kernel(self) -> list[int] | None:
        """The attribute `kernel_shape`; None where it is not known."""
        sizes = [axis.kernel for axis in self.axes if axis.kernel is not None]
        return sizes if len(sizes) == len(self.axes) else None

    @property
    def spatial(self) -> range:
        """The axes of the image."""
        return range(2, 2 + len(self.axes))

    def flipped_pads(self) -> list[int] | None:
        """Paddings under which the adjoint at stride 1 is a convolution; None where it is not one."""
        pads: list[tuple[int, int]] = []
        for axis in self.axes:
            if axis.stride != 1 or axis.extent is None or axis.begin is None or axis.end is None:
                return None
            pads.append((axis.extent - 1 - axis.begin, axis.extent - 1 - axis.end))
        flat = [begin for begin, _ in pads] + [end for _, end in pads]
        return flat if min(flat) >= 0 else None


def spatial_sizes(x: Expr, rank: int) -> list[int | None]:
    """Sizes after batch and channels; None for those that are known only in the run."""
    shape = x.shape
    return [size if isinstance(size, int) else None for size in shape[2:]] if shape is not None else [None] * rank


def ranked(n: Site, dy: Expr) -> Expr:
    """A cotangent of Y, both told that they have as many axes as X: inference knows it only where it knows the kernel."""
    for value in (n.y.value, dy.value):
        if value.shape is None:
            value.shape = ir.Shape([None] * n.x.rank)
    return dy


# ---- what a node's attributes say -------------------------------------------------------------------------------------


def windows_of(g: Emitter, n: Site, image: Expr, kernel: Sequence[int | None], weight: Expr | None = None) -> Windows:
    """The windows of a Conv or a pooling.

    Args:
        g: Emits what is known only in the run, when somebody asks.
        n: The node.
        image: What the windows lie over.
        kernel: Its sizes.
        weight: Has the sizes of the kernel, where they are not known.
    """
    rank = len(kernel)
    strides, dilations = n.integers("strides", [1] * rank), n.integers("dilations", [1] * rank)
    mode, sizes = n.string("auto_pad", "NOTSET"), spatial_sizes(image, rank)
    pads: list[tuple[int | None, int | None]]
    if mode.startswith("SAME"):
        pads = [_same(mode, *axis) for axis in zip(sizes, strides, dilations, kernel, strict=True)]
    else:
        given = n.integers("pads", [0] * 2 * rank) if mode in ("NOTSET", "") else [0] * 2 * rank
        pads = list(zip(given[:rank], given[rank:], strict=True))
    axes = tuple(Axis(s, d, k, *pad) for s, d, k, pad in zip(strides, dilations, kernel, pads, strict=True))

    def late_begin() -> Expr:
        size, stride = g.sizes(image, range(2, 2 + rank)), g.ints(*strides)
        rest = ((size + g.ints(*(s - 1 for s in strides))) / stride - 1) * stride + extents(g, axes, weight) - size
        return halves(g, g.op("Max", rest, g.ints(0)), upper=mode == "SAME_UPPER")

    return Windows(axes, late_begin)


def extents(g: Emitter, axes: Sequence[Axis], weight: Expr | None) -> Expr:
    """Elements from a window's first to its last, int64 [axes]."""
    known = [axis.extent for axis in axes if axis.extent is not None]
    if len(known) == len(axes):
        return g.ints(*known)
    assert weight is not None
    return (g.sizes(weight, range(2, 2 + len(axes))) - 1) * g.ints(*(axis.dilation for axis in axes)) + 1


def halves(g: Emitter, total: Expr, *, upper: bool) -> Expr:
    """The part of a padding before the image: an odd element goes after it (SAME_UPPER) or before."""
    return (total if upper else total + 1) / g.ints(2)


def _same(mode: str, size: int | None, stride: int, dilation: int, kernel: int | None) -> tuple[int | None, int | None]:
    """Paddings that make ceil(size / stride) windows."""
    if kernel is None or (size is None and stride != 1):
        return None, None
    extent = dilation * (kernel - 1) + 1
    total = extent - 1 if stride == 1 or size is None else max(0, (-(-size // stride) - 1) * stride + extent - size)
    begin = total // 2 if mode == "SAME_UPPER" else (total + 1) // 2
    return begin, total - begin


def skips(n: Site, image: Expr, kernel: Sequence[int | None]) -> str | None:
    """Why no gradient under automatic padding: runtimes disagree where elements before the first window would be cut off."""
    rank, mode = len(kernel), n.string("auto_pad", "NOTSET")
    if not mode.startswith("SAME"):
        return None
    for size, k, stride, dilation in zip(
        spatial_sizes(image, rank),
        kernel,
        n.integers("strides", [1] * rank),
        n.integers("dilations", [1] * rank),
        strict=True,
    ):
        extent = dilation * ((k or 1) - 1) + 1
        left = stride - extent if size is None else size - (-(-size // stride) - 1) * stride - extent
        if stride > 1 and left > 1:
            return f"auto_pad={mode} with a stride of {stride} over windows of {extent}: runtimes disagree on what it means"
    return None


# ---- the three products -----------------------------------------------------------------------------------------------


def gather(g: Emitter, windows: Windows, image: Expr, weight: Expr, result: Expr, group: int) -> Expr:
    """Conv, with as many windows as `result` has elements along each axis."""
    rank = len(windows.axes)
    sizes, counts = spatial_sizes(image, rank), spatial_sizes(result, rank)
    over = [axis.overhang(size, count) for axis, size, count in zip(windows.axes, sizes, counts, strict=True)]
    attributes: dict[str, Any] = {
        "strides": windows.strides,
        "dilations": windows.dilations,
        "kernel_shape": windows.kernel,
        "group": group,
    }
    image, pads = _padded(g, windows, image, over)
    out = g.op("Conv", image, weight, pads=pads, **attributes)
    # A last window more, where the image goes on for another stride.
    exact = all(o is not None and o > -axis.stride for axis, o in zip(windows.axes, over, strict=True))
    return _shaped(out if exact else _cropped(g, out, result, windows), result)


FEW_CHANNELS = 4


def scatter(
    g: Emitter, windows: Windows, cotangent: Expr, weight: Expr, image: Expr, group: int, *, constant: Array | None = None
) -> Expr:
    """The adjoint of `gather` in the image: ConvTranspose; at stride 1 the faster Conv with the flipped kernel.

    An image of few channels is faster by ConvTranspose in any case: Conv computes blocks of 16 (docs/performance.md).

    Args:
        g: Emits it.
        windows: Over the image.
        cotangent: [N, M, windows].
        weight: [M, C / group, kernel].
        image: [N, C, sizes]: what the result looks like.
        group: Of the convolution.
        constant: The values of the weight, if they are.
    """
    rank = len(windows.axes)
    common: dict[str, Any] = {"group": group, "dilations": windows.dilations, "kernel_shape": windows.kernel}
    flipped = windows.flipped_pads()
    sizes, counts = spatial_sizes(image, rank), spatial_sizes(cotangent, rank)
    over = [axis.overhang(size, count) for axis, size, count in zip(windows.axes, sizes, counts, strict=True)]
    begins = [axis.begin for axis in windows.axes]
    late = None in begins
    exact = None not in over and not late
    channels = image.shape[1] if image.shape is not None else None
    few = isinstance(channels, int) and channels <= FEW_CHANNELS and group == 1 and exact
    if flipped is not None and not few and (constant is not None or weight.shape is not None):
        turned = g.const(flip(constant, group)) if constant is not None else _flipped(g, weight, group)
        return _shaped(g.op("Conv", cotangent, turned, pads=flipped, **common), image)
    attributes: dict[str, Any] = {
        "pads": [0] * 2 * rank if late else [*begins, *(max(o or 0, 0) for o in over)],
        "strides": windows.strides,
        # Of an unknown remainder the most that it can be; what is too much is cut off.
        "output_padding": [
            max(-o, 0) if o is not None and not late else axis.stride - 1 for axis, o in zip(windows.axes, over, strict=True)
        ],
    }
    out = g.op("ConvTranspose", cotangent, weight, **attributes, **common)
    return _shaped(out if exact else _cropped(g, out, image, windows, _begin(windows) if late else None), image)


def correlate(g: Emitter, windows: Windows, image: Expr, signal: Expr, weight: Expr, group: int) -> Expr:
    """The adjoint of `gather` in the kernel.

    dW[m, c, j] = sum over n, p of  signal[n, m, p] * image[n, c, p * stride - begin + j * dilation]

    A convolution over the image whose kernel is the signal: batch and channels change places, strides and dilations too.

    Args:
        g: Emits it.
        windows: Over the image.
        image: [N, C, sizes].
        signal: [N, M, windows].
        weight: [M, C / group, kernel]: what the result looks like.
        group: Of the convolution.
    """
    rank = len(windows.axes)
    swapped = [1, 0, *windows.spatial]
    sizes, counts = spatial_sizes(image, rank), spatial_sizes(signal, rank)
    over = [axis.overhang(size, count) for axis, size, count in zip(windows.axes, sizes, counts, strict=True)]
    image, pads = _padded(g, windows, image, over)
    if group == 1:
        batch = g.transpose(image, swapped)
    else:
        # [N, G * c, ..] -> [c, G * N, ..]: each group sees its own channels.
        space = g.sizes(image, windows.spatial)
        split = g.reshape(image, g.size(image, 0), group, -1, space)
        moved = g.transpose(split, [2, 1, 0, *(axis + 1 for axis in windows.spatial)])
        batch = g.reshape(moved, g.size(split, 2), -1, space)
    out = g.op(
        "Conv",
        batch,
        g.transpose(signal, swapped),
        pads=pads,
        strides=windows.dilations,
        dilations=windows.strides,
        group=group,
    )
    exact = all(o is not None and o > -axis.dilation for axis, o in zip(windows.axes, over, strict=True))
    return _shaped(g.transpose(out if exact else _cropped(g, out, weight, windows), swapped), weight)


def flip(weight: Array, group: int) -> Array:
    """[M, C / group, kernel] -> [C, M / group, kernel]: turned around, its channel axes swapped inside each group."""
    blocks = weight.reshape(group, -1, *weight.shape[1:]).swapaxes(1, 2)
    turned = np.flip(blocks, axis=tuple(range(3, blocks.ndim)))
    return np.ascontiguousarray(turned).reshape(-1, weight.shape[0] // group, *weight.shape[2:])


def _flipped(g: Emitter, weight: Expr, group: int) -> Expr:
    """`flip`, in the run."""
    rank = weight.rank - 2
    axes = list(range(2, 2 + rank))
    least = int(np.iinfo(np.int64).min)
    turned = g.op("Slice", weight, g.ints(*[-1] * rank), g.ints(*[least] * rank), g.ints(*axes), g.ints(*[-1] * rank))
    if group == 1:
        return g.transpose(turned, [1, 0, *axes])
    kernel = g.sizes(weight, axes)
    blocks = g.reshape(turned, group, -1, g.size(weight, 1), kernel)
    swapped = g.transpose(blocks, [0, 2, 1, *(axis + 1 for axis in axes)])
    return g.reshape(swapped, -1, g.size(blocks, 1), kernel)


def _padded(g: Emitter, windows: Windows, image: Expr, over: Sequence[int | None]) -> tuple[Expr, list[int]]:
    """The image, and the paddings that a convolution over it still has to add."""
    rank = len(windows.axes)
    begins = [axis.begin for axis in windows.axes if axis.begin is not None]
    if len(begins) == rank:
        ends = [max(o, 0) if o is not None else axis.end or 0 for axis, o in zip(windows.axes, over, strict=True)]
        return image, [*begins, *ends]
    begin = _begin(windows)
    # After the image at most one element more than before it: the odd one.
    return g.op("Pad", image, g.concat(0, 0, begin, 0, 0, begin + 1)), [0] * 2 * rank


def _begin(windows: Windows) -> Expr:
    assert windows.late_begin is not None
    return windows.late_begin()


def _cropped(g: Emitter, x: Expr, like: Expr, windows: Windows, begin: Expr | None = None) -> Expr:
    """The first elements along each axis, as many as `like` has; or those from `begin` on."""
    sizes = g.sizes(like, windows.spatial)
    starts = g.ints(*[0] * len(windows.axes)) if begin is None else begin
    return g.op("Slice", x, starts, sizes if begin is None else begin + sizes, g.ints(*windows.spatial))


def _shaped(out: Expr, like: Expr) -> Expr:
    if like.value.shape is not None:
        out.value.shape = like.value.shape
    return out
