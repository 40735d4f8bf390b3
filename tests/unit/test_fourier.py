"""The Fourier transform against numpy's in float64, its adjoint, and the same bits whoever computes it."""

import itertools

import numpy as np
import pytest
from support.reference import relative_error
from support.tolerances import TOLERANCE

from gradserve_server.kernels import Fourier, simd_targets

SIZES = [
    (1,), (2,), (9,), (31,), (97,), (101,), (121,),
    (1, 1), (5, 1), (1, 6), (6, 5), (28, 28), (13, 11), (33, 34), (29, 62), (64, 48), (3, 300), (202, 4),
    (3, 4, 5), (2, 7, 1, 8),
]  # fmt: skip
"""Even and odd, small factors of every kind, primes above them and their squares, axes of one; one to four of them."""


def half(sizes):
    return (*sizes[:-1], sizes[-1] // 2 + 1)


def spectra(sizes, count=2, channels=3):
    rng = np.random.default_rng(7)
    spectrum = rng.standard_normal((count, 2, channels, *half(sizes))).astype(np.float32)
    return spectrum, rng.uniform(0.5, 2, half(sizes)).astype(np.float32)


def pictures(sizes, count=2, channels=3):
    return np.random.default_rng(8).standard_normal((count, channels, *sizes)).astype(np.float32)


def axes(sizes):
    return tuple(range(-len(sizes), 0))


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_there(sizes):
    spectrum, scale = spectra(sizes)
    whole = (spectrum[:, 0] + 1j * spectrum[:, 1].astype(np.float64)) * scale
    expected = np.fft.irfftn(whole, sizes, axes(sizes)) * np.prod(sizes)
    got = Fourier(sizes).inverse(spectrum, scale)
    assert (got.shape, got.dtype) == (expected.shape, np.float32)
    assert relative_error(got, expected) < TOLERANCE["float32 Fourier transform"]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_back(sizes):
    _, scale = spectra(sizes)
    expected = np.fft.rfftn(pictures(sizes).astype(np.float64), axes=axes(sizes)) * scale
    got = Fourier(sizes).forward(pictures(sizes), scale)
    assert (got.shape, got.dtype) == ((2, 2, 3, *half(sizes)), np.float32)
    assert relative_error(got, np.stack([expected.real, expected.imag], axis=1)) < TOLERANCE["float32 Fourier transform"]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_one_is_the_adjoint_of_the_other(sizes):
    """<inverse(s), y> = <s, forward(y)>, where the columns that stand for their mirror image as well count twice."""
    spectrum, scale = spectra(sizes)
    y, transform = pictures(sizes), Fourier(sizes)
    columns = np.arange(sizes[-1] // 2 + 1)
    counts = np.where((columns == 0) | (2 * columns == sizes[-1]), 1.0, 2.0).astype(np.float32)
    there = transform.inverse(spectrum, scale).astype(np.float64)
    back = transform.forward(y, scale * counts).astype(np.float64)
    scale_of_error = np.linalg.norm(there) * np.linalg.norm(y) + np.linalg.norm(spectrum) * np.linalg.norm(back)
    assert abs((there * y).sum() - (spectrum * back).sum()) < TOLERANCE["float32 Fourier transform"] * scale_of_error


@pytest.mark.parametrize("sizes", [(28, 28), (33, 34), (5, 31), (3, 4, 5), (9,)], ids=str)
def test_bits_do_not_depend_on_threads_or_target(sizes):
    spectrum, scale = spectra(sizes)
    image = pictures(sizes)
    runs = [
        (transform.inverse(spectrum, scale).tobytes(), transform.forward(image, scale).tobytes())
        for simd, threads in itertools.product(simd_targets(), [1, 2, 5])
        for transform in [Fourier(sizes, simd=simd, threads=threads)]
    ]
    assert len(set(runs)) == 1


def test_planes_do_not_see_one_another():
    spectrum, scale = spectra((7, 9))
    image, transform = pictures((7, 9)), Fourier((7, 9))
    there, back = transform.inverse(spectrum, scale), transform.forward(image, scale)
    for n, c in np.ndindex(2, 3):
        one = (slice(n, n + 1), slice(None), slice(c, c + 1))
        assert transform.inverse(spectrum[one], scale).tobytes() == there[n, c].tobytes()
        assert transform.forward(image[n : n + 1, c : c + 1], scale).tobytes() == back[one].tobytes()


def test_nothing_of_nothing():
    transform = Fourier((4, 4))
    assert transform.inverse(np.empty((0, 2, 3, 4, 3), np.float32), np.ones((4, 3), np.float32)).shape == (0, 3, 4, 4)


@pytest.mark.parametrize("sizes", [(), (0, 3), (4, -1), (2**20, 2**20)], ids=str)
def test_sizes_that_are_none(sizes):
    with pytest.raises(ValueError, match=r"sizes: expected one or more, of 1 to 2\*\*31 - 1 pixels, got \["):
        Fourier(sizes)


@pytest.mark.parametrize(
    ("spectrum", "scale", "message"),
    [
        (np.zeros((1, 2, 1, 4, 3)), np.ones((4, 3), np.float32), r"parts: expected C-contiguous float32 .* got float64"),
        (np.zeros((1, 3, 1, 4, 3), np.float32), np.ones((4, 3), np.float32), "cannot reshape"),
        (
            np.zeros((1, 2, 1, 4, 3), np.float32),
            np.ones((4, 4), np.float32),
            r"scale: expected .* \[12\], got float32 \[16\]",
        ),
    ],
)
def test_arrays_that_do_not_fit(spectrum, scale, message):
    with pytest.raises(ValueError, match=message):
        Fourier((4, 4)).inverse(spectrum, scale)


def test_a_target_that_is_none():
    with pytest.raises(ValueError, match="simd: expected one of .*scalar, got 'mmx'"):
        Fourier((4, 4), simd="mmx")
