"""Moving values: shapes, parts, borders, copies."""

import numpy as np
import torch
from conformance.case import Case, Draw
from torch.nn import functional

BIG = 2**63 - 1
SHAPES = (18, 21, 23, 24, 25)


def _ints(*numbers):
    return np.array(numbers, np.int64)


def _simple(op, x, function, *, name="", opsets=(18, 21), more="", second=None, **keywords):
    """One float input and perhaps a constant second one."""
    constants = {} if second is None else {"C": np.asarray(second, np.int64)}
    inputs = "X, C" if second is not None else "X"
    return Case(
        op, f"Y = {op}{more}({inputs})", {"X": x}, function, name=name, opsets=opsets, constants=constants, **keywords
    )


def _runtime(op, x, function, second, **keywords):
    """With the second input known only in the run. The rank of a target must be known, so the output is made a vector."""
    others, fixed = {"C": np.asarray(second)}, ("C",)
    body, constants = f"Z = {op}(X, C) Y = Reshape(Z, V)", {"V": _ints(-1)}

    def flat(x):
        return function(x).flatten()

    return Case(op, body, {"X": x}, flat, name="run time", others=others, fixed=fixed, constants=constants, **keywords)


RESHAPES = [
    _simple("Reshape", (2, 3, 4), lambda x: x.reshape(2, 12), second=[0, -1], opsets=(18, 19, 21, 23, 24, 25)),
    _simple("Reshape", (2, 3, 4), lambda x: x.reshape(4, 6), second=[4, 6], name="all"),
    _simple("Reshape", (1, 1), lambda x: x.reshape(()), second=[], name="scalar"),
    _runtime("Reshape", (2, 3, 4), lambda x: x.reshape(2, 12), _ints(0, -1)),
    _simple("Flatten", (2, 3, 4), lambda x: x.reshape(2, 12), opsets=SHAPES),
    _simple("Flatten", (2, 3, 4), lambda x: x.reshape(6, 4), more="<axis = -1>", name="axis"),
    _simple("Flatten", (2, 3, 4), lambda x: x.reshape(1, 24), more="<axis = 0>", name="row"),
    _simple("Squeeze", (2, 1, 3, 1), lambda x: x.squeeze(1).squeeze(-1), second=[1, -1], opsets=SHAPES),
    _simple("Squeeze", (2, 1, 3, 1), lambda x: x.squeeze(), name="every", dynamic=("none",)),
    _runtime("Squeeze", (2, 1, 3, 1), lambda x: x.squeeze(1), _ints(1)),
    _simple("Unsqueeze", (2, 3), lambda x: x[:, None, :, None], second=[1, -1], opsets=SHAPES),
    _runtime("Unsqueeze", (2, 3), lambda x: x[:, None], _ints(1)),
    _simple("Transpose", (2, 3, 4), lambda x: x.permute(2, 0, 1), more="<perm = [2, 0, 1]>", opsets=SHAPES),
    _simple("Transpose", (2, 3, 4), lambda x: x.permute(2, 1, 0), name="reversed"),
]


def _reverse(x, lengths, batch, time):
    x = x.movedim((batch, time), (0, 1))
    rows = [torch.cat([row[:n].flip(0), row[n:]]) for row, n in zip(x, lengths, strict=True)]
    return torch.stack(rows).movedim((0, 1), (batch, time))


def _crd(x, b):
    return functional.pixel_shuffle(x, b)


def _dcr(x, b):
    n, c, h, w = x.shape
    return x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // b**2, h * b, w * b)


def _space_to_depth(x, b):
    n, c, h, w = x.shape
    return x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)


PERMUTATIONS = [
    Case(
        "ReverseSequence",
        "Y = ReverseSequence<batch_axis = 0, time_axis = 1>(X, L)",
        {"X": (3, 4, 2)},
        lambda x: _reverse(x, (2, 4, 1), 0, 1),
        others={"L": _ints(2, 4, 1)},
        opsets=(18, 28),
    ),
    Case(
        "ReverseSequence",
        "Y = ReverseSequence(X, L)",
        {"X": (4, 3, 2)},
        lambda x: _reverse(x, (2, 4, 1), 1, 0),
        others={"L": _ints(2, 4, 1)},
        name="default axes",
    ),
    _simple("DepthToSpace", (2, 8, 2, 3), lambda x: _dcr(x, 2), more="<blocksize = 2>", opsets=(18, 28)),
    _simple(
        "DepthToSpace", (2, 8, 2, 3), lambda x: _crd(x, 2), more='<blocksize = 2, mode = "CRD">', opsets=(18, 28), name="CRD"
    ),
    _simple("SpaceToDepth", (2, 3, 4, 2), lambda x: _space_to_depth(x, 2), more="<blocksize = 2>", opsets=(18, 28)),
    _simple(
        "SpaceToDepth",
        (2, 3, 4, 2),
        lambda x: functional.pixel_unshuffle(x, 2),
        more='<blocksize = 2, mode = "CRD">',
        opsets=(28,),
        name="CRD",
    ),
]


def _slice(name, x, function, starts, ends, axes=None, steps=None, **keywords):
    given = {"S": starts, "E": ends, "A": axes, "P": steps}
    constants = {key: _ints(*numbers) for key, numbers in given.items() if numbers is not None}
    body = "Y = Slice(" + ", ".join(["X", *(key if key in constants else "" for key in given)]).rstrip(", ") + ")"
    cases = [Case("Slice", body, {"X": x}, function, name=name, constants=constants, **keywords)]
    return [
        *cases,
        Case(
            "Slice", body, {"X": x}, function, name=f"{name}, run time", others=constants, fixed=tuple(constants), **keywords
        ),
    ]


PARTS = [
    Case(
        "Concat",
        "Y = Concat<axis = -2>(A, B, C)",
        {"A": (2, 1, 3), "B": (2, 4, 3), "C": (2, 2, 3)},
        lambda a, b, c: torch.cat([a, b, c], 1),
    ),
    Case(
        "Concat",
        "Y = Concat<axis = 0>(A, B, A)",
        {"A": (2, 3), "B": (1, 3)},
        lambda a, b: torch.cat([a, b, a]),
        name="twice",
    ),
    Case("Concat", "Y = Concat<axis = 1>(A)", {"A": (2, 3)}, lambda a: a, name="one"),
    Case(
        "Split",
        "Y, Z, W = Split<axis = 1>(X, S)",
        {"X": (2, 6)},
        lambda x: torch.split(x, [1, 2, 3], 1),
        constants={"S": _ints(1, 2, 3)},
        outputs=("Y", "Z", "W"),
    ),
    Case(
        "Split",
        "A, Y, B = Split<axis = -1, num_outputs = 3>(X)",
        {"X": (2, 7)},
        lambda x: x[:, 3:6],
        name="middle read",
    ),
    Case(
        "Split",
        "Y, Z = Split(X, S)",
        {"X": (4, 3)},
        lambda x: x[1:],
        others={"S": _ints(1, 3)},
        outputs=("Z",),
        name="run time",
    ),
    *_slice("plain", (4, 5), lambda x: x[1:3, 2:4], [1, 2], [3, 4]),
    *_slice("one axis", (2, 6, 3), lambda x: x[:, 1:-2], [1], [-2], [1]),
    *_slice("to the end", (2, 6, 3), lambda x: x[..., -2:], [-2], [BIG], [-1], [1]),
    *_slice("beyond", (4, 5), lambda x: x[:, :4], [-100, -9], [100, 4], [0, 1]),
    *_slice("backwards", (4, 5), lambda x: x.flip(0)[1:], [-2], [-BIG], [0], [-1]),
    *_slice("backwards from beyond", (4, 5), lambda x: x.flip(1)[:, :3], [100], [1], [1], [-1]),
    *_slice("every second", (2, 6, 5), lambda x: x[:, 1::2, ::3], [1, 0], [BIG, BIG], [1, 2], [2, 3]),
    *_slice("every second and one more", (6, 5), lambda x: x[::2, 1:2], [0, 1], [5, 2], [0, 1], [2, 1]),
    *_slice("every second backwards", (6, 5), lambda x: x.flip(0)[::2][:2], [-1], [1], [0], [-2]),
    *[_simple("Trilu", (2, 3, 4), torch.triu), _simple("Trilu", (2, 3, 4), torch.tril, more="<upper = 0>", name="lower")],
    *[
        Case(
            "Trilu",
            f"Y = Trilu<upper = {upper}>(X, K)",
            {"X": (2, 3, 4)},
            lambda x, k=k, upper=upper: (torch.triu if upper else torch.tril)(x, k),
            others={"K": np.array(k)},
            name=f"upper {upper}, k {k}",
        )
        for upper in (0, 1)
        for k in (-1, 2)
    ],
    _simple(
        "CenterCropPad",
        (3, 4, 6),
        lambda x: functional.pad(x, (1, 2))[:, 0:3],
        second=[3, 9],
        more="<axes = [1, -1]>",
        evaluator=False,  # onnx's fails on negative axes
    ),
    _simple("CenterCropPad", (3, 4), lambda x: functional.pad(x[:, :3], (0, 0, 0, 1)), second=[4, 3], name="all axes"),
    _runtime("CenterCropPad", (3, 4), lambda x: functional.pad(x[:, :3], (0, 0, 0, 1)), _ints(4, 3)),
]

COPIES = [
    _simple("Expand", (3, 1), lambda x: x.expand(2, 3, 4), second=[2, 3, 4]),
    _simple("Expand", (3, 4), lambda x: x.expand(2, 3, 4), second=[2, 1, 1], name="ones"),
    _simple("Expand", (), lambda x: x.expand(2, 3), second=[2, 3], name="scalar"),
    _runtime("Expand", (3, 1), lambda x: x.expand(2, 3, 4), _ints(2, 3, 4)),
    _simple("Tile", (2, 3), lambda x: x.repeat(2, 3), second=[2, 3]),
    _simple("Tile", (2, 1, 3), lambda x: x.repeat(1, 4, 1), second=[1, 4, 1], name="one axis"),
    _simple("Tile", (2, 3), lambda x: x.repeat(1, 1), second=[1, 1], name="once"),
    _runtime("Tile", (2, 3), lambda x: x.repeat(2, 3), _ints(2, 3)),
    Case(
        "Range",
        "Y = Range(A, L, B)",
        {"A": (), "B": Draw((), "positive")},
        lambda a, b: a + b * torch.arange(torch.ceil((20 - a) / b).int().item()),
        constants={"L": np.array(20.0)},
        opsets=(18, 27),
    ),
]


def _pad(mode, widths, x=(2, 4, 5), axes=None, **keywords):
    """`widths`: before and after, an axis after the other."""
    pads = np.array(widths).T.reshape(-1)
    given = {"P": pads} | ({} if axes is None else {"A": _ints(*axes)})
    body = f'Y = Pad<mode = "{mode}">(X, P{", , A" if axes else ""})'
    full = {axis % len(x): width for axis, width in zip(axes or range(len(x)), widths, strict=True)}
    negative = pads.min() < 0
    keywords |= {"evaluator": False} if negative else {}  # onnx's cannot

    def function(x):
        for axis, (before, after) in full.items():
            size = x.shape[axis]
            x = x.narrow(axis, max(-before, 0), size + min(before, 0) + min(after, 0))
            index = np.pad(np.arange(x.shape[axis]), (max(before, 0), max(after, 0)), mode=mode, **_fill(mode))
            read = x.index_select(axis, torch.tensor(np.maximum(index, 0)))
            shape = [-1 if a == axis else 1 for a in range(x.ndim)]
            x = torch.where(torch.tensor(index >= 0).reshape(shape), read, 0)
        return x

    name = f"{mode} {widths}"
    cases = [Case("Pad", body, {"X": x}, function, name=name, constants=given, **keywords)]
    # The gradient graph pads by negative numbers, which onnx's evaluator cannot.
    keywords |= {"portable_evaluator": False, "others": given, "fixed": tuple(given), "constants": {"V": _ints(-1)}}
    body = body.replace("Y", "Z") + " Y = Reshape(Z, V)"
    return [*cases, Case("Pad", body, {"X": x}, lambda x: function(x).flatten(), name=f"{name}, run time", **keywords)]


def _fill(mode):
    return {"constant_values": -1} if mode == "constant" else {}


def _constant_value(x, c):
    inside = functional.pad(torch.ones_like(x), (2, 1, 1, 0))
    return functional.pad(x, (2, 1, 1, 0)) + c * (1 - inside)


VALUED = {"X": (2, 3), "C": ()}
PADS = [
    *_pad("constant", [(0, 0), (1, 2), (0, 3)], opsets=(18, 19, 21, 23, 24, 25)),
    *_pad("constant", [(0, 0), (-1, 2), (3, -2)]),
    *_pad("constant", [(1, 0), (2, 1)], axes=(-1, 1)),
    *_pad("reflect", [(0, 0), (1, 2), (3, 4)], opsets=(18, 19, 21, 23, 24, 25)),
    *_pad("reflect", [(2, 1)], axes=(-2,)),
    *_pad("reflect", [(0, 0), (-1, 2), (2, -2)]),
    *_pad("edge", [(0, 0), (1, 2), (3, 0)]),
    *_pad("edge", [(0, 0), (0, 7), (2, -2)]),
    *_pad("wrap", [(0, 0), (1, 2), (3, 5)], opsets=(19, 21, 23, 24, 25)),
    *_pad("wrap", [(-1, 1), (-1, 2)], axes=(1, 2), opsets=(19,)),
    Case("Pad", "Y = Pad(X, P, C)", VALUED, _constant_value, constants={"P": _ints(1, 2, 0, 1)}, name="value"),
    Case(
        "Pad",
        "Y = Pad(X, P, C)",
        VALUED,
        _constant_value,
        others={"P": _ints(1, 2, 0, 1)},
        name="value, run time",
        portable_evaluator=False,
    ),
    Case(
        "Pad",
        'Y = Pad<mode = "edge">(X, P, C)',
        VALUED,
        lambda x, c: functional.pad(x[None], (2, 1), mode="replicate")[0],  # noqa: ARG005
        constants={"P": _ints(0, 2, 0, 1)},
        name="value without meaning",
    ),
]

CASES = [*RESHAPES, *PERMUTATIONS, *PARTS, *COPIES, *PADS]
