"""Operators over windows for onnx's reference evaluator, in float64 and in any number of axes, where its own are wrong."""

from itertools import product

import numpy as np
from onnx.reference.op_run import OpRun


def _per_axis(rank, strides, dilations, pads, auto_pad):
    strides, dilations, pads = strides or [1] * rank, dilations or [1] * rank, pads or [0] * 2 * rank
    return strides, dilations, pads if auto_pad in (None, "NOTSET") else [0] * 2 * rank


class ConvTranspose(OpRun):
    """onnx's own fails with more than one sample in groups, and with output_shape."""

    op_domain = ""

    def _run(
        self,
        x,
        w,
        b=None,
        auto_pad=None,
        dilations=None,
        group=None,
        kernel_shape=None,  # noqa: ARG002
        output_padding=None,
        output_shape=None,
        pads=None,
        strides=None,
    ):
        rank, group = x.ndim - 2, group or 1
        strides, dilations, pads = _per_axis(rank, strides, dilations, pads, auto_pad)
        sizes, kernel, extra = x.shape[2:], w.shape[2:], list(output_padding or [0] * rank)
        full = [
            (n - 1) * s + d * (k - 1) + 1 + e for n, s, d, k, e in zip(sizes, strides, dilations, kernel, extra, strict=True)
        ]
        wanted = output_shape[-rank:] if output_shape else None
        if auto_pad in ("SAME_UPPER", "SAME_LOWER") and wanted is None:
            wanted = [f - max(0, f - n * s) for f, n, s in zip(full, sizes, strides, strict=True)]
        if wanted is not None:
            totals = [max(0, f - size) for f, size in zip(full, wanted, strict=True)]
            begins = [total // 2 if auto_pad == "SAME_UPPER" else total - total // 2 for total in totals]
        else:
            begins = pads[:rank]
            wanted = [f - begin - end for f, begin, end in zip(full, begins, pads[rank:], strict=True)]
        room = [max(f, begin + size) for f, begin, size in zip(full, begins, wanted, strict=True)]
        y = np.zeros((x.shape[0], group, w.shape[1], *room), x.dtype)
        images = x.reshape(x.shape[0], group, -1, *sizes)
        weights = w.reshape(group, -1, *w.shape[1:])
        for tap in product(*map(range, kernel)):
            where = tuple(
                slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, n, s in zip(tap, dilations, sizes, strides, strict=True)
            )
            y[(..., *where)] += np.einsum("ngi...,gio->ngo...", images, weights[(..., *tap)])
        y = y.reshape(x.shape[0], -1, *room)
        y = y[(..., *(slice(begin, begin + size) for begin, size in zip(begins, wanted, strict=True)))]
        return (y if b is None else y + b.reshape(-1, *[1] * rank),)


class _Pool(OpRun):
    """onnx's own place windows wrongly under SAME_LOWER, and their indices at stride 1."""

    op_domain = ""

    def windows(self, x, kernel, fill, auto_pad=None, ceil_mode=None, dilations=None, pads=None, strides=None):
        """Elements [N, C, *windows, *kernel], `fill` outside the image; where they come from; which lie in the padding."""
        rank = x.ndim - 2
        strides, dilations, pads = _per_axis(rank, strides, dilations, pads, auto_pad)
        places = []
        for n, k, s, d, begin, end in zip(x.shape[2:], kernel, strides, dilations, pads[:rank], pads[rank:], strict=True):
            extent = d * (k - 1) + 1
            total = begin + end
            if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
                total = max(0, (-(-n // s) - 1) * s + extent - n)
                begin = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2  # noqa: PLW2901
            count = (n + total - extent) // s + 1
            if ceil_mode:
                count = -(-(n + total - extent) // s) + 1
                count -= (count - 1) * s >= n + begin
            at = np.arange(count)[:, None] * s - begin + np.arange(k) * d
            places.append((at, (at >= 0) & (at < n), at < n + total - begin))
        y, flat, whole, padded = x, np.zeros((), np.int64), np.ones((), bool), np.ones((), bool)
        for axis, (at, inside, within) in enumerate(places):
            shape = [1] * (2 * rank)
            shape[axis], shape[rank + axis] = at.shape
            known = np.where(inside, at, 0)
            flat = flat * x.shape[2 + axis] + known.reshape(shape)
            whole, padded = whole & inside.reshape(shape), padded & within.reshape(shape)
            # Axis by axis: [.., n, ..] -> [.., windows, .., kernel].
            y = np.moveaxis(np.take(y, known, axis=2 + axis), 3 + axis, -1)
        axes = tuple(range(-rank, 0))
        return np.where(whole, y, fill), np.broadcast_to(flat, y.shape), whole.sum(axes), padded.sum(axes), axes


class AveragePool(_Pool):
    def _run(self, x, count_include_pad=None, kernel_shape=None, **geometry):
        y, _, inside, within, axes = self.windows(x, kernel_shape, 0, **geometry)
        return ((y.sum(axes) / (within if count_include_pad else inside)).astype(x.dtype),)


class LpPool(_Pool):
    def _run(self, x, kernel_shape=None, p=None, **geometry):
        y, *_, axes = self.windows(x, kernel_shape, 0, **geometry)
        return (((np.abs(y) ** p).sum(axes) ** (1 / p)).astype(x.dtype),)


class MaxPool(_Pool):
    def _run(self, x, kernel_shape=None, storage_order=None, **geometry):
        assert not storage_order or len(self.onnx_node.output) == 1
        y, flat, *_, axes = self.windows(x, kernel_shape, -np.inf, **geometry)
        rows = y.reshape(*y.shape[: -len(axes)], -1)
        first = rows.argmax(-1)[..., None]
        maxima = np.take_along_axis(rows, first, -1)[..., 0]
        if len(self.onnx_node.output) == 1:
            return (maxima.astype(x.dtype),)
        planes = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *[1] * len(axes)) * np.prod(
            x.shape[2:], dtype=np.int64
        )
        return maxima.astype(x.dtype), planes + np.take_along_axis(flat.reshape(rows.shape), first, -1)[..., 0]


class MaxUnpool(OpRun):
    """onnx's own takes the indices for those of another shape where there is an output_shape; onnxruntime does not."""

    op_domain = ""

    def _run(self, x, indices, output_shape=None, kernel_shape=None, pads=None, strides=None):
        rank = len(kernel_shape)
        strides, _, pads = _per_axis(rank, strides, None, pads, None)
        sizes = [
            (n - 1) * s + k - begin - end
            for n, k, s, begin, end in zip(x.shape[2:], kernel_shape, strides, pads[:rank], pads[rank:], strict=True)
        ]
        y = np.zeros(output_shape if output_shape is not None else (*x.shape[:2], *sizes), x.dtype)
        y.reshape(-1)[indices.reshape(-1)] = x.reshape(-1)
        return (y,)


WINDOW_OPS = [ConvTranspose, AveragePool, LpPool, MaxPool, MaxUnpool]
