"""Sampling. torch's own has no second derivative; `test_grid_sample_ties` holds the function here to it."""

from itertools import product

import numpy as np
import torch
from conformance.case import Case, Draw
from torch.nn import functional

OLD = {"linear": "bilinear", "cubic": "bicubic", "nearest": "nearest"}
PLANE, SPACE = (
    {"X": (2, 2, 3, 4), "G": Draw((2, 2, 3, 2), "grid")},
    {"X": (1, 2, 3, 2, 4), "G": Draw((1, 2, 3, 2, 3), "grid")},
)


def sample(x, grid, mode, padding, align):
    """By one tap after the other, in any number of axes."""
    sizes = torch.tensor(x.shape[:1:-1], dtype=grid.dtype)
    position = (grid + 1) / 2 * (sizes - 1) if align else ((grid + 1) * sizes - 1) / 2
    first = (position.round() if mode == "nearest" else position.floor()).detach()
    taps = {"nearest": (0,), "linear": (0, 1), "cubic": (-1, 0, 1, 2)}[mode]
    y = 0
    for offsets in product(taps, repeat=len(sizes)):
        weight, index = 1, []
        for axis, offset in enumerate(offsets):
            tap, size = (first[..., axis] + offset).long(), int(sizes[axis])
            weight = weight * _weight(position[..., axis] - first[..., axis] - offset, mode)
            if padding == "zeros":
                weight = weight * ((tap >= 0) & (tap < size))
            elif padding == "reflection":
                row = [*range(size), *(range(size - 2, 0, -1) if align else range(size - 1, -1, -1))]
                tap = torch.tensor(row)[tap % len(row)]
            index.insert(0, tap.clamp(0, size - 1))
        rows = torch.arange(len(x)).reshape(-1, *[1] * len(sizes))
        y = y + weight[:, None] * x.movedim(1, -1)[(rows, *index)].movedim(-1, 1)
    return y


def _weight(t, mode, a=-0.75):
    if mode == "nearest":
        return torch.ones_like(t)
    t = t.abs()
    if mode == "linear":
        return 1 - t
    return torch.where(t <= 1, (a + 2) * t**3 - (a + 3) * t**2 + 1, a * (t**3 - 5 * t**2 + 8 * t - 4))


def _case(inputs, mode, padding, align, opsets, name=""):
    nearest = mode == "nearest"
    draws = {key: draw if isinstance(draw, Draw) else Draw(draw) for key, draw in inputs.items()}
    grid = draws["G"].values(np.random.default_rng(3))
    for opset in opsets:
        word = OLD[mode] if opset == 16 else mode
        body = f'Y = GridSample<mode = "{word}", padding_mode = "{padding}", align_corners = {align}>(X, G)'

        def function(x, g=None):
            return sample(x, torch.tensor(grid) if g is None else g, mode, padding, align)

        yield Case(
            "GridSample",
            body,
            {"X": inputs["X"]} if nearest else inputs,
            function,
            constants={"G": grid} if nearest else {},
            opsets=(max(opset, 18),),
            name=f"{mode} {padding} {align} {name}".strip(),
            dynamic=("none", "all"),
            evaluator=False,  # onnx's computes positions in float32
        )


def _affine(theta, size, align):
    def function(t):
        return functional.affine_grid(t, size, align_corners=bool(align))

    body, given = f"Y = AffineGrid<align_corners = {align}>(T0, S)", {"S": np.array(size, np.int64)}
    keywords = {"opsets": (20,), "evaluator": False}  # onnx's computes in float32
    yield Case("AffineGrid", body, {"T0": theta}, function, constants=given, name=f"{theta} {align}", **keywords)
    yield Case(
        "AffineGrid", body, {"T0": theta}, function, others=given, fixed=("S",), name=f"run time {theta} {align}", **keywords
    )


PADDINGS = ("zeros", "border", "reflection")
CASES = [
    *(case for m, p, a in product(OLD, PADDINGS, (0, 1)) for case in _case(PLANE, m, p, a, (20,), "2d")),
    *(case for m, p, a in product(("linear", "nearest"), PADDINGS, (0, 1)) for case in _case(SPACE, m, p, a, (20,), "3d")),
    *(case for m in OLD for case in _case(PLANE, m, "zeros", 0, (16, 22), "2d")),
    *(
        case
        for theta, size in (((2, 2, 3), (2, 1, 3, 4)), ((2, 3, 4), (2, 1, 2, 3, 4)))
        for a in (0, 1)
        for case in _affine(theta, size, a)
    ),
]
