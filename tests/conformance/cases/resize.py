"""Resize: every mode and every way to compute coordinates, as torch has them or as the standard's text says."""

import numpy as np
import torch
from conformance.case import Case
from torch.nn import functional

COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
)
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
UNEVEN, WHOLE, MIXED = (1.6, 0.7), (2.0, 3.0), (1.0, 2.5)
SHAPE = (2, 2, 3, 4)
ROI = (0.1, -0.1, 0.8, 1.2)


def _matrix(
    size,
    scale,
    coordinates="half_pixel",
    mode="nearest",
    nearest="round_prefer_floor",
    a=-0.75,
    outside=1,
    antialias=0,
    roi=(0, 1),
):
    """[out, in], from the text of the standard. `outside`: 0 leaves weights outside out, 1 has the edge repeated."""
    scale = float(np.float32(scale))
    length = int(np.floor(size * scale))
    x = np.arange(length)
    span = size * scale
    center = {
        "half_pixel": (x + 0.5) / scale - 0.5,
        "half_pixel_symmetric": size / 2 * (1 - length / span) + (x + 0.5) / scale - 0.5,
        "pytorch_half_pixel": (x + 0.5) / scale - 0.5 if length > 1 else 0 * x,
        "align_corners": x * (size - 1) / max(length - 1, 1),
        "asymmetric": x / scale,
        "tf_crop_and_resize": roi[0] * (size - 1) + x * (roi[1] - roi[0]) * (size - 1) / max(length - 1, 1),
    }[coordinates]
    matrix = np.zeros((length, size))
    for row, position in enumerate(center):
        if coordinates == "tf_crop_and_resize" and not 0 <= position <= size - 1:
            continue
        for tap, weight in _taps(position, mode, nearest, a, min(scale, 1) if antialias else 1).items():
            if outside or 0 <= tap < size:
                matrix[row, min(max(tap, 0), size - 1)] += weight
        matrix[row] /= matrix[row].sum()
    return matrix


def _taps(position, mode, nearest, a, stretch=1.0):
    if mode == "nearest":
        rounded = {
            "round_prefer_floor": np.ceil(position - 0.5),
            "round_prefer_ceil": np.floor(position + 0.5),
            "floor": np.floor(position),
            "ceil": np.ceil(position),
        }
        return {int(rounded[nearest]): 1.0}
    reach = {"linear": 1, "cubic": 2}[mode] / stretch
    near = np.arange(np.floor(position - reach) + 1, np.ceil(position + reach))
    t = np.abs(near - position) * stretch
    inner, outer = (a + 2) * t**3 - (a + 3) * t**2 + 1, a * (t**3 - 5 * t**2 + 8 * t - 4)
    weights = 1 - t if mode == "linear" else np.where(t <= 1, inner, outer)
    return dict(zip(near.astype(int).tolist(), weights / weights.sum(), strict=True))


def _case(name, attributes, function, scales=UNEVEN, shape=SHAPE, body="X, , S", **keywords):
    text = ", ".join(
        f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}" for key, value in attributes.items()
    )
    keywords = {"opsets": (18,), "dynamic": ("none", "all"), "constants": {}} | keywords
    given = {"S": np.array((1, 1, *scales), np.float32)} if "S" in body and "S" not in keywords.get("others", {}) else {}
    constants = given | keywords.pop("constants")
    if "half_pixel_symmetric" in attributes.values():
        keywords["opsets"] = (19,)
    return Case("Resize", f"Y = Resize<{text}>({body})", {"X": shape}, function, name=name, constants=constants, **keywords)


def _spec(scales=UNEVEN, name="", **options):
    """A case that follows the text of the standard."""
    names = {"coordinates": "coordinate_transformation_mode", "nearest": "nearest_mode", "a": "cubic_coeff_a"}
    attributes = {names.get(key, key): value for key, value in options.items() if key != "outside"}
    attributes |= {"exclude_outside": 1} if options.get("outside") == 0 else {}
    crops = options.get("coordinates") == "tf_crop_and_resize"
    rows = _matrix(3, scales[0], roi=(ROI[0], ROI[2]), **options)
    columns = _matrix(4, scales[1], roi=(ROI[1], ROI[3]), **options)

    def function(x):
        y = torch.tensor(rows) @ x @ torch.tensor(columns).T
        inside = torch.tensor(np.outer(rows.sum(1), columns.sum(1)) > 0)
        return torch.where(inside, y, 0.5)

    # onnx's counts parts of a pixel in the size of the output, where onnxruntime cuts them off.
    keywords = {"evaluator": scales == WHOLE or options.get("coordinates") not in ("align_corners", "tf_crop_and_resize")}
    if crops:
        attributes |= {"extrapolation_value": 0.5}
        keywords |= {"body": "X, R, S", "constants": {"R": np.array([0, 0, *ROI[:2], 1, 1, *ROI[2:]], np.float32)}}
    label = " ".join(map(str, [*options.values(), *scales])) + name
    return _case(label, attributes, function, scales, **keywords)


def _torch(mode, scales, name="", *, antialias=False, align_corners=None, **attributes):
    """A case that torch's own function has."""
    modes = {"nearest": "nearest-exact", "linear": "bilinear", "cubic": "bicubic"}

    def function(x):
        size = [int(np.floor(size * np.float32(scale))) for size, scale in zip(x.shape[2:], scales, strict=True)]
        keywords = {"align_corners": align_corners} if mode != "nearest" else {}
        return functional.interpolate(x, size, mode=modes[mode], antialias=antialias, **keywords)

    attributes |= {"mode": mode} | ({"antialias": 1, "exclude_outside": 1} if antialias else {})
    attributes |= {"nearest_mode": "round_prefer_ceil"} if mode == "nearest" else {}
    attributes |= {"coordinate_transformation_mode": "align_corners"} if align_corners else {}
    attributes |= {"cubic_coeff_a": -0.5} if antialias and mode == "cubic" else {}
    label = f"torch {mode} {scales} {name}".strip()
    return _case(label, attributes, function, scales, shape=(1, 2, 4, 6), opsets=(18, 19), dynamic=("none", "batch", "all"))


def _sizes(name, attributes, sizes, function, *, run_time=False, **keywords):
    """Sizes in place of scales."""
    given = {"Z": np.array(sizes, np.int64)}
    keywords |= {"others": given, "fixed": ("Z",)} if run_time else {"constants": given}
    return _case(name, attributes, function, body="X, , , Z", **keywords)


def _interpolated(size, mode, **keywords):
    return lambda x: functional.interpolate(x, size, mode=mode, **keywords)


def _kept(scale, mode):
    """Both axes by one scale, rounded."""

    def function(x):
        rows, columns = (_longer(size, scale, mode) for size in x.shape[2:])
        return torch.tensor(rows) @ x @ torch.tensor(columns).T

    return function


def _longer(size, scale, mode):
    """`_matrix`, with as many rows as rounding gives instead of cutting off."""
    length = int(np.floor(size * scale + 0.5))
    matrix = np.zeros((length, size))
    for row in range(length):
        for tap, weight in _taps((row + 0.5) / scale - 0.5, mode, "round_prefer_floor", -0.75).items():
            matrix[row, min(max(tap, 0), size - 1)] += weight
    return matrix


KEPT = {"axes": [2, 3], "mode": "linear"}
CASES = [
    *(_spec(UNEVEN, mode="nearest", coordinates=c, nearest=r) for c in COORDINATES for r in ROUNDINGS),
    *(_spec(WHOLE, mode="nearest", coordinates=c, nearest=r) for c in ("half_pixel", "asymmetric") for r in ROUNDINGS),
    *(_spec(scales, mode=m, coordinates=c) for scales in (UNEVEN, WHOLE) for m in ("linear", "cubic") for c in COORDINATES),
    *(_spec(scales, mode="cubic", a=-0.5) for scales in (UNEVEN, WHOLE)),
    *(_spec(scales, mode="cubic", outside=0, a=-0.5) for scales in (UNEVEN, WHOLE)),
    *(_spec(scales, mode=m, antialias=1) for m in ("linear", "cubic") for scales in (UNEVEN, WHOLE)),
    *(
        _torch(mode, scales, align_corners=False)
        for mode in ("nearest", "linear", "cubic")
        for scales in (WHOLE, (0.5, 0.5))
    ),
    *(_torch(mode, MIXED, align_corners=True) for mode in ("linear", "cubic")),
    *(
        _torch(mode, scales, "antialias", align_corners=False, antialias=True)
        for mode in ("linear", "cubic")
        for scales in ((1.25, 0.5), WHOLE)
    ),
    *(
        _sizes(
            f"sizes {mode}",
            {"mode": mode},
            (2, 2, 5, 3),
            _interpolated((5, 3), torch_mode, align_corners=False),
            run_time=run_time,
        )
        for mode, torch_mode in (("linear", "bilinear"), ("cubic", "bicubic"))
        for run_time in (False, True)
    ),
    _sizes(
        "whole sizes",
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        (2, 2, 6, 4),
        _interpolated((6, 4), "nearest"),
    ),
    _sizes("axes", {"mode": "linear", "axes": [3]}, (8,), _interpolated((3, 8), "bilinear", align_corners=False)),
    _sizes("not larger", KEPT | {"keep_aspect_ratio_policy": "not_larger"}, (8, 7), _kept(7 / 4, "linear")),
    _sizes("not smaller", KEPT | {"keep_aspect_ratio_policy": "not_smaller"}, (4, 7), _kept(7 / 4, "linear")),
    _sizes(
        "not larger nearest",
        KEPT | {"mode": "nearest", "keep_aspect_ratio_policy": "not_larger"},
        (2, 7),
        _kept(2 / 3, "nearest"),
    ),
    _sizes(
        "not larger cubic, run time",
        KEPT | {"mode": "cubic", "keep_aspect_ratio_policy": "not_larger"},
        (8, 7),
        _kept(7 / 4, "cubic"),
        run_time=True,
    ),
    *(
        _case(
            f"scales at run time, {mode}",
            {"mode": mode},
            _interpolated((6, 12), torch_mode, **more),
            others={"S": np.array([1, 1, 2, 3], np.float32)},
            fixed=("S",),
            dynamic=("batch",),
        )
        for mode, torch_mode, more in (("nearest", "nearest-exact", {}), ("linear", "bilinear", {"align_corners": False}))
    ),
    *(
        _case(
            f"{rank} axes, {mode}",
            {"mode": mode, "axes": list(range(2, rank))},
            _interpolated([2 * size for size in (3, 4, 2)[: rank - 2]], torch_mode, **more),
            shape=(1, 2, 3, 4, 2)[:rank],
            scales=(),
            constants={"S": np.full(rank - 2, 2.0, np.float32)},
        )
        for rank in (3, 5)
        for mode, torch_mode, more in (
            ("nearest", "nearest", {}),
            ("linear", {3: "linear", 5: "trilinear"}[rank], {"align_corners": False}),
        )
    ),
    _case(
        "5 axes, uneven",
        {"mode": "linear", "axes": [2, 3, 4]},
        _interpolated((5, 2, 3), "trilinear", align_corners=False),
        shape=(1, 2, 3, 4, 2),
        scales=(),
        body="X, , , Z",
        constants={"Z": np.array([5, 2, 3])},
    ),
]
