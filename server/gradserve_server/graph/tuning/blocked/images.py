"""The gradient of an image of few channels that a convolution read, as one operator of ours.

onnxruntime's ConvTranspose knows the plain layout only, and writes all products before it sums them, 7.4 MB for
ResNet. `ImageGradient` reads the blocked cotangent, and the weights where the forward convolution reads them.
"""

import numpy as np
import onnx_ir as ir

from gradserve_server.graph.tuning.blocked.filters import Kind, reordered
from gradserve_server.graph.tuning.blocked.layout import Layout
from gradserve_server.graph.tuning.blocked.table import handles, is_image, text
from gradserve_server.graph.values import constant

IMAGE_GRADIENT = "ImageGradient"
"""Ours (csrc/ort/image_gradient.cc)."""

MOST_CHANNELS = 4
"""Of an image: with more, a blocked convolution wastes less of its blocks."""

LARGEST_PATCH = 4
"""Of windows side by side: larger ones use each weight too seldom, and ConvTranspose needs no more room than the image."""


@handles("ConvTranspose")
def _image_gradient(layout: Layout, node: ir.Node) -> bool:
    x, filters, *bias = node.inputs
    weight, out = constant(filters), node.outputs[0]
    if x is None or filters is None or filters.const_value is None or weight is None or any(bias) or not layout.fuses:
        return False
    if weight.ndim != 4 or weight.dtype != np.float32 or weight.shape[1] > MOST_CHANNELS:
        return False
    if not is_image(out, weight.shape[1]) or not layout.is_blocked(x):  # with groups it has more channels than a filter
        return False
    attributes = node.attributes
    strides = attributes.get_ints("strides", [1, 1])
    if max(weight.shape[2:]) > LARGEST_PATCH and all(k <= s for k, s in zip(weight.shape[2:], strides, strict=True)):
        return False
    if text(node, "auto_pad", "NOTSET") != "NOTSET" or "output_shape" in attributes:
        return False
    layout.our_plain_operator(
        IMAGE_GRADIENT,
        [layout.twin(x), layout.constant(f"{out.name}/weight", reordered(filters.const_value, Kind.DIRECT, layout.block))],
        out,
        block=layout.block,
        strides=strides,
        dilations=attributes.get_ints("dilations", [1, 1]),
        pads=attributes.get_ints("pads", [0, 0, 0, 0]),
        output_padding=attributes.get_ints("output_padding", [0, 0]),
    )
    return True
