"""Inputs that make no sense for an operator: `python -m support.hostile FOLDER` sends them, and says what became of each.

A row of `HOSTILE` is a model of one operator and what one of its inputs is in turn. Each is answered or is an error of
gradserve's; what onnxruntime 1.19 does not survive is not here, but in docs/operations.md.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from support.onnx_models import build, save

from gradserve.errors import GradserveError
from gradserve_server import Engine, EngineConfig

I64, I32 = np.iinfo(np.int64), np.iinfo(np.int32)
NUMBERS = (0, 1, -1, 2, -2, 7, I32.min, I32.max + 1, 2**40, 2**62, I64.min, I64.max)
"""Of int64: for indices, sizes, axes, counts."""

FLOATS = (0.0, -0.0, -1.0, 1e30, -1e30, np.inf, -np.inf, np.nan)


@dataclass(frozen=True)
class Row:
    """One model, and the values of one of its inputs."""

    body: str
    inputs: str
    varied: str
    """The input that takes the values."""
    values: Sequence[np.ndarray]
    others: dict[str, np.ndarray] = field(default_factory=dict)
    outputs: str = "float[] y"
    opset: int = 18


def vectors(size: int, numbers: Sequence[int] = NUMBERS) -> list[np.ndarray]:
    """Vectors of the same number."""
    return [np.full(size, number, np.int64) for number in numbers]


def floats(*shape: int) -> np.ndarray:
    """Numbers between -1 and 1."""
    return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


SCALARS = [np.array(number, np.int64) for number in NUMBERS]
X, X4 = floats(4, 3), floats(2, 3, 4, 4)
TWO, FOUR = "float[A,B] x", "float[A,B,C,D] x"
LOOP = "body (int64 i, bool c, int64[N] s) => (bool d, int64[N] t) { d = Identity(c) t = Div(s, b) }"


def _division() -> dict[str, Row]:
    rows = {}
    for op, dtypes in {
        "Div": ("int32", "int64"),
        "Mod": ("int8", "int16", "int32", "int64", "uint8", "uint32", "uint64"),
    }.items():
        for dtype in dtypes:
            limits = np.iinfo(dtype)
            divisors = [np.full(2, number, dtype) for number in (0, limits.max, limits.min, -1 if limits.min else 1)]
            lowest = {"a": np.full(2, limits.min, dtype)}
            inputs, outputs = f"{dtype}[N] a, {dtype}[N] b", f"{dtype}[N] y"
            rows[f"{op} of {dtype}"] = Row(f"y = {op}(a, b)", inputs, "b", divisors, lowest, outputs)
    return rows


def _slices() -> dict[str, Row]:
    inputs = f"{FOUR}, int64[1] starts, int64[1] ends, int64[1] axes, int64[1] steps"
    usual = {name: np.array([number]) for name, number in {"starts": 0, "ends": 3, "axes": 2, "steps": 1}.items()}
    body = "y = Slice(x, starts, ends, axes, steps)"
    return {f"Slice: {name}": Row(body, inputs, name, vectors(1), {"x": X4} | usual) for name in usual}


def _ranges() -> dict[str, Row]:
    usual = {"a": np.array(0), "b": np.array(10), "c": np.array(1)}
    small = [
        value for value in SCALARS if abs(int(value)) < 2**30 or abs(int(value)) > 2**40
    ]  # what is between takes memory
    inputs, outputs = "int64 a, int64 b, int64 c", "int64[] y"
    return {f"Range: {name}": Row("y = Range(a, b, c)", inputs, name, small, usual, outputs) for name in usual}


def _shapes() -> dict[str, Row]:
    """Sizes that nobody has the memory for are errors."""
    huge = vectors(2, (0, 1, -1, -2, 2**40, 2**62, I64.min, I64.max))
    return {
        "Expand": Row("y = Expand(x, s)", "float[A,B] x, int64[2] s", "s", huge, {"x": floats(1, 1)}),
        "Tile": Row("y = Tile(x, s)", "float[A,B] x, int64[2] s", "s", huge, {"x": X}),
        "ConstantOfShape": Row("y = ConstantOfShape(s)", "int64[2] s", "s", huge),
        "Reshape": Row("y = Reshape(x, s)", f"{TWO}, int64[K] s", "s", [*vectors(1), *vectors(2), *vectors(9)], {"x": X}),
        "Reshape of nothing": Row("y = Reshape(x, s)", f"{TWO}, int64[K] s", "s", vectors(2), {"x": floats(0, 3)}),
        "OneHot: depth": Row(
            "y = OneHot(i, d, v)",
            "int64[N] i, int64 d, float[2] v",
            "d",
            [np.array(n) for n in (0, 1, -1, I64.min)],
            {"i": np.array([0, 5, -7]), "v": floats(2)},
        ),
        "Pad": Row("y = Pad(x, p)", f"{FOUR}, int64[8] p", "p", vectors(8, (0, 1, -1, -9, I64.min)), {"x": X4}),
    }


def _indices() -> dict[str, Row]:
    updates = {"x": X4, "u": X4}
    four = [np.full(X4.shape, number) for number in NUMBERS]
    return {
        "Gather": Row("y = Gather(x, i)", f"{FOUR}, int64[K] i", "i", vectors(2), {"x": X4}),
        "GatherElements": Row("y = GatherElements<axis = 2>(x, i)", f"{FOUR}, int64[P,Q,R,S] i", "i", four, {"x": X4}),
        "GatherND": Row(
            "y = GatherND(x, i)", f"{FOUR}, int64[1,K] i", "i", [v[None] for v in [*vectors(3), *vectors(9)]], {"x": X4}
        ),
        "ScatterElements": Row(
            "y = ScatterElements<axis = 2>(x, i, u)", f"{FOUR}, int64[P,Q,R,S] i, float[P,Q,R,S] u", "i", four, updates
        ),
        "ScatterND": Row(
            "y = ScatterND(x, i, u)",
            f"{FOUR}, int64[K,1] i, float[K,P,Q,R] u",
            "i",
            [v[:, None] for v in vectors(2)],
            updates,
        ),
        "ReverseSequence": Row("y = ReverseSequence(x, s)", f"{TWO}, int64[K] s", "s", [*vectors(3), *vectors(9)], {"x": X}),
        "Compress": Row(
            "y = Compress(x, c)", f"{TWO}, bool[K] c", "c", [np.ones(n, bool) for n in (0, 1, 12, 1000)], {"x": X}
        ),
        "NonMaxSuppression": Row(
            "y = NonMaxSuppression(b, c, m)",
            "float[1,6,4] b, float[1,2,6] c, int64[1] m",
            "m",
            vectors(1),
            {"b": floats(1, 6, 4), "c": floats(1, 2, 6)},
            "int64[] y",
        ),
    }


def _axes_and_counts() -> dict[str, Row]:
    rows = {
        "CumSum": Row("y = CumSum(x, s)", f"{TWO}, int64 s", "s", SCALARS, {"x": X}),
        "Unsqueeze": Row("y = Unsqueeze(x, a)", f"{TWO}, int64[K] a", "a", [*vectors(1), *vectors(2)], {"x": X}),
        "TopK": Row("y, z = TopK(x, k)", f"{TWO}, int64[1] k", "k", vectors(1), {"x": X}, "float[] y, int64[] z"),
        "Split": Row("y, z = Split(x, s)", f"{TWO}, int64[2] s", "s", vectors(2), {"x": X}, "float[] y, float[] z"),
        "Loop that divides": Row(
            f"m = Constant<value = int64 {{2}}>() y = Loop<body = {LOOP}>(m, , x)",
            "int64[N] x, int64[N] b",
            "b",
            vectors(2),
            {"x": np.full(2, I64.min)},
            "int64[N] y",
        ),
    }
    for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2"):
        rows[op] = Row(f"y = {op}(x, a)", f"{TWO}, int64[K] a", "a", [*vectors(1), *vectors(2)], {"x": X})
    return rows


def _numbers() -> dict[str, Row]:
    some = [np.full(3, number, np.float32) for number in FLOATS]
    grids = [np.full((2, 2, 2, 2), number, np.float32) for number in FLOATS]
    ints = {"a": np.array([0, 2, -3])}
    shifts = [np.full(3, number, np.uint64) for number in (0, 63, 64, 2**63)]
    bits = {"a": np.array([0, 2, 3], np.uint64)}
    scales = [np.array(number, np.float32) for number in FLOATS]
    two = "float[N] a, float[N] b"
    return {
        "Mod of floats": Row("y = Mod<fmod = 1>(a, b)", two, "b", some, {"a": floats(3)}),
        "Pow of integers": Row("y = Pow(a, b)", "int64[N] a, int64[N] b", "b", vectors(3), ints, "int64[N] y"),
        "BitShift": Row(
            'y = BitShift<direction = "LEFT">(a, b)', "uint64[N] a, uint64[N] b", "b", shifts, bits, "uint64[N] y"
        ),
        "Cast": Row("y = Cast<to = 6>(a)", "float[N] a", "a", some, outputs="int32[N] y"),
        "Bernoulli": Row("y = Bernoulli(a)", "float[N] a", "a", some),
        "QuantizeLinear": Row(
            "y = QuantizeLinear(x, s)", "float[N] x, float s", "s", scales, {"x": floats(3)}, "uint8[N] y"
        ),
        "GridSample": Row("y = GridSample(x, g)", f"{FOUR}, float[P,Q,R,2] g", "g", grids, {"x": X4}),
    }


HOSTILE = _division() | _slices() | _ranges() | _shapes() | _indices() | _axes_and_counts() | _numbers()


def send(row: Row, path: Path) -> dict[str, int]:
    """How often the requests of a row ended how: "answered", or with which exception."""
    model = build(row.body, inputs=row.inputs, outputs=row.outputs, opset=row.opset)
    ends: dict[str, int] = {}
    with Engine(save(model, path), config=EngineConfig(threads=1)) as engine:
        for value in row.values:
            try:
                engine.infer(path.stem, {**row.others, row.varied: value})
                end = "answered"
            except GradserveError as error:
                end = type(error).__name__
            ends[end] = ends.get(end, 0) + 1
    return ends


def main(folder: Path) -> None:
    """Writes a line of JSON for each row."""
    for number, (name, row) in enumerate(HOSTILE.items()):
        print(json.dumps([name, send(row, folder / f"m{number}.onnx")]), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
