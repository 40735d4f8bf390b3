"""Convolutions, forwards and transposed."""

import numpy as np
import torch
import torch.nn.functional as F
from conformance.case import Case

CONVS = (F.conv1d, F.conv2d, F.conv3d)
TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
RANDOM = np.random.default_rng(5)


def _attributes(**values):
    items = [f'{name} = "{v}"' if isinstance(v, str) else f"{name} = {v}" for name, v in values.items()]
    return f"<{', '.join(items)}>" if items else ""


def _same(sizes, kernel, strides, mode):
    """torch.nn.functional.pad's paddings, last axis first."""
    pads = []
    for size, k, stride in reversed(list(zip(sizes, kernel, strides, strict=True))):
        total = max(0, (-(-size // stride) - 1) * stride + k - size)
        small, large = total // 2, total - total // 2
        pads += [small, large] if mode == "SAME_UPPER" else [large, small]
    return pads


def _conv(name, x, w, *, bias=False, constant=False, opsets=(18, 22), **attributes):
    """Y = Conv(X, W[, B]); `constant` makes weight and bias initializers."""
    rank = len(x) - 2
    strides, dilations = attributes.get("strides", [1] * rank), attributes.get("dilations", [1] * rank)
    pads, mode = attributes.get("pads", [0] * 2 * rank), attributes.get("auto_pad", "NOTSET")
    around = [pad for axis in reversed(range(rank)) for pad in (pads[axis], pads[rank + axis])]
    if mode.startswith("SAME"):
        around = _same(x[2:], w[2:], strides, mode)
    shapes = {"W": w} | ({"B": (w[0],)} if bias else {})
    drawn = {key: RANDOM.normal(size=shape) for key, shape in shapes.items()}

    def function(image, *weights):
        weights = weights or [torch.tensor(array) for array in drawn.values()]
        group = attributes.get("group", 1)
        return CONVS[rank - 1](F.pad(image, around), *weights, stride=strides, dilation=dilations, groups=group)

    return Case(
        "Conv",
        f"Y = Conv{_attributes(**attributes)}(X, {', '.join(shapes)})",
        {"X": x} if constant else {"X": x} | shapes,
        function,
        constants=drawn if constant else {},
        opsets=opsets,
        name=name,
    )


def _transposed(name, x, w, *, bias=False, constant=False, evaluator=True, crop=(), opsets=(18, 22), **attributes):
    """Y = ConvTranspose(X, W[, B]); `crop` is how much SAME_* or output_shape takes off: (begin, end) for each axis."""
    rank = len(x) - 2
    strides, dilations = attributes.get("strides", [1] * rank), attributes.get("dilations", [1] * rank)
    pads = attributes.get("pads", [0] * 2 * rank)
    crop = crop or list(zip(pads[:rank], pads[rank:], strict=True))
    extra = attributes.get("output_padding", [0] * rank)
    shapes = {"W": w} | ({"B": (w[1] * attributes.get("group", 1),)} if bias else {})
    drawn = {key: RANDOM.normal(size=shape) for key, shape in shapes.items()}

    def function(image, *weights):
        weights = weights or [torch.tensor(array) for array in drawn.values()]
        group = attributes.get("group", 1)
        kernel, bias = weights[0], weights[1] if len(weights) > 1 else None
        full = TRANSPOSED[rank - 1](image, kernel, stride=strides, dilation=dilations, groups=group)
        cut = [
            pad for (begin, end), more in zip(reversed(crop), reversed(extra), strict=True) for pad in (-begin, more - end)
        ]
        full = F.pad(full, cut)
        return full if bias is None else full + bias.reshape(-1, *[1] * rank)

    return Case(
        "ConvTranspose",
        f"Y = ConvTranspose{_attributes(**attributes)}(X, {', '.join(shapes)})",
        {"X": x} if constant else {"X": x} | shapes,
        function,
        constants=drawn if constant else {},
        opsets=opsets,
        evaluator=evaluator,
        name=name,
    )


IMAGE = (2, 2, 5, 6)


def _causal(x, w, b, state=None, *, silu=True):
    before = w.shape[2] - 1
    z = F.pad(x, (before, 0)) if state is None else torch.cat([state, x], 2)
    y = F.conv1d(z, w, b, groups=x.shape[1])
    return (F.silu(y) if silu else y), z[:, :, z.shape[2] - before :]


CASES = [
    # ---- Conv: weights as inputs
    _conv("plain", IMAGE, (3, 2, 3, 2), bias=True),
    _conv("padded", IMAGE, (3, 2, 3, 3), bias=True, pads=[1, 0, 2, 1]),
    _conv("pads over the reach", (1, 2, 3, 4), (2, 2, 2, 2), pads=[3, 2, 2, 3]),
    _conv("strides", IMAGE, (3, 2, 3, 2), strides=[2, 2], pads=[1, 0, 1, 2]),
    _conv("strides differ", IMAGE, (2, 2, 2, 3), strides=[3, 1], pads=[0, 1, 1, 0]),
    _conv("dilated strides", (1, 2, 7, 6), (2, 2, 2, 2), strides=[3, 2], dilations=[1, 2], pads=[1, 1, 0, 2]),
    _conv("dilated", (1, 2, 5, 5), (2, 2, 3, 2), dilations=[2, 3], pads=[1, 1, 1, 1]),
    _conv("groups", (2, 4, 4, 3), (6, 2, 2, 2), group=2, pads=[1, 0, 0, 1], bias=True),
    _conv("groups strides", (2, 4, 5, 4), (6, 2, 2, 2), group=2, strides=[2, 3]),
    _conv("depthwise", (2, 3, 4, 4), (3, 1, 3, 3), group=3, pads=[1, 1, 1, 1]),
    _conv("depthwise twice", (2, 3, 4, 4), (6, 1, 2, 2), group=3, strides=[2, 2]),
    _conv("1x1", IMAGE, (3, 2, 1, 1)),
    _conv("1x1 strides", IMAGE, (3, 2, 1, 1), strides=[2, 2]),
    _conv("kernel_shape", IMAGE, (3, 2, 3, 2), kernel_shape=[3, 2], strides=[2, 1]),
    _conv("kernel_shape stride 1", IMAGE, (3, 2, 3, 2), kernel_shape=[3, 2], pads=[1, 1, 1, 0]),
    _conv("valid", IMAGE, (2, 2, 3, 2), auto_pad="VALID", strides=[2, 2]),
    *(
        _conv(f"{mode} {strides}", IMAGE, (2, 2, *kernel), auto_pad=mode, strides=strides, **more)
        for mode in ("SAME_UPPER", "SAME_LOWER")
        for kernel, strides, more in (
            ((2, 3), [1, 1], {}),
            ((3, 2), [2, 2], {}),
            ((4, 4), [2, 3], {"kernel_shape": [4, 4]}),
            ((1, 1), [2, 2], {}),
        )
    ),
    _conv("SAME kernel_shape", IMAGE, (2, 2, 2, 4), auto_pad="SAME_UPPER", kernel_shape=[2, 4]),
    _conv("1-D", (2, 3, 9), (4, 3, 3), strides=[2], pads=[1, 1], bias=True),
    _conv("1-D stride 1", (2, 4, 6), (4, 2, 2), group=2),
    _conv("3-D", (1, 2, 4, 3, 3), (2, 2, 3, 2, 2), strides=[2, 1, 1], pads=[1, 0, 0, 0, 1, 0]),
    _conv("3-D stride 1", (1, 2, 3, 3, 3), (2, 2, 2, 2, 2), pads=[0, 1, 0, 1, 0, 0]),
    # ---- Conv: constant weights
    _conv("constant", IMAGE, (3, 2, 3, 2), bias=True, constant=True, pads=[1, 0, 1, 1]),
    _conv("constant groups", (2, 4, 4, 3), (6, 2, 2, 2), group=2, constant=True),
    _conv("constant strides", IMAGE, (3, 2, 3, 3), constant=True, strides=[2, 2], pads=[1, 1, 1, 1]),
    _conv("constant SAME", IMAGE, (2, 2, 3, 3), constant=True, strides=[2, 2], auto_pad="SAME_LOWER"),
    # ---- ConvTranspose
    _transposed("plain", (2, 3, 3, 2), (3, 2, 2, 3), bias=True),
    _transposed("constant", (2, 3, 3, 2), (3, 2, 2, 3), bias=True, constant=True),
    _transposed("strides", (2, 3, 3, 2), (3, 2, 3, 2), strides=[2, 3], pads=[1, 0, 0, 1], bias=True),
    _transposed("output_padding", (2, 3, 3, 2), (3, 2, 3, 2), strides=[2, 3], pads=[1, 0, 1, 1], output_padding=[1, 2]),
    _transposed("dilated", (1, 2, 3, 3), (2, 2, 2, 2), strides=[2, 1], dilations=[1, 3], pads=[0, 1, 0, 1]),
    _transposed("groups", (2, 4, 3, 2), (4, 2, 2, 2), group=2, strides=[2, 2], bias=True),
    _transposed("depthwise", (2, 3, 3, 2), (3, 1, 2, 2), group=3),
    _transposed("valid", (1, 2, 3, 2), (2, 2, 3, 2), strides=[2, 2], auto_pad="VALID"),
    _transposed("1-D", (2, 3, 4), (3, 2, 3), strides=[2], pads=[1, 1], output_padding=[1]),
    _transposed("3-D", (1, 2, 2, 2, 3), (2, 2, 2, 3, 2), strides=[2, 1, 1], pads=[0, 1, 0, 0, 1, 0]),
    _transposed("SAME_UPPER", (1, 2, 3, 2), (2, 2, 3, 2), strides=[2, 1], auto_pad="SAME_UPPER", crop=[(0, 1), (0, 1)]),
    _transposed("SAME_LOWER", (1, 2, 3, 2), (2, 2, 3, 2), strides=[2, 1], auto_pad="SAME_LOWER", crop=[(1, 0), (1, 0)]),
    _transposed("output_shape", (1, 2, 3, 3), (2, 2, 3, 4), strides=[2, 2], output_shape=[6, 6], crop=[(1, 0), (1, 1)]),
    _transposed(
        "output_shape upper",
        (1, 2, 3, 3),
        (2, 2, 3, 4),
        strides=[2, 2],
        output_shape=[6, 6],
        auto_pad="SAME_UPPER",
        crop=[(0, 1), (1, 1)],
    ),
    # ---- with a state
    *(
        Case(
            "CausalConvWithState",
            f'Y, S = CausalConvWithState<activation = "{activation}">(X, W, B{", P" if state else ""})',
            {"X": (2, 3, 5), "W": (3, 1, 4), "B": (3,)} | ({"P": (2, 3, 3)} if state else {}),
            lambda *inputs, silu=activation == "silu": _causal(*inputs, silu=silu),
            opsets=(27,),
            outputs=("Y", "S"),
            dynamic=("none", "batch"),
            evaluator=activation == "none",  # onnx's reference evaluator computes SiLU in float32
            name=f"{activation}{' state' if state else ''}",
        )
        for activation in ("none", "silu")
        for state in (False, True)
    ),
]
