"""Operators of onnx's reference evaluator by torch, in any precision: at full size its own take minutes."""

import numpy as np
import torch
from onnx.reference.op_run import OpRun
from torch.nn import functional as F


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.tensor(array)  # a copy: torch warns about arrays that it may not write


def _padded(x: np.ndarray, pads: list[int] | None, fill: float) -> torch.Tensor:
    rank = x.ndim - 2
    pads = pads or [0] * 2 * rank
    ends = [size for axis in reversed(range(rank)) for size in (pads[axis], pads[axis + rank])]
    return F.pad(_tensor(x), ends, value=fill)


class Conv(OpRun):
    """torch's, for images."""

    op_domain = ""

    def _run(self, x, w, b=None, *, auto_pad=None, dilations=None, group=None, kernel_shape=None, pads=None, strides=None):
        assert auto_pad in (None, "NOTSET"), kernel_shape
        bias = None if b is None else _tensor(b)
        y = F.conv2d(
            _padded(x, pads, 0), _tensor(w), bias, tuple(strides or (1, 1)), 0, tuple(dilations or (1, 1)), group or 1
        )
        return (y.numpy(),)


class ConvTranspose(OpRun):
    """torch's, for images; cut to size as ONNX defines it."""

    op_domain = ""

    def _run(
        self,
        x,
        w,
        b=None,
        *,
        auto_pad=None,
        dilations=None,
        group=None,
        kernel_shape=None,
        output_padding=None,
        output_shape=None,
        pads=None,
        strides=None,
    ):
        assert auto_pad in (None, "NOTSET"), kernel_shape
        assert output_shape is None
        bias = None if b is None else _tensor(b)
        steps, spread = tuple(strides or (1, 1)), tuple(dilations or (1, 1))
        y = F.conv_transpose2d(_tensor(x), _tensor(w), bias, steps, 0, 0, group or 1, spread)
        extra = output_padding or [0, 0]
        y = F.pad(y, (0, extra[1], 0, extra[0]))
        begin, end = (pads or [0] * 4)[:2], (pads or [0] * 4)[2:]
        y = y[:, :, begin[0] : y.shape[2] - end[0], begin[1] : y.shape[3] - end[1]]
        return (y.numpy(),)


class MaxPool(OpRun):
    """torch's, for images; indices count through the whole unpadded tensor."""

    op_domain = ""

    def _run(
        self,
        x,
        *,
        auto_pad=None,
        ceil_mode=None,
        dilations=None,
        kernel_shape=None,
        pads=None,
        storage_order=None,
        strides=None,
    ):
        assert auto_pad in (None, "NOTSET")
        assert not ceil_mode
        assert not storage_order
        top, left = (pads or [0] * 4)[:2]
        padded = _padded(x, pads, -np.inf)
        y, winner = F.max_pool2d(
            padded, tuple(kernel_shape), tuple(strides or (1, 1)), 0, tuple(dilations or (1, 1)), return_indices=True
        )
        row, column = winner // padded.shape[3] - top, winner % padded.shape[3] - left
        plane = torch.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], 1, 1)
        indices = (plane * x.shape[2] + row) * x.shape[3] + column
        return (y.numpy(), indices.numpy())[: len(self.onnx_node.output)]


TORCH_OPS = [Conv, ConvTranspose, MaxPool]
