"""Reading and writing where indices say."""

import numpy as np
import torch
from conformance.case import Case, Draw

CUBE = {"X": (3, 4, 5)}


def _ints(values):
    return np.array(values, np.int64)


def _both(op, body, inputs, function, index, *, name="", **keywords):
    """With the index as a constant and as an input."""
    cases = [Case(op, body, inputs, function, constants=index, name=f"{name} constant".strip(), **keywords)]
    return [*cases, Case(op, body, inputs, function, others=index, name=f"{name} run time".strip(), **keywords)]


def _gather(axis, index, x=(3, 4, 5), **keywords):
    index = _ints(index)

    def function(x):
        return torch.movedim(
            torch.movedim(x, axis, 0)[torch.tensor(index)], tuple(range(index.ndim)), tuple(range(axis, axis + index.ndim))
        )

    body, name = f"Y = Gather<axis = {axis}>(X, I)", f"axis {axis}, {index.tolist()}"
    return _both("Gather", body, {"X": x}, function, {"I": index}, name=name, **keywords)


GATHERS = [
    *_gather(0, [2, 0, 0, -1]),
    *_gather(1, [[1, 1], [-2, 3], [0, 1]]),
    *_gather(2, [4, -5]),
    *_gather(1, 2),
    *_gather(1, -1),
    *_gather(0, [1]),
    *_gather(2, [[-2]]),
    Case(
        "Gather", "Y = Gather<axis = -1>(X, I)", CUBE, lambda x: x[..., [1, 1]], others={"I": _ints([1, 1])}, name="axis -1"
    ),
]


def _gather_elements(axis, index):
    index = _ints(index)
    size = (3, 4)[axis]

    def function(x):
        return x.gather(axis, torch.tensor(index % size))

    body = f"Y = GatherElements<axis = {axis}>(X, I)"
    return _both("GatherElements", body, {"X": (3, 4)}, function, {"I": index}, name=f"axis {axis}")


def _gather_nd(name, index, function, batch_dims=0):
    body = f"Y = GatherND<batch_dims = {batch_dims}>(X, I)"
    return _both("GatherND", body, CUBE, function, {"I": _ints(index)}, name=name, dynamic=("none", "batch"))


PAIRS = [[[0, 1], [2, -1]], [[-3, 1], [1, 0]]]
ELEMENTS = [
    *_gather_elements(0, [[2, 0, 1, 0], [2, -1, 1, -3]]),
    *_gather_elements(-1, [[0, 0], [-1, 2], [3, 3]]),
    *_gather_nd("slices", PAIRS, lambda x: x[[[0, 2], [0, 1]], [[1, -1], [1, 0]]]),
    *_gather_nd("elements", [[0, 1, 2], [-1, -1, -1], [0, 1, 2]], lambda x: x[[0, 2, 0], [1, 3, 1], [2, 4, 2]]),
    *_gather_nd("batch", [[1], [1], [-1]], lambda x: x[[0, 1, 2], [1, 1, 3]], 1),
    *_gather_nd(
        "batch of more", [[[1], [1]], [[0], [2]], [[-1], [3]]], lambda x: x[[[0], [1], [2]], [[1, 1], [0, 2], [3, 3]]], 1
    ),
    *_gather_nd(
        "two batches",
        np.arange(12).reshape(3, 4, 1) % 5,
        lambda x: x.gather(2, torch.arange(12).reshape(3, 4, 1) % 5)[..., 0],
        2,
    ),
]

YES = np.array([False, True, True, False])
CHOSEN = [
    *_both("Compress", "Y = Compress<axis = 1>(X, C)", CUBE, lambda x: x[:, 1:3], {"C": YES}, name="axis", opsets=(18, 28)),
    *_both("Compress", "Y = Compress<axis = -1>(X, C)", CUBE, lambda x: x[..., 1:3], {"C": YES}, name="short"),
    *_both("Compress", "Y = Compress(X, C)", CUBE, lambda x: x.flatten()[1:3], {"C": YES}, name="vector"),
]


def _sorted(name, body, function, x=(3, 4), opsets=(18, 28), **keywords):
    return Case(
        body.split(" = ")[1].split("<")[0].split("(")[0],
        body,
        {"X": Draw(x, "distinct")},
        function,
        name=name,
        opsets=opsets,
        **keywords,
    )


def _top(k, axis, largest):
    def function(x):
        return torch.topk(x, k, axis, largest=bool(largest)).values

    return _sorted(
        f"axis {axis}, largest {largest}",
        f"Y, I = TopK<axis = {axis}, largest = {largest}>(X, K)",
        function,
        opsets=(18, 24),
        constants={"K": _ints([k])},
    )


def _rows(x):
    return x[torch.argsort(x[:, 0])]


SORTED = [
    _top(2, -1, 1),
    _top(3, 0, 0),
    _top(1, 1, 0),
    _sorted("", "Y = Unique(X)", lambda x: x.flatten().sort().values, evaluator=False),  # onnx's cannot name one output
    _sorted("indices", "Y, I, J, N = Unique(X)", lambda x: x.flatten().sort().values),
    _sorted("not sorted", "Y, I, J, N = Unique<sorted = 0>(X)", lambda x: x.flatten(), evaluator=False),
    _sorted("axis", "Y, I, J, N = Unique<axis = 0>(X)", _rows),
]


def _hot(axis):
    index = _ints([[1, -1, 0], [2, 5, 1]])

    def function(v):
        hit = torch.zeros(2, 3, 3, dtype=torch.bool)
        for row, column in np.ndindex(2, 3):
            if -3 <= index[row, column] < 3:
                hit[row, column, index[row, column]] = True
        return torch.where(hit.movedim(-1, axis), v[1], v[0])

    body = f"Y = OneHot<axis = {axis}>(I, D, V)"
    return Case(
        "OneHot",
        body,
        {"V": (2,)},
        function,
        others={"I": index},
        constants={"D": _ints(3)},
        name=f"axis {axis}",
        opsets=(18, 28),
        dynamic=("none", "batch"),
        evaluator=False,  # onnx's counts an index that is too large from the front again
    )


APART = ("none", "all")
"""Data, indices and updates have other sizes along axis 0."""


def _scatter(reduction, function, how="normal"):
    """ScatterElements along both axes and ScatterND of slices and of elements; places meet unless nothing is added up."""
    once = reduction == "none"
    elements = {0: [[2, 0, 1], [0, 1, -1]] if once else [[2, 0, 1], [2, 1, -2]], -1: [[3, 0, -2]] if once else [[3, 0, -1]]}
    for axis, index in elements.items():
        body = f'Y = ScatterElements<axis = {axis}, reduction = "{reduction}">(X, I, U)'
        inputs = {"X": Draw((3, 4), how), "U": Draw(np.shape(index), how)}

        def flat(x, u, index=index, axis=axis):
            grid = np.indices(np.shape(index))
            grid[axis] = np.array(index) % x.shape[axis]
            return function(x.flatten(), torch.tensor(grid[0] * 4 + grid[1]).flatten(), u.flatten()).reshape(3, 4)

        yield from _both(
            "ScatterElements", body, inputs, flat, {"I": _ints(index)}, name=f"{reduction} {axis}", opsets=(18,)
        )
    body = f'Y = ScatterND<reduction = "{reduction}">(X, I, U)'
    inputs = {"X": Draw((3, 4), how), "U": Draw((2, 4), how)}
    rows = np.array([2, -3] if once else [2, -1])

    def slices(x, u):
        places = torch.tensor((rows % 3)[:, None] * 4 + np.arange(4)).flatten()
        return function(x.flatten(), places, u.flatten()).reshape(3, 4)

    yield from _both(
        "ScatterND",
        body,
        inputs,
        slices,
        {"I": _ints(rows[:, None])},
        name=f"{reduction} slices",
        opsets=(18,),
        dynamic=APART,
    )
    cells = np.array([[2, 1], [0, -1], [1, 0]] if once else [[2, 1], [-1, 1], [1, 0]])

    def single(x, u):
        return function(x.flatten(), torch.tensor(cells[:, 0] % 3 * 4 + cells[:, 1] % 4), u).reshape(3, 4)

    inputs = {"X": Draw((3, 4), how), "U": Draw((3,), how)}
    yield from _both(
        "ScatterND", body, inputs, single, {"I": _ints(cells)}, name=f"{reduction} elements", opsets=(18,), dynamic=APART
    )


def _reduced(how):
    return lambda x, places, u: x.scatter_reduce(0, places, u, how)


def _product(x, places, u):
    """torch's own has no second derivative."""
    factors = [*x.unbind()]
    for place, value in zip(places.tolist(), u, strict=True):
        factors[place] = factors[place] * value
    return torch.stack(factors)


WRITTEN = [
    *_scatter("none", lambda x, places, u: x.scatter(0, places, u)),
    *_scatter("add", lambda x, places, u: x.scatter_add(0, places, u)),
    *_scatter("mul", _product),
    *_scatter("max", _reduced("amax")),
    *_scatter("min", _reduced("amin")),
]


def _cache(mode, starts, axis):
    """past [2, 5, 3] or with more axes before the sequence."""
    past, update = ((2, 5, 3), (2, 3, 3)) if axis == 1 else ((2, 2, 5), (2, 2, 3))

    def function(past, update):
        rows = []
        for row, new, start in zip(past.movedim(axis, 1), update.movedim(axis, 1), starts or (0, 0), strict=True):
            places = (start + torch.arange(3)) % 5
            rows.append(row.index_copy(0, places, new))
        return torch.stack(rows).movedim(1, axis)

    return Case(
        "TensorScatter",
        f'Y = TensorScatter<axis = {axis - 3}, mode = "{mode}">(P, U{", W" if starts else ""})',
        {"P": past, "U": update},
        function,
        others={"W": _ints(starts)} if starts else {},
        opsets=(24,),
        name=f"{mode} {starts} axis {axis}",
    )


CACHES = [
    _cache("linear", (1, 2), 1),
    _cache("circular", (4, 2), 1),
    _cache("linear", None, 1),
    _cache("circular", (3, 0), 2),
]

CASES = [*GATHERS, *ELEMENTS, *CHOSEN, *SORTED, _hot(-1), _hot(0), _hot(1), *WRITTEN, *CACHES]
