"""Poolings: means, norms and maxima over windows and over everything."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from conformance.case import Case, Draw

AVERAGES = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
MAXIMA = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
CONVS = (F.conv1d, F.conv2d, F.conv3d)


def _text(op, attributes, inputs="X", outputs="Y"):
    items = [f'{name} = "{v}"' if isinstance(v, str) else f"{name} = {v}" for name, v in attributes.items()]
    return f"{outputs} = {op}<{', '.join(items)}>({inputs})"


def _geometry(x, kernel_shape, strides=(), dilations=(), pads=(), auto_pad="NOTSET", ceil_mode=0):
    """Strides, dilations, paddings in torch's order, and the number of windows."""
    rank = len(kernel_shape)
    strides, dilations, pads = strides or [1] * rank, dilations or [1] * rank, list(pads) or [0] * 2 * rank
    if auto_pad == "VALID":
        pads = [0] * 2 * rank
    around, counts = [], []
    for axis in range(rank):
        n, k, s, d = x[2 + axis], kernel_shape[axis], strides[axis], dilations[axis]
        begin, end = pads[axis], pads[rank + axis]
        if auto_pad.startswith("SAME"):
            total = max(0, (-(-n // s) - 1) * s + k - n)
            begin = total // 2 if auto_pad == "SAME_UPPER" else (total + 1) // 2
            end = total - begin
        around = [begin, end, *around]
        counts.append((n + begin + end - d * (k - 1) - 1 + (s - 1) * ceil_mode) // s + 1)
    return strides, dilations, around, counts


def _sums(x, kernel, strides, dilations, around, counts):
    """Over each window: what lies beyond the padding counts as zero."""
    more = [pad + (i % 2) * max(strides) for i, pad in enumerate(around)]
    rank, flat = (
        len(kernel),
        F.pad(x, more).reshape(-1, 1, *(n + a + b for n, a, b in zip(x.shape[2:], more[-2::-2], more[::-2], strict=True))),
    )
    out = CONVS[rank - 1](flat, torch.ones(1, 1, *kernel, dtype=x.dtype), stride=strides, dilation=dilations)
    return out[(..., *(slice(count) for count in counts))].reshape(*x.shape[:2], *counts)


def _average(name, x, *, opsets=(18, 19, 22), **attributes):
    include = attributes.get("count_include_pad", 0)
    geometry = {key: value for key, value in attributes.items() if key != "count_include_pad"}
    strides, dilations, around, counts = _geometry(x, **geometry)
    kernel = attributes["kernel_shape"]

    def function(image):
        ones = torch.ones_like(image)
        if set(dilations) != {1}:
            divisor = math.prod(kernel) if include else _sums(ones, kernel, strides, dilations, around, counts)
            return _sums(image, kernel, strides, dilations, around, counts) / divisor
        means = [
            AVERAGES[len(kernel) - 1](F.pad(values, around), kernel, strides, ceil_mode=bool(attributes.get("ceil_mode")))
            for values in (image, ones)
        ]
        return means[0] if include else means[0] / means[1]

    return Case("AveragePool", _text("AveragePool", attributes), {"X": x}, function, opsets=opsets, name=name)


def _norm(name, x, **attributes):
    p, kernel = attributes.get("p", 2), attributes["kernel_shape"]
    geometry = _geometry(x, **{key: value for key, value in attributes.items() if key != "p"})

    def function(image):
        return _sums(image.abs() ** p, kernel, *geometry) ** (1 / p)

    return Case("LpPool", _text("LpPool", {"p": p, **attributes}), {"X": x}, function, opsets=(18, 22), name=name)


def _maximum(name, x, *, outputs="Y", opsets=(18, 22), **attributes):
    geometry = {key: value for key, value in attributes.items() if key != "storage_order"}
    strides, dilations, around, _ = _geometry(x, **geometry)

    def function(image):
        padded = F.pad(image, around, value=-math.inf)
        kernel, ceil = attributes["kernel_shape"], bool(attributes.get("ceil_mode"))
        return MAXIMA[len(kernel) - 1](padded, kernel, strides, 0, dilations, ceil)

    return Case(
        "MaxPool",
        _text("MaxPool", attributes, outputs=outputs),
        {"X": Draw(x, "distinct")},
        function,
        opsets=opsets,
        name=name,
    )


IMAGE = (2, 2, 5, 4)
INDICES = np.array([[[[0, 7], [8, 14]]], [[[17, 18], [24, 31]]]])


def _unpool(x):
    return torch.zeros(32, dtype=x.dtype).index_put((torch.tensor(INDICES).reshape(-1),), x.reshape(-1)).reshape(2, 1, 4, 4)


def _p_norm(x, p):
    return (x.abs() ** p).sum((2, 3), keepdim=True) ** (1 / p)


CASES = [
    # ---- AveragePool
    _average("plain", IMAGE, kernel_shape=[2, 3]),
    _average("tiles", (2, 2, 4, 6), kernel_shape=[2, 3], strides=[2, 3]),
    _average("tiles and a rest", IMAGE, kernel_shape=[2, 3], strides=[2, 3]),
    _average("strides", IMAGE, kernel_shape=[3, 2], strides=[2, 1]),
    _average("gaps", IMAGE, kernel_shape=[2, 1], strides=[3, 2]),
    _average("padded", IMAGE, kernel_shape=[3, 3], pads=[1, 0, 1, 2]),
    _average("padded include", IMAGE, kernel_shape=[3, 3], pads=[1, 0, 1, 2], count_include_pad=1),
    _average("padded strides", IMAGE, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 1, 1, 0]),
    _average("padded strides include", IMAGE, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 1, 1, 0], count_include_pad=1),
    _average("ceil", IMAGE, kernel_shape=[2, 3], strides=[2, 2], ceil_mode=1),
    _average("ceil padded", (2, 2, 6, 6), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1),
    # Before 22 only where the runtime is onnxruntime 1.19, which divides by something else: see test_pooling_ties.
    *(
        _average(
            f"ceil include {pads}",
            (2, 1, 6, 6),
            kernel_shape=[3, 3],
            strides=[2, 2],
            ceil_mode=1,
            opsets=(22,),
            **pads,
            count_include_pad=1,
        )
        for pads in ({}, {"pads": [1, 1, 1, 1]})
    ),
    _average(
        "ceil include fits",
        (2, 2, 5, 5),
        kernel_shape=[3, 3],
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        ceil_mode=1,
        count_include_pad=1,
    ),
    _average("whole", IMAGE, kernel_shape=[5, 4], strides=[5, 4]),
    _average("far beyond", IMAGE, kernel_shape=[40, 50], strides=[40, 50], ceil_mode=1),
    *(
        _average(f"beyond {include}", IMAGE, kernel_shape=[8, 7], pads=[2, 1, 1, 2], count_include_pad=include)
        for include in (0, 1)
    ),
    _average("valid", IMAGE, kernel_shape=[2, 2], strides=[2, 1], auto_pad="VALID"),
    *(
        _average(
            f"{mode} {strides} {include}",
            IMAGE,
            kernel_shape=[2, 3],
            strides=strides,
            auto_pad=mode,
            count_include_pad=include,
        )
        for mode in ("SAME_UPPER", "SAME_LOWER")
        for strides in ([1, 1], [2, 2])
        for include in (0, 1)
    ),
    _average("dilated", (2, 2, 6, 5), kernel_shape=[2, 3], dilations=[3, 2], pads=[1, 1, 0, 1], opsets=(19, 22)),
    _average(
        "dilated strides",
        (2, 2, 6, 5),
        kernel_shape=[2, 2],
        dilations=[2, 3],
        strides=[2, 1],
        pads=[1, 0, 1, 1],
        opsets=(19, 22),
    ),
    _average(
        "dilated include",
        (2, 2, 6, 5),
        kernel_shape=[2, 2],
        dilations=[2, 3],
        pads=[1, 0, 1, 1],
        count_include_pad=1,
        opsets=(19, 22),
    ),
    _average("1-D", (2, 3, 7), kernel_shape=[3], strides=[2], pads=[1, 0]),
    _average("3-D", (1, 2, 4, 3, 2), kernel_shape=[2, 2, 1], strides=[2, 1, 1], pads=[0, 1, 0, 0, 1, 0]),
    # ---- LpPool
    *(_norm(f"p={p}", IMAGE, kernel_shape=[2, 3], p=p) for p in (1, 2, 3, 4)),
    _norm("tiles", (2, 2, 4, 6), kernel_shape=[2, 3], strides=[2, 3]),
    _norm("padded", IMAGE, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 1, 1, 0]),
    _norm("ceil dilated", (2, 2, 6, 6), kernel_shape=[2, 2], strides=[2, 2], dilations=[2, 3], ceil_mode=1),
    _norm("SAME", IMAGE, kernel_shape=[2, 3], strides=[2, 2], auto_pad="SAME_LOWER"),
    _norm("1-D", (2, 3, 7), kernel_shape=[3], strides=[2]),
    _norm("3-D", (1, 2, 3, 3, 2), kernel_shape=[2, 2, 1]),
    # ---- MaxPool
    _maximum("plain", IMAGE, kernel_shape=[2, 3]),
    _maximum("tiles", (2, 2, 4, 6), kernel_shape=[2, 3], strides=[2, 3]),
    _maximum("tiles and a rest", IMAGE, kernel_shape=[2, 3], strides=[2, 3]),
    _maximum("tiles padded", IMAGE, kernel_shape=[2, 2], strides=[2, 2], pads=[1, 0, 0, 1]),
    _maximum("tiles ceil", IMAGE, kernel_shape=[2, 3], strides=[2, 3], ceil_mode=1),
    _maximum("gaps", IMAGE, kernel_shape=[1, 2], strides=[2, 3]),
    _maximum("padded strides", IMAGE, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    _maximum("ceil", (2, 2, 6, 5), kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 0, 0], ceil_mode=1),
    _maximum("dilated", (2, 2, 6, 5), kernel_shape=[2, 3], dilations=[3, 2], pads=[1, 1, 0, 1]),
    _maximum("storage_order", IMAGE, kernel_shape=[2, 2], storage_order=1),
    _maximum("with indices", IMAGE, kernel_shape=[3, 2], strides=[2, 2], outputs="Y, I"),
    _maximum("with indices tiles", (2, 2, 4, 4), kernel_shape=[2, 2], strides=[2, 2], outputs="Y, I"),
    _maximum("valid", IMAGE, kernel_shape=[2, 2], strides=[2, 1], auto_pad="VALID"),
    *(
        _maximum(f"{mode} {strides}", IMAGE, kernel_shape=[2, 3], strides=strides, auto_pad=mode)
        for mode in ("SAME_UPPER", "SAME_LOWER")
        for strides in ([1, 1], [2, 2], [2, 3])
    ),
    _maximum("1-D", (2, 3, 7), kernel_shape=[3], strides=[2], pads=[1, 0]),
    _maximum("3-D", (1, 2, 4, 3, 2), kernel_shape=[2, 2, 1], strides=[2, 1, 1], pads=[0, 1, 0, 0, 1, 0]),
    _maximum("3-D tiles", (1, 2, 4, 3, 2), kernel_shape=[2, 1, 2], strides=[2, 1, 2]),
    # ---- MaxUnpool
    Case(
        "MaxUnpool",
        _text("MaxUnpool", {"kernel_shape": [2, 2], "strides": [2, 2]}, "X, I"),
        {"X": (2, 1, 2, 2)},
        _unpool,
        others={"I": INDICES},
        opsets=(18, 22),
    ),
    Case(
        "MaxUnpool",
        _text("MaxUnpool", {"kernel_shape": [1, 2], "strides": [2, 2]}, "X, I, S"),
        {"X": (2, 1, 2, 2)},
        _unpool,
        others={"I": INDICES},
        constants={"S": np.array([2, 1, 4, 4])},
        opsets=(18, 22),
        name="output_shape",
    ),
    # ---- over everything
    Case(
        "GlobalAveragePool",
        "Y = GlobalAveragePool(X)",
        {"X": IMAGE},
        lambda x: x.mean((2, 3), keepdim=True),
        opsets=(18, 22),
    ),
    Case("GlobalAveragePool", "Y = GlobalAveragePool(X)", {"X": (2, 3, 4)}, lambda x: x.mean(2, keepdim=True), name="1-D"),
    Case(
        "GlobalMaxPool",
        "Y = GlobalMaxPool(X)",
        {"X": Draw(IMAGE, "distinct")},
        lambda x: x.amax((2, 3), keepdim=True),
        opsets=(18, 22),
    ),
    *(
        Case(
            "GlobalLpPool",
            f"Y = GlobalLpPool<p = {p}>(X)",
            {"X": IMAGE},
            lambda x, p=p: _p_norm(x, p),
            opsets=(opset,),
            evaluator=False,  # onnx's reference evaluator has no GlobalLpPool
            name=f"p={p}",
            skip="onnxruntime has no GlobalLpPool of opset 22" if opset == 22 else "",
        )
        for p in (1, 2, 3)
        for opset in (18, 22)
    ),
    # ---- blocks
    Case(
        "Col2Im",
        "Y = Col2Im<strides = [2, 1], pads = [1, 0, 0, 1], dilations = [1, 2]>(X, S, B)",
        {"X": (2, 8, 8)},
        lambda x: F.pad(F.fold(x, (5, 6), (2, 2), dilation=(1, 2), stride=(2, 1)), (0, -1, -1, 0)),
        constants={"S": np.array([4, 5]), "B": np.array([2, 2])},
        opsets=(18,),
    ),
    Case(
        "Col2Im",
        "Y = Col2Im(X, S, B)",
        {"X": (1, 6, 6)},
        lambda x: F.fold(x, (3, 3), (2, 1)),
        constants={"S": np.array([3, 3]), "B": np.array([2, 1])},
        opsets=(18,),
        name="plain",
    ),
]
