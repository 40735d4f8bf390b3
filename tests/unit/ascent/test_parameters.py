"""Parameterizations against their formulas in float64 torch: pictures, gradients, and numbers for a given picture."""

import typing

import numpy as np
import pytest

from gradserve import parameterizations as P
from gradserve.errors import InvalidAscent
from gradserve_server.ascent.parameters.image import SQUASHES, Painter
from gradserve_server.ascent.parameters.spatial import SPATIAL
from gradserve_server.ascent.transforms.geometry import Range

# Relative to the largest value: transforms in float32 of a few hundred numbers.
PICTURE = 3e-6
GRADIENT = 2e-5

OWN_COLOURS = ((1.0, 0.2), (-0.3, 0.5))


def magnitude(shape, seed=3):
    return np.random.default_rng(seed).uniform(0.1, 3, (*shape[:-1], shape[-1] // 2 + 1)).astype(np.float32)


CASES = [
    (P.Pixels(P.Squash.SIGMOID), (3, 8, 6)),
    (P.Pixels(P.Squash.TANH, P.IMAGENET_COLOURS), (3, 8, 6)),
    (P.Fourier(), (3, 8, 6)),
    (P.Fourier(1.5, P.Squash.TANH, ()), (1, 7, 9)),
    (P.Fourier(0.85, P.Squash.SIGMOID, OWN_COLOURS), (2, 8, 7)),
    (P.Fourier(colours=()), (1, 1, 12)),
    (P.Laplacian(), (3, 16, 12)),
    (P.Laplacian(3, P.Squash.TANH, ()), (1, 9, 7)),
    (P.Laplacian(1), (3, 4, 4)),
    (P.Phases(magnitude((3, 8, 6))), (3, 8, 6)),
    (P.Phases(magnitude((2, 7, 9)), colours=OWN_COLOURS), (2, 7, 9)),
    # Signals and volumes.
    (P.Pixels(P.Squash.SIGMOID), (2, 5, 4, 3)),
    (P.Fourier(colours=OWN_COLOURS), (2, 21)),
    (P.Fourier(colours=()), (1, 16)),
    (P.Fourier(1.5, P.Squash.TANH), (3, 5, 6, 7)),
    (P.Fourier(colours=()), (2, 4, 1, 6)),
    (P.Laplacian(3, colours=()), (2, 21)),
    (P.Laplacian(3), (3, 6, 7, 9)),
    (P.Laplacian(2, colours=()), (1, 4, 3, 5, 2)),
    (P.Phases(magnitude((2, 21)), colours=OWN_COLOURS), (2, 21)),
    (P.Phases(magnitude((3, 4, 5, 6))), (3, 4, 5, 6)),
]
PIXELS = Range(-2.0, 3.0)


def ids(case):
    return f"{type(case[0]).__name__}-{case[1]}"


def test_every_parameterization_and_squash_has_a_case():
    assert set(typing.get_args(P.Parameterization)) == set(SPATIAL) == {type(p) for p, _ in CASES}
    assert set(SQUASHES) == set(P.Squash)


def numbers(painter, count=2, seed=1):
    return np.random.default_rng(seed).standard_normal((count, painter.length)).astype(np.float32)


# ---- the formulas in torch, float64 ----------------------------------------------------------------------------------


def _standardized(x):
    axes = tuple(range(1, x.ndim))
    mean, deviation = x.mean(axes, keepdim=True), x.std(axes, correction=0, keepdim=True)
    return (x - mean) / (deviation + 1e-5)


def _enlarged(torch, part, sizes):
    """Linear along every axis, one after the other."""
    for axis, size in enumerate(sizes, start=2):
        rows = part.movedim(axis, -1)
        flat = rows.reshape(1, -1, rows.shape[-1])
        part = torch.nn.functional.interpolate(flat, size, mode="linear").reshape(*rows.shape[:-1], size).movedim(-1, axis)
    return part


def _picture(torch, p, theta, shape):
    channels, *sizes = shape
    half, count, axes = (*sizes[:-1], sizes[-1] // 2 + 1), len(theta), tuple(range(-len(sizes), 0))
    match p:
        case P.Pixels():
            return theta.reshape(count, *shape)
        case P.Fourier():
            parts = theta.reshape(count, 2, channels, *half)
            lines = [torch.fft.fftfreq(size, dtype=torch.float64) for size in sizes[:-1]]
            lines.append(torch.fft.rfftfreq(sizes[-1], dtype=torch.float64))
            f = torch.sqrt(sum(line**2 for line in torch.meshgrid(*lines, indexing="ij")))
            scale = np.prod(sizes) ** 0.5 / torch.clamp(f, min=1 / max(sizes)) ** p.decay
            return torch.fft.irfftn(torch.complex(parts[:, 0], parts[:, 1]) * scale, sizes, axes) / 4
        case P.Laplacian():
            total, begin = 0, 0
            for level in range(p.levels):
                level_sizes = [-(-size // 2**level) for size in sizes]
                end = begin + channels * int(np.prod(level_sizes))
                part = theta[:, begin:end].reshape(count, channels, *level_sizes)
                total = total + _enlarged(torch, part, sizes)
                begin = end
            assert begin == theta.shape[1]
            return total
        case P.Phases():
            phase = _standardized(theta.reshape(count, channels, *half))
            size = torch.tensor(p.magnitude, dtype=torch.float64)
            spectrum = torch.complex(torch.cos(phase) * size, torch.sin(phase) * size)
            return _standardized(torch.fft.irfftn(spectrum, sizes, axes))


def torch_paint(torch, p, theta, shape):
    picture = _picture(torch, p, theta, shape)
    if p.colours:
        picture = torch.einsum("ij,nj...->ni...", torch.tensor(p.colours, dtype=torch.float64), picture)
    share = torch.sigmoid(picture) if p.squash == P.Squash.SIGMOID else (torch.tanh(picture) + 1) / 2
    return (PIXELS.low + PIXELS.width * share).reshape(len(theta), shape[0], -1, shape[-1])


@pytest.mark.torch
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_pixels_and_gradients_are_those_of_float64_autograd(case):
    import torch

    p, shape = case
    painter = Painter(p, shape, PIXELS)
    theta = numbers(painter)
    x = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
    expected = torch_paint(torch, p, x, shape)
    painted = painter.paint(theta)
    assert painted.dtype == np.float32
    np.testing.assert_allclose(painted, expected.detach(), rtol=0, atol=PICTURE * PIXELS.width)
    y = np.random.default_rng(2).standard_normal(painted.shape).astype(np.float32)
    expected.backward(torch.tensor(y, dtype=torch.float64))
    gradient = painter.pull_back(theta, painted, y)
    assert gradient.dtype == np.float32
    np.testing.assert_allclose(gradient, x.grad, rtol=0, atol=GRADIENT * float(x.grad.abs().max()))


@pytest.mark.parametrize("case", [case for case in CASES if not isinstance(case[0], P.Phases)], ids=ids)
def test_numbers_make_the_picture_again(case):
    painter = Painter(*case, PIXELS)
    pixels = np.random.default_rng(4).uniform(-1.9, 2.9, (2, *case[1])).astype(np.float32)
    pixels = pixels.reshape(2, case[1][0], -1, case[1][-1])
    np.testing.assert_allclose(painter.paint(painter.numbers(pixels)), pixels, rtol=0, atol=2e-4)


def test_numbers_of_a_pixel_at_its_bound_are_finite():
    painter = Painter(P.Pixels(P.Squash.SIGMOID), (1, 1, 2), PIXELS)
    theta = painter.numbers(np.array([[[[-2.0, 3.0]]]], np.float32))
    np.testing.assert_allclose(painter.paint(theta), [[[[-2.0, 3.0]]]], atol=6e-4)


def test_the_phases_of_an_image_keep_its_structure():
    rng = np.random.default_rng(5)
    image = rng.uniform(-1.9, 2.9, (1, 3, 16, 16)).astype(np.float32)
    p = P.Phases(P.magnitude_of(image))
    painter = Painter(p, (3, 16, 16), PIXELS)
    again = painter.paint(painter.numbers(image))
    assert np.corrcoef(again.ravel(), image.ravel())[0, 1] > 0.5


def test_imagenets_colours_are_lucids_to_the_published_digits():
    published = [[0.562829, 0.194825, 0.043295], [0.584476, 0, -0.108236], [0.584476, -0.194825, 0.064942]]
    np.testing.assert_allclose(P.IMAGENET_COLOURS, published, atol=1e-6)


def test_colours_of_images_are_those_that_their_channels_share():
    rng = np.random.default_rng(6)
    mixing = np.array([[2.0, 0.0, 0.1], [1.5, 1.0, 0.0], [0.2, 0.3, 0.5]])
    images = [np.einsum("ij,jhw->ihw", mixing, rng.standard_normal((3, 90, 80))) for _ in range(3)]
    colours = np.array(P.colours_of(images))
    ratio = (colours @ colours.T) / (mixing @ mixing.T)
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=0.2)
    assert abs(np.linalg.norm(colours, axis=0).max() - 1) < 1e-6


def test_magnitudes_are_those_of_the_mean_image():
    image = np.random.default_rng(7).uniform(0, 1, (3, 8, 6))
    spectrum = np.abs(np.fft.rfft2(image - image.mean((1, 2), keepdims=True)))
    np.testing.assert_allclose(P.magnitude_of([image, image], ()), spectrum, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("parameterization", "pixels", "message"),
    [
        (P.Fourier(), Range(0.0, np.inf), "expected finite bounds .* for sigmoid, got 0.0 to inf"),
        (P.Fourier(colours=OWN_COLOURS), PIXELS, "colours: expected an invertible matrix of 3x3"),
        (P.Pixels(P.Squash.TANH, ((1.0, 0, 0),) * 3), PIXELS, "colours: expected an invertible matrix of 3x3"),
        (P.Laplacian(9), PIXELS, "levels: expected 1 to 4 for 8x6, got 9"),
        (P.Laplacian(0), PIXELS, "levels: expected 1 to 4 for 8x6, got 0"),
        (P.Phases(np.zeros((3, 8, 6))), PIXELS, r"magnitude: expected finite numbers of shape \[3, 8, 4\], got \[3, 8, 6\]"),
        (P.Phases(np.full((3, 8, 4), np.nan)), PIXELS, r"magnitude: expected finite numbers of shape \[3, 8, 4\]"),
    ],
)
def test_what_does_not_go_together_is_refused(parameterization, pixels, message):
    with pytest.raises(InvalidAscent, match=message):
        Painter(parameterization, (3, 8, 6), pixels)
