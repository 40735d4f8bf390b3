"""Fourier transforms."""

import numpy as np
import torch
from conformance.case import Case

N = np.array(4)


def _complex(x):
    return torch.view_as_complex(x) if x.shape[-1] == 2 else x[..., 0]


def _pair(y):
    return torch.view_as_real(y)


def _dft(axis, n=None, *, inverse=False, half=False):
    def function(x):
        transform = torch.fft.rfft if half else torch.fft.ifft if inverse else torch.fft.fft
        return _pair(transform(_complex(x), n=n, dim=axis))

    return function


def _case(name, attributes, inputs, shape, axis, opsets=(18,), others=None, n=None, **options):
    # Of half a spectrum with sizes that are not known, onnx infers the size of a whole one.
    dynamic = ("none", "batch") if options.get("half") else ("none", "batch", "all")
    return Case(
        "DFT", f"Y = DFT<{attributes}>({inputs})".replace("<>", ""), {"X": shape}, _dft(axis, n, **options),
        opsets=opsets, constants=others or {}, name=name, dynamic=dynamic,
    )  # fmt: skip


def _old(name, attributes, shape, axis, length=None, **options):
    others = {"L": np.array(length)} if length else {}
    inputs = "X, L" if length else "X"
    return _case(name, f"axis = {axis}{attributes}", inputs, shape, axis, (18,), others, length, **options)


def _new(name, attributes, shape, axis, length=None, **options):
    """The axis is a constant there."""
    others = {"L": np.array(length)} if length else {}
    inputs = f"X, {'L' if length else chr(34) * 2}, A"
    case = _case(name, attributes, inputs, shape, axis, (20,), others, length, **options)
    return Case(**{**vars(case), "constants": {**case.constants, "A": np.array(axis)}})


BOTH = [
    case
    for make in (_old, _new)
    for case in (
        make("real", "", (2, 5, 1), 1),
        make("complex", "", (2, 4, 3, 2), 2),
        make("inverse", f"{',' * (make is _old)} inverse = 1", (2, 5, 2), 1, inverse=True),
        make("half", f"{',' * (make is _old)} onesided = 1", (2, 5, 1), 1, half=True),
        make("half, even", f"{',' * (make is _old)} onesided = 1", (2, 4, 1), 1, half=True),
        make("longer", "", (2, 3, 1), 1, 5),
        make("shorter", f"{',' * (make is _old)} inverse = 1", (2, 5, 2), 1, 4, inverse=True),
        make("half, longer", f"{',' * (make is _old)} onesided = 1", (2, 3, 1), 1, 6, half=True),
    )
]


def _stft(step, length, *, half=True):
    def function(x, window=None):
        x = x if x.ndim == 2 else _complex(x)
        frames = x.unfold(1, length, step)
        frames = frames * window if window is not None else frames
        return _pair(torch.fft.rfft(frames) if half else torch.fft.fft(frames))

    return function


# Without `onesided`, onnx infers a whole spectrum.
# What it infers of sizes that are not known is nothing, not even the rank.
STEP, FOUR = np.array(2), np.array(4)
CASES = [
    *BOTH,
    Case("DFT", "Y = DFT(X)", {"X": (2, 5, 2)}, _dft(1), opsets=(20,), name="default axis"),
    Case(
        "STFT",
        "Y = STFT<onesided = 1>(X, S, W)",
        {"X": (2, 9, 1), "W": (4,)},
        _stft(2, 4),
        dynamic=("none", "batch"),
        constants={"S": STEP},
        opsets=(18, 20),
        name="window",
        checker=False,  # onnx gives its result no shape
    ),
    Case(
        "STFT",
        'Y = STFT<onesided = 1>(X, S, "", L)',
        {"X": (2, 9)},
        _stft(2, 4),
        dynamic=("none", "batch"),
        constants={"S": STEP, "L": FOUR},
        opsets=(18,),
        name="length",
        evaluator=False,  # its function body fails without a last axis
    ),
    Case(
        "STFT",
        "Y = STFT<onesided = 0>(X, S, W, L)",
        {"X": (2, 8, 2), "W": (4,)},
        _stft(2, 4, half=False),
        dynamic=("none", "batch"),
        constants={"S": STEP, "L": FOUR},
        opsets=(18,),
        name="complex",
        too_old="onnxruntime 1.19 reads memory that it has not written",
    ),
]
