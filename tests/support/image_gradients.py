"""Gradients of images of few channels: shapes, their float64 definition, and our operator.

`python -m support.image_gradients FILE` writes what the operator makes of every case, for a process of its own with other
instructions (GRADSERVE_MAX_SIMD).
"""

import sys
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from support.onnx_models import random

from gradserve_server.graph.tuning.blocked.filters import Kind, filled, reorder
from gradserve_server.graph.tuning.fused import DOMAIN
from gradserve_server.runtime.session import Session

BLOCKS = (8, 16)


@dataclass(frozen=True)
class Case:
    """A convolution with filters [outputs, channels, kernel] that made `windows` numbers of an image along each axis."""

    kernel: tuple[int, int]
    windows: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    more: tuple[int, int] = (0, 0)
    dilations: tuple[int, int] = (1, 1)
    channels: int = 3
    outputs: int = 32
    samples: int = 1

    @property
    def cotangent(self):
        return random(self.samples, self.outputs, *self.windows, seed=3)

    @property
    def weight(self):
        return random(self.outputs, self.channels, *self.kernel, seed=4)


CASES = {
    "ResNet": Case((7, 7), (20, 26), (2, 2), (3, 3, 3, 3), (1, 1), outputs=64),
    "VGG": Case((3, 3), (19, 23), pads=(1, 1, 1, 1), outputs=64, samples=3),
    "MobileNet": Case((3, 3), (20, 26), (2, 2), (1, 1, 1, 1), (1, 1)),
    "Inception": Case((3, 3), (17, 25), (2, 2), outputs=96, samples=3),
    "AlexNet": Case((11, 11), (9, 11), (4, 4), (2, 2, 2, 2), (1, 1), outputs=64),
    "patches": Case((4, 4), (7, 9), (4, 4), outputs=96),
    "1x1": Case((1, 1), (5, 19)),
    "1x1, gaps": Case((1, 1), (6, 9), (2, 3), more=(1, 2)),
    "gaps in rows only": Case((2, 5), (6, 9), (3, 2), more=(2, 1)),
    "other strides": Case((5, 4), (8, 12), (1, 3), (1, 0, 2, 1), (0, 2)),
    "pads on one side": Case((5, 5), (9, 17), pads=(4, 0, 0, 3)),
    "more padding than a window": Case((3, 3), (9, 17), (2, 2), (3, 4, 5, 3)),
    "far behind the last window": Case((3, 3), (5, 6), (2, 2), more=(5, 9)),
    "dilated": Case((3, 3), (12, 21), pads=(2, 3, 2, 3), dilations=(2, 3)),
    "dilated by the stride": Case((3, 4), (8, 13), (2, 3), (1, 1, 1, 1), dilations=(2, 3)),
    "dilated, strided": Case((4, 3), (8, 13), (4, 3), (2, 1, 0, 1), (1, 0), dilations=(6, 2)),
    "one row": Case((1, 5), (1, 31), pads=(0, 2, 0, 2), channels=1),
    "one column": Case((5, 1), (31, 1), pads=(2, 0, 2, 0), channels=2),
    "one window": Case((7, 7), (1, 1), pads=(3, 3, 3, 3)),
    "a pixel": Case((1, 1), (1, 1), channels=4, outputs=96, samples=3),
    "less than a strip": Case((3, 3), (3, 2), pads=(1, 1, 1, 1)),
    "no samples": Case((3, 3), (4, 4), samples=0),
    "worth threads": Case((7, 7), (40, 40), (2, 2), (3, 3, 3, 3), (1, 1), outputs=64, samples=3),
} | {
    f"{channels} channels, {outputs} outputs": Case(
        (3, 3), (9, 17), (2, 2), (1, 1, 1, 1), channels=channels, outputs=outputs, samples=2
    )
    for channels in (1, 2, 3, 4, 5, 7)
    for outputs in (4, 16, 24, 32)
}


def defined(case: Case, cotangent=None) -> np.ndarray:
    """Each window's cotangent to the pixels that it saw, in float64."""
    dy = np.asarray(case.cotangent if cotangent is None else cotangent, np.float64)
    sizes = [
        (count - 1) * stride + (kernel - 1) * dilation + 1 + more
        for count, stride, kernel, dilation, more in zip(
            case.windows, case.strides, case.kernel, case.dilations, case.more, strict=True
        )
    ]
    image = np.zeros((dy.shape[0], case.channels, *sizes))
    for i, j in np.ndindex(case.kernel):
        rows, columns = (
            slice(tap * dilation, tap * dilation + (count - 1) * stride + 1, stride)
            for tap, dilation, count, stride in zip((i, j), case.dilations, case.windows, case.strides, strict=True)
        )
        image[:, :, rows, columns] += np.einsum("novu,oc->ncvu", dy, case.weight[:, :, i, j].astype(np.float64))
    top, left, bottom, right = case.pads
    return image[:, :, top : sizes[0] - bottom, left : sizes[1] - right]


def in_blocks(image: np.ndarray, block: int, fill: float = 0.0) -> np.ndarray:
    """[N, C / block, H, W, block], declared [N, C, H, W], filled up."""
    count, channels, height, width = image.shape
    full = np.full((count, filled(channels, block), height, width), fill, np.float32)
    full[:, :channels] = image
    split = full.reshape(count, full.shape[1] // block, block, height, width).transpose(0, 1, 3, 4, 2)
    return np.ascontiguousarray(split).reshape(full.shape)


def session_of(case: Case, block: int, threads: int = 2, **others) -> Session:
    """Our operator alone, on the blocked cotangent `dy`."""
    attributes = {
        "block": block,
        "strides": case.strides,
        "pads": case.pads,
        "dilations": case.dilations,
        "output_padding": case.more,
    } | others
    node = onnx.helper.make_node("ImageGradient", ["dy", "w"], ["dx"], domain=DOMAIN, **attributes)
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "image_gradient",
        [info("dy", onnx.TensorProto.FLOAT, None)],
        [info("dx", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(reorder(case.weight, Kind.DIRECT, block), "w")],
    )
    imports = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid(DOMAIN, 1)]
    return Session(ir.from_proto(onnx.helper.make_model(graph, ir_version=10, opset_imports=imports)), threads)


def computed(case: Case, block: int, *, fill: float = 0.0, **others) -> np.ndarray:
    """What our operator makes of a case."""
    return session_of(case, block, **others).run({"dy": in_blocks(case.cotangent, block, fill)})["dx"]


if __name__ == "__main__":
    np.savez(sys.argv[1], **{f"{name} {block}": computed(case, block) for name, case in CASES.items() for block in BLOCKS})
