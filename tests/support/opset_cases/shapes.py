"""What changes shapes, and what picks elements."""

import numpy as np
from support.onnx_models import random
from support.opset_cases.case import IMAGE, OPSETS, Case, X


def _shapes() -> list[Case]:
    starts, ends = np.array([1, -3]), np.array([3, 9])
    return [
        Case("Slice", (7, 8, 9), "y = Slice<starts = [1, -3], ends = [3, 9], axes = [1, 3]>(x)"),
        Case("Slice", (7, 8, 9), "y = Slice<starts = [0, 1], ends = [1, -1]>(x)", symbolic=True),
        Case("Slice", range(10, 18), "y = Slice(x, s, e)", weights={"s": starts[:1], "e": ends[:1]}),
        Case(
            "Slice",
            range(10, 18),
            "y = Slice(x, s, e, a, t)",
            weights={"s": ends, "e": -ends, "a": np.array([1, 3]), "t": -starts[:1].repeat(2)},
        ),
        Case("Squeeze", range(7, 13), "y = Squeeze<axes = [0, 2]>(x)", {"x": random(1, 3, 1, 5)}),
        Case("Squeeze", (11, 12), "y = Squeeze<axes = [-2]>(x)", {"x": random(1, 3, 1, 5)}),
        Case("Squeeze", range(7, 18), "y = Squeeze(x)", {"x": random(1, 3, 1, 5)}),
        Case("Squeeze", range(13, 18), "y = Squeeze(x, a)", {"x": random(1, 3, 1, 5)}, weights={"a": np.array([0])}),
        Case("Unsqueeze", range(7, 13), "y = Unsqueeze<axes = [3, 0]>(x)"),
        Case("Unsqueeze", (11, 12), "y = Unsqueeze<axes = [-1, 1]>(x)"),
        Case("Unsqueeze", range(13, 18), "y = Unsqueeze(x, a)", weights={"a": np.array([0, -1])}),
        Case("Split", range(7, 13), "y, z = Split<axis = 3, split = [2, 3]>(x)", outputs="float[] y, float[] z"),
        Case("Split", (11, 12), "y, z = Split<axis = -1, split = [2, 3]>(x)", outputs="float[] y, float[] z"),
        Case("Split", range(7, 18), "y, z = Split(x)", outputs="float[] y, float[] z"),
        Case(
            "Split",
            range(13, 18),
            "y, z = Split<axis = 3>(x, s)",
            outputs="float[] y, float[] z",
            weights={"s": np.array([2, 3])},
        ),
        Case("Pad", range(7, 11), "y = Pad<pads = [0, 0, 1, 2, 0, 0, 3, 0], value = 1.5>(x)"),
        Case(
            "Pad",
            range(7, 11),
            "y = Pad<pads = [0, 0, 1, 2, 0, 0, -1, 0]>(x)",
            {"x": X["x"].astype(np.float64)},
            "double[] y",
        ),
        Case("Pad", range(7, 11), 'y = Pad<pads = [0, 0, 1, 2, 0, 0, 3, 0], mode = "reflect">(x)'),
        Case("Pad", range(7, 11), 'y = Pad<pads = [0, 0, 1, 2, 0, 0, 3, 0], mode = "edge">(x)'),
        Case(
            "Pad", range(11, 18), "y = Pad(x, p, v)", weights={"p": np.array([0, 0, 1, 2, 0, 0, 3, 0]), "v": np.float32(2)}
        ),
        Case("Shape", OPSETS, "y = Shape(x)", outputs="int64[] y", symbolic=True),
        Case("Shape", range(15, 18), "y = Shape<start = 1, end = -1>(x)", outputs="int64[] y"),
        Case("Size", OPSETS, "y = Size(x)", outputs="int64 y", symbolic=True),
        Case("Reshape", OPSETS, "y = Reshape(x, s)", weights={"s": np.array([0, -1, 5])}),
        Case("Flatten", OPSETS, "y = Flatten(x)"),
        Case("Flatten", range(11, 18), "y = Flatten<axis = -1>(x)"),
        Case("Concat", OPSETS, "y = Concat<axis = 2>(x, x)"),
        Case("Concat", range(11, 18), "y = Concat<axis = -1>(x, x)"),
        Case("Transpose", OPSETS, "y = Transpose<perm = [2, 0, 3, 1]>(x)"),
        Case("Tile", OPSETS, "y = Tile(x, r)", weights={"r": np.array([1, 2, 1, 3])}),
        Case("Expand", range(8, 18), "y = Expand(x, s)", weights={"s": np.array([2, 1, 1, 4, 1])}),
        Case("DepthToSpace", OPSETS, "y = DepthToSpace<blocksize = 2>(x)", {"x": random(1, 8, 2, 3)}),
        Case("DepthToSpace", range(11, 18), 'y = DepthToSpace<blocksize = 2, mode = "CRD">(x)', {"x": random(1, 8, 2, 3)}),
        Case("SpaceToDepth", OPSETS, "y = SpaceToDepth<blocksize = 2>(x)", IMAGE),
        Case(
            "Compress",
            range(9, 18),
            "y = Compress<axis = 1>(x, c)",
            X,
            "float[2,kept,4,5] y",
            weights={"c": np.array([True, False, True])},
        ),
        Case("NonZero", range(9, 18), "y = NonZero(x)", outputs="int64[] y"),
        Case("ConstantOfShape", range(9, 18), "s = Shape(x) y = ConstantOfShape(s)", outputs="float[] y"),
        Case("EyeLike", range(9, 18), "y = EyeLike<k = 1>(x)", {"x": random(3, 4)}),
        Case("Trilu", range(14, 18), "y = Trilu(x)"),
        Case(
            "ReverseSequence",
            range(10, 18),
            "y = ReverseSequence(x, n)",
            {"x": random(4, 2, 3)},
            weights={"n": np.array([4, 2])},
        ),
        Case("CumSum", range(11, 18), "y = CumSum(x, a)", weights={"a": np.array(2)}),
    ]


def _indexing() -> list[Case]:
    rows = {"x": random(4, 5)}
    index = np.array([[1, 0, 3], [2, 3, 0]])
    updates = random(2, 3)
    scatter = {"i": index, "u": updates}
    pairs = np.array([[0, 1], [3, 2]])
    cases = [
        Case("TopK", range(7, 10), "y, i = TopK<k = 2, axis = 0>(x)", rows, "float[] y, int64[] i"),
        Case("TopK", range(7, 10), "y, i = TopK<k = 2>(x)", rows, "float[] y, int64[] i"),
        Case("TopK", range(10, 18), "y, i = TopK(x, k)", rows, "float[] y, int64[] i", {"k": np.array([3])}),
        Case("TopK", range(11, 18), "y, i = TopK<largest = 0>(x, k)", rows, "float[] y, int64[] i", {"k": np.array([3])}),
        Case("Scatter", (9, 10), "y = Scatter(x, i, u)", rows, weights=scatter, becomes="ScatterElements Identity"),
        Case("Scatter", (9, 10), "y = Scatter<axis = 1>(x, i, u)", rows, weights=scatter),
        Case("ScatterElements", range(11, 18), "y = ScatterElements<axis = -1>(x, i, u)", rows, weights=scatter),
        Case("ScatterElements", (16, 17), 'y = ScatterElements<reduction = "add">(x, i, u)', rows, weights=scatter),
        Case("ScatterND", range(11, 18), "y = ScatterND(x, i, u)", rows, weights={"i": pairs, "u": updates[0, :2]}),
        Case(
            "ScatterND",
            (16, 17),
            'y = ScatterND<reduction = "mul">(x, i, u)',
            rows,
            weights={"i": pairs, "u": updates[0, :2]},
        ),
        Case("Gather", OPSETS, "y = Gather<axis = 1>(x, i)", rows, weights={"i": index}),
        Case("GatherElements", range(11, 18), "y = GatherElements<axis = 1>(x, i)", rows, weights={"i": index}),
        Case("GatherND", range(11, 18), "y = GatherND(x, i)", rows, weights={"i": pairs}),
        Case("GatherND", range(12, 18), "y = GatherND<batch_dims = 1>(x, i)", {"x": random(2, 4, 5)}, weights={"i": pairs}),
        Case(
            "OneHot", range(9, 18), "y = OneHot(i, d, v)", {"i": index}, weights={"d": np.array(4), "v": np.float32([0, 1])}
        ),
        Case(
            "OneHot",
            range(9, 18),
            "y = OneHot<axis = 0>(i, d, v)",
            {"i": index - 2},
            weights={"d": np.array([3]), "v": np.float32([2, 5])},
        ),
    ]
    for op in ("ArgMax", "ArgMin"):
        cases += [
            Case(op, OPSETS, f"y = {op}<axis = 1, keepdims = 0>(x)", outputs="int64[] y"),
            Case(op, range(12, 18), f"y = {op}<axis = -1, select_last_index = 1>(x)", outputs="int64[] y"),
        ]
    boxes = np.array([[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 2, 1, 3]]], np.float32)
    kept = {"n": np.array([3]), "u": np.float32([0.5]), "t": np.float32([0])}
    cases.append(
        Case(
            "NonMaxSuppression",
            range(10, 18),
            "y = NonMaxSuppression(b, s, n, u, t)",
            {"b": boxes, "s": np.array([[[0.9, 0.8, 0.7]]], np.float32)},
            "int64[kept,3] y",
            kept,
        )
    )
    regions = {"r": np.array([[0, 0, 3, 2.5], [1, 0.5, 4, 3]], np.float32), "n": np.array([0, 0])}
    roi = "y = RoiAlign<output_height = 2, output_width = 2, sampling_ratio = 2, spatial_scale = 0.9>(x, r, n)"
    half = roi.replace(">", ', coordinate_transformation_mode = "half_pixel">')
    cases += [
        Case("RoiAlign", range(10, 18), roi, IMAGE, weights=regions),
        Case("RoiAlign", (16, 17), half, IMAGE, weights=regions),
    ]
    cases.append(
        Case(
            "MaxRoiPool",
            OPSETS,
            "y = MaxRoiPool<pooled_shape = [2, 2]>(x, r)",
            IMAGE,
            weights={"r": np.array([[0, 0, 0, 3, 2]], np.float32)},
        )
    )
    cases.append(
        Case("GridSample", (16, 17), "y = GridSample(x, g)", IMAGE, weights={"g": np.clip(random(1, 3, 3, 2), -1, 1)})
    )
    return cases


CASES = (*_shapes(), *_indexing())
