"""What networks are made of: windows, resizing, normalization, recurrence, quantization."""

import numpy as np
from support.onnx_models import random
from support.opset_cases.case import IMAGE, OPSETS, Case, same


def _resize() -> list[Case]:
    up, down, mixed = (np.array([1, 1, *s], np.float32) for s in ((2, 1.6), (0.6, 0.5), (1.5, 0.6)))
    none, half = np.zeros(0, np.float32), np.array([1, 1, 2.5, 0.5], np.float32)
    sizes = np.array([1, 2, 7, 9])
    cases = [
        Case(
            "Upsample", (7, 8), "y = Upsample<mode = 'nearest', scales = [1.0, 1.0, 2.0, 3.0]>(x)".replace("'", '"'), IMAGE
        ),
        Case("Upsample", (7, 8), "y = Upsample<mode = 'linear', scales = [1.0, 1.0, 2.0, 1.5]>(x)".replace("'", '"'), IMAGE),
        Case("Upsample", (9,), "y = Upsample(x, s)", IMAGE, weights={"s": up}),
        Case("Upsample", (9,), 'y = Upsample<mode = "linear">(x, s)', IMAGE, weights={"s": up}),
        Case("Upsample", (9,), "y = Upsample(x, s)", {**IMAGE, "s": up}, symbolic=True, becomes="Resize Identity"),
        Case("Resize", (10,), "y = Resize(x, s)", IMAGE, weights={"s": up}, becomes="Resize Identity"),
        Case("Resize", (10,), "y = Resize(x, s)", IMAGE, weights={"s": down}, becomes="Resize Identity"),
        Case("Resize", (10,), "y = Resize(x, s)", IMAGE, weights={"s": mixed}),
        Case("Resize", (10,), "y = Resize(x, s)", {**IMAGE, "s": mixed}, symbolic=True),
    ]
    cases += [Case("Resize", (10,), 'y = Resize<mode = "linear">(x, s)', IMAGE, weights={"s": s}) for s in (up, down, mixed)]
    for opsets, roi in (((11, 12), "none"), (range(13, 18), "")):
        common = {"none": none}
        cases += [
            Case("Resize", opsets, f"y = Resize(x, {roi}, s)", IMAGE, weights=common | {"s": mixed}),
            Case("Resize", opsets, f"y = Resize(x, {roi}, {roi}, sizes)", IMAGE, weights=common | {"sizes": sizes}),
            Case("Resize", opsets, "y = Resize(x, none, none, sizes)", IMAGE, weights=common | {"sizes": sizes}),
        ]
        for mode in ("nearest", "linear", "cubic"):
            for coordinates in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
                attributes = f'mode = "{mode}", coordinate_transformation_mode = "{coordinates}"'
                attributes += ', nearest_mode = "floor"' if mode == "nearest" else ""
                attributes += ", cubic_coeff_a = -0.5, exclude_outside = 1" if mode == "cubic" else ""
                body = f"y = Resize<{attributes}>(x, {roi}, s)"
                cases.append(Case("Resize", opsets, body, IMAGE, weights=common | {"s": half}))
    attributes = 'mode = "linear", coordinate_transformation_mode = "tf_crop_and_resize", extrapolation_value = 3.0'
    crop = f"y = Resize<{attributes}>(x, roi, s)"
    roi = np.array([0, 0, 0.2, -0.1, 1, 1, 0.9, 1.2], np.float32)
    keras = 'y = Resize<coordinate_transformation_mode = "tf_half_pixel_for_nn", nearest_mode = "floor">(x, none, s)'
    return [
        *cases,
        Case("Resize", range(11, 18), crop, IMAGE, weights={"roi": roi, "s": half}),
        *(Case("Resize", (11, 12), keras, IMAGE, weights={"none": none, "s": s}) for s in (up, down, mixed, half)),
    ]


def _recurrent() -> list[Case]:
    cases = []
    for op, gates, states in (("RNN", 1, 1), ("GRU", 3, 1), ("LSTM", 4, 2)):
        weights = {
            "w": random(2, gates * 3, 4),
            "r": random(2, gates * 3, 3),
            "b": random(2, gates * 6),
            "lengths": np.array([5, 3], np.int32),
            "h": random(2, 2, 3),
        }
        outputs = ", ".join(["y", "yh", "yc"][: states + 1])
        body = f'{outputs} = {op}<hidden_size = 3, direction = "bidirectional">(x, w, r, b, lengths, h)'
        declared = ", ".join(f"float[] {name}" for name in outputs.split(", "))
        cases.append(Case(op, OPSETS, body, {"x": random(5, 2, 4)}, declared, weights))
        bare = {"w": weights["w"][:1], "r": weights["r"][:1]}
        cases.append(Case(op, OPSETS, f"y = {op}<hidden_size = 3>(x, w, r)", {"x": random(5, 2, 4)}, weights=bare))
    return cases


def _normalization() -> list[Case]:
    names = ("gain", "offset", "mean", "variance")
    channels = {name: np.abs(random(3, seed=i)) + 0.1 for i, name in enumerate(names)}
    every = {name: np.abs(random(3, 4, 5, seed=i)) + 0.1 for i, name in enumerate(names)}
    call = "(x, gain, offset, mean, variance)"
    return [
        Case("BatchNormalization", OPSETS, f"y = BatchNormalization<epsilon = 0.01>{call}", weights=channels),
        Case("BatchNormalization", (7, 8), f"y = BatchNormalization<spatial = 1, momentum = 0.8>{call}", weights=channels),
        Case("BatchNormalization", (7, 8), f"y = BatchNormalization<spatial = 0>{call}", weights=every),
        Case("InstanceNormalization", OPSETS, "y = InstanceNormalization(x, gain, offset)", weights=channels),
        Case("MeanVarianceNormalization", range(9, 18), "y = MeanVarianceNormalization(x)", checked=False),
        Case("LayerNormalization", (17,), "y = LayerNormalization(x, gain)", weights={"gain": random(5)}),
        Case("LRN", OPSETS, "y = LRN<size = 3>(x)"),
        Case("LpNormalization", OPSETS, "y = LpNormalization<axis = 1>(x)"),
    ]


def _windows() -> list[Case]:
    halve = "kernel_shape = [2, 2], strides = [2, 2]"
    conv = {"w": random(3, 2, 3, 2), "b": random(3)}
    transposed = {"w": random(2, 3, 3, 2), "b": random(3)}
    cases = [
        Case("Conv", OPSETS, "y = Conv<pads = [1, 0, 1, 1], strides = [2, 1]>(x, w, b)", IMAGE, weights=conv),
        Case("Conv", OPSETS, 'y = Conv<auto_pad = "SAME_UPPER", strides = [2, 3]>(x, w)', IMAGE, weights=conv),
        Case("Conv", OPSETS, 'y = Conv<auto_pad = "SAME_LOWER", strides = [2, 3]>(x, w)', IMAGE, weights=conv),
        Case(
            "ConvTranspose",
            OPSETS,
            "y = ConvTranspose<strides = [2, 3], output_padding = [1, 2]>(x, w, b)",
            IMAGE,
            weights=transposed,
        ),
        Case(
            "ConvTranspose",
            OPSETS,
            'y = ConvTranspose<strides = [2, 2], auto_pad = "SAME_UPPER">(x, w)',
            IMAGE,
            weights=transposed,
        ),
        Case(
            "ConvTranspose",
            OPSETS,
            'y = ConvTranspose<strides = [2, 2], auto_pad = "SAME_LOWER">(x, w)',
            IMAGE,
            weights=transposed,
        ),
        Case(
            "ConvTranspose",
            OPSETS,
            "y = ConvTranspose<strides = [2, 2], output_shape = [8, 11]>(x, w)",
            IMAGE,
            weights=transposed,
        ),
        Case("MaxPool", range(8, 18), "y, i = MaxPool<kernel_shape = [2, 2]>(x)", IMAGE, "float[] y, int64[] i"),
        Case(
            "MaxPool",
            range(10, 18),
            "y = MaxPool<kernel_shape = [2, 2], ceil_mode = 1, dilations = [2, 2], strides = [1, 2]>(x)",
            IMAGE,
        ),
        Case(
            "AveragePool",
            OPSETS,
            "y = AveragePool<kernel_shape = [3, 2], pads = [1, 1, 1, 0], count_include_pad = 1>(x)",
            IMAGE,
        ),
        Case(
            "AveragePool", range(10, 18), "y = AveragePool<kernel_shape = [3, 2], strides = [2, 2], ceil_mode = 1>(x)", IMAGE
        ),
        Case(
            "MaxUnpool",
            range(9, 18),
            f"p, i = MaxPool<{halve}>(x) y = MaxUnpool<{halve}>(p, i)",
            IMAGE,
        ),
    ]
    for op in ("MaxPool", "AveragePool", "LpPool"):
        cases += [
            Case(op, OPSETS, f"y = {op}<kernel_shape = [3, 2], strides = [2, 2], pads = [1, 0, 1, 1]>(x)", IMAGE),
            Case(op, OPSETS, f'y = {op}<kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_UPPER">(x)', IMAGE),
            Case(op, OPSETS, f'y = {op}<kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_LOWER">(x)', IMAGE),
        ]
    return [*cases, *same("GlobalAveragePool GlobalMaxPool GlobalLpPool", 7, "y = OP(x)")]


def _quantized() -> list[Case]:
    scalar = {"s": np.float32(0.1), "z": np.uint8(100)}
    axis = {"s": np.abs(random(3)) + 0.05, "z": np.array([100, 120, 90], np.uint8)}
    there_and_back = "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)"
    return [
        Case("QuantizeLinear", range(10, 18), there_and_back, weights=scalar),
        Case("DequantizeLinear", range(10, 18), there_and_back, weights=scalar),
        Case("QuantizeLinear", range(13, 18), there_and_back, weights=axis),
        Case("DequantizeLinear", range(13, 18), there_and_back, weights=axis),
        Case(
            "DynamicQuantizeLinear",
            range(11, 18),
            "y, s, z = DynamicQuantizeLinear(x)",
            outputs="uint8[] y, float s, uint8 z",
        ),
    ]


CASES = (*_windows(), *_resize(), *_normalization(), *_recurrent(), *_quantized())
