"""Warps and blurs against float64 NumPy and torch, and their adjoints by the inner product that defines them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradserve_server.kernels import Border, blur, blur_adjoint, simd_targets, warp, warp_adjoint

THREADS = [1, 2, 5]
PAD = {Border.WRAP: "wrap", Border.EDGE: "edge", Border.REFLECT: "reflect"}

# Relative to the largest value: weights are rounded once, then four products are summed.
VALUE = 1e-6
# Of ⟨T x, y⟩ relative to |T x| |y|: float32 values, summed in float64 here.
ADJOINT = 1e-5


def affine(rng, size, spread=1.2):
    """A map from `size` that rotates, scales, shears and shifts."""
    linear = np.eye(2) + spread * rng.uniform(-1, 1, (2, 2))
    return np.concatenate([linear, rng.uniform(-max(size), max(size), (2, 1))], axis=1)


def at(plane, v, u, border, fill):
    """The pixel (v, u), wherever it lies: plane [H, W], v and u integer arrays."""
    height, width = plane.shape
    if border is Border.FILL:
        inside = (v >= 0) & (v < height) & (u >= 0) & (u < width)
        return np.where(inside, plane[np.clip(v, 0, height - 1), np.clip(u, 0, width - 1)], fill)
    reach = int(max(np.abs(v).max(), np.abs(u).max())) + 1
    padded = np.pad(plane, reach, mode=PAD[border])
    return padded[v + reach, u + reach]


def reference_warp(source, matrices, size, border, fill):
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
    out = np.empty((*source.shape[:2], *size))
    for n, c in np.ndindex(*source.shape[:2]):
        v, u = (row[0] * y + row[1] * x + row[2] for row in matrices[n])
        v0, u0 = np.floor(v).astype(int), np.floor(u).astype(int)
        plane = source[n, c].astype(np.float64)
        out[n, c] = sum(
            (1 - abs(v - v1)) * (1 - abs(u - u1)) * at(plane, v1, u1, border, fill[c])
            for v1 in (v0, v0 + 1)
            for u1 in (u0, u0 + 1)
        )
    return out


@st.composite
def warps(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = tuple(draw(st.integers(1, limit)) for limit in (3, 3, 20, 20))
    size = (draw(st.integers(1, 20)), draw(st.sampled_from([1, 5, 20, 255, 256, 257, 300])))
    matrices = np.stack([affine(rng, shape[2:]) for _ in range(shape[0])])
    return rng, rng.standard_normal(shape).astype(np.float32), matrices, size


@settings(max_examples=40, deadline=None)
@given(warps(), st.sampled_from(list(Border)))
def test_warp(case, border):
    rng, source, matrices, size = case
    fill = rng.standard_normal(source.shape[1]).astype(np.float32)
    expected = reference_warp(source, matrices, size, border, fill)
    np.testing.assert_allclose(warp(source, matrices, size, border=border, fill=fill), expected, rtol=0, atol=5 * VALUE)


@settings(max_examples=40, deadline=None)
@given(warps(), st.sampled_from(list(Border)))
def test_warp_adjoint(case, border):
    rng, source, matrices, size = case
    y = rng.standard_normal((*source.shape[:2], *size)).astype(np.float32)
    forward = warp(source, matrices, size, border=border).astype(np.float64)
    back = warp_adjoint(y, matrices, source.shape[2:], border=border).astype(np.float64)
    assert abs((forward * y).sum() - (source * back).sum()) <= ADJOINT * np.linalg.norm(forward) * np.linalg.norm(y)


@st.composite
def blurs(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = tuple(draw(st.integers(1, limit)) for limit in (3, 3, 20, 20))
    radius = draw(st.integers(0, 5))
    weights = rng.uniform(0, 1, (shape[0], 2 * radius + 1)).astype(np.float32)
    return rng, rng.standard_normal(shape).astype(np.float32), weights


@settings(max_examples=40, deadline=None)
@given(blurs(), st.sampled_from(list(Border)))
def test_blur(case, border):
    _, source, weights = case
    radius = weights.shape[1] // 2
    grid_y, grid_x = np.mgrid[: source.shape[2], : source.shape[3]]
    expected = np.zeros(source.shape)
    for n, c in np.ndindex(*source.shape[:2]):
        for i, j in np.ndindex(weights.shape[1], weights.shape[1]):
            tap = at(source[n, c].astype(np.float64), grid_y + i - radius, grid_x + j - radius, border, 0.0)
            expected[n, c] += float(weights[n, i]) * float(weights[n, j]) * tap
    scale = max(np.abs(weights).sum() ** 2, 1)
    np.testing.assert_allclose(blur(source, weights, border=border), expected, rtol=0, atol=5 * VALUE * scale)


@settings(max_examples=40, deadline=None)
@given(blurs(), st.sampled_from(list(Border)))
def test_blur_adjoint(case, border):
    rng, source, weights = case
    y = rng.standard_normal(source.shape).astype(np.float32)
    forward = blur(source, weights, border=border).astype(np.float64)
    back = blur_adjoint(y, weights, border=border).astype(np.float64)
    scale = np.abs(weights).sum() ** 2 * np.linalg.norm(source) * np.linalg.norm(y)
    assert abs((forward * y).sum() - (source * back).sum()) <= ADJOINT * scale


@pytest.mark.parametrize("border", Border)
def test_same_bits_for_any_number_of_threads_and_target(border):
    rng = np.random.default_rng(3)
    source = rng.standard_normal((2, 3, 40, 50)).astype(np.float32)
    matrices = np.stack([affine(rng, (40, 50)) for _ in range(2)])
    weights = rng.uniform(0, 1, (2, 7)).astype(np.float32)
    gradient = rng.standard_normal((2, 3, 33, 300)).astype(np.float32)
    runs = [
        (
            warp(source, matrices, (33, 300), border=border, simd=simd, threads=threads),
            warp_adjoint(gradient, matrices, (40, 50), border=border, simd=simd, threads=threads),
            blur(source, weights, border=border, threads=threads),
            blur_adjoint(source, weights, border=border, threads=threads),
        )
        for threads in THREADS
        for simd in simd_targets()
    ]
    for run in runs[1:]:
        for one, other in zip(runs[0], run, strict=True):
            assert one.tobytes() == other.tobytes()


def test_samples_do_not_see_one_another():
    rng = np.random.default_rng(4)
    source = rng.standard_normal((3, 2, 9, 11)).astype(np.float32)
    matrices = np.stack([affine(rng, (9, 11)) for _ in range(3)])
    together = warp(source, matrices, (8, 8))
    for n in range(3):
        assert warp(source[n : n + 1], matrices[n : n + 1], (8, 8)).tobytes() == together[n : n + 1].tobytes()


@pytest.mark.parametrize("border", [Border.WRAP, Border.EDGE, Border.FILL, Border.REFLECT])
def test_whole_shifts_copy_exactly(border):
    source = np.random.default_rng(5).standard_normal((1, 1, 8, 8)).astype(np.float32)
    out = warp(source, np.array([[[1.0, 0, 3], [0, 1.0, -2]]]), (8, 8), border=border)
    np.testing.assert_array_equal(out[0, 0, :5, 2:], source[0, 0, 3:, :6])
    if border is Border.WRAP:
        np.testing.assert_array_equal(out[0, 0], np.roll(source[0, 0], (-3, 2), (0, 1)))


@pytest.mark.torch
@pytest.mark.parametrize("size", [(16, 16), (7, 30), (40, 3)])
@pytest.mark.parametrize("align", [True, False])
def test_resizing_is_torchs(size, align):
    import torch

    source = np.random.default_rng(6).standard_normal((2, 3, 13, 17)).astype(np.float32)
    if align:
        ratios = [(old - 1) / max(new - 1, 1) for old, new in zip((13, 17), size, strict=True)]
        matrix = [[ratios[0], 0, 0], [0, ratios[1], 0]]
    else:
        ratios = [old / new for old, new in zip((13, 17), size, strict=True)]
        matrix = [[ratios[0], 0, ratios[0] / 2 - 0.5], [0, ratios[1], ratios[1] / 2 - 0.5]]
    out = warp(source, np.array([matrix] * 2), size, border=Border.EDGE)
    x = torch.tensor(source, requires_grad=True)
    expected = torch.nn.functional.interpolate(x, size, mode="bilinear", align_corners=align)
    # torch finds positions in float32: off by up to 17 units in the last place of a position.
    np.testing.assert_allclose(out, expected.detach().numpy(), rtol=0, atol=2e-5)
    y = np.random.default_rng(7).standard_normal(out.shape).astype(np.float32)
    expected.backward(torch.tensor(y))
    back = warp_adjoint(y, np.array([matrix] * 2), (13, 17), border=Border.EDGE)
    np.testing.assert_allclose(back, x.grad.numpy(), rtol=0, atol=2e-4)


IMAGE = np.zeros((1, 1, 4, 4), np.float32)
IDENTITY = np.array([[[1.0, 0, 0], [0, 1.0, 0]]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((IMAGE, IDENTITY[0], (4, 4)), r"matrices: expected C-contiguous float64 \[1,2,3\], got float64 \[2,3\]"),
        ((IMAGE, IDENTITY.astype(np.float32), (4, 4)), r"matrices: expected C-contiguous float64 \[1,2,3\], got float32"),
        ((IMAGE[0], IDENTITY, (4, 4)), r"source: expected C-contiguous float32 \[N,N,N,N\], got float32 \[1,4,4\]"),
        ((IMAGE, IDENTITY, (0, 4)), r"out: expected planes of 1 to 2\*\*31 - 1 values, got \[0,4\]"),
        ((IMAGE, IDENTITY + math.inf, (4, 4)), "matrices: expected finite numbers that lead to positions within 1e9"),
        ((IMAGE, IDENTITY * 1e9, (4, 4)), "matrices: expected finite numbers that lead to positions within 1e9"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        warp(*arguments)


def test_blurs_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="weights: expected an odd number for each sample, got 2"):
        blur(IMAGE, np.ones((1, 2), np.float32))
    with pytest.raises(ValueError, match="border: expected one of fill, wrap, edge, reflect, got 'mirror'"):
        blur(IMAGE, np.ones((1, 3), np.float32), border="mirror")
