"""Ascents on numbers that pixels are made of, with transforms: checkpoints, sizes, and Lucid step by step in torch."""

import math

import numpy as np
import pytest

from gradserve import Checkpoint, ImageDescription, Noise, TensorDescription, presets
from gradserve import parameterizations as P
from gradserve import transforms as T
from gradserve.numbers import Linear, Normal, Uniform
from gradserve.optimizers import Adam, Sgd
from gradserve_server import EngineConfig
from gradserve_server.ascent.canvases import canvas_of
from gradserve_server.ascent.loop import ascend
from gradserve_server.ascent.spec import resolve
from gradserve_server.ascent.transforms.draws import FIRST_PURPOSE, SPREADS, STEPS_DRAWN, Draws, stream

MEAN, STD = (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)
NCHW = TensorDescription("x", "float32", ("N", 3, 8, 10), ImageDescription("NCHW", mean=MEAN, std=STD))
NHWC = TensorDescription("x", "float32", ("N", 8, 10, 3), ImageDescription("NHWC", mean=MEAN, std=STD))
STEPS = 70  # numbers are drawn for 64 steps at a time


def curved(batch, values, gradient):
    """An objective with a gradient that is different everywhere, and nowhere 0."""
    gradient[...] = np.sin(3 * batch) + 2
    values[:] = gradient.sum(axis=(1, 2, 3))


def run(tensor=NCHW, model=curved, **settings):
    spec = resolve({"steps": STEPS, "seed": 3, **settings}, [tensor], ["x"], EngineConfig())
    batch = spec.feeds["x"]
    values, gradient = np.empty(spec.count, np.float32), np.empty_like(batch)

    def runs(advance):
        model(batch, values, gradient)
        while advance():
            model(batch, values, gradient)

    return list(ascend(spec, runs, canvas_of(spec, batch, gradient), values, identity=lambda: {"m": "m"}))


def facts(steps):
    return [
        (step.index, step.values.tobytes(), step.gradient_norms.tobytes(), step.image.tobytes(), step.checkpoint.to_bytes())
        for step in steps
    ]


SEQUENCE = (
    T.Pad(2),
    T.Jitter(1),
    T.Scale(Uniform(0.9, 1.1)),
    T.Rotate(Normal(Linear(0, 9), 5)),
    T.Blur(0.7, 2),
    T.Noisy(0.1),
)
PAINTED = {
    "fourier": {"parameterization": P.Fourier(), "transforms": SEQUENCE},
    "pyramid": {"parameterization": P.Laplacian(2), "jitter": 2},
    "size": {"image_size": (13, 9), "transforms": (T.Flip(),), "bounds": (-100.0, 100.0)},
    "phases": {"parameterization": P.Phases(np.ones((3, 8, 6)))},
    "tanh": {"parameterization": P.Pixels(P.Squash.TANH), "optimizer": Sgd(0.1)},
    "apart": {"transforms": SEQUENCE, "resample_each": True, "optimizer": Adam(Linear(0.05, 0.01)), "bounds": (-9.0, 9.0)},
}


@pytest.mark.parametrize("name", PAINTED)
def test_it_goes_on_with_the_same_bytes(name):
    settings = {**PAINTED[name], "count": 2, "image_every": 1, "checkpoint_every": 1}
    whole = run(**settings)
    assert len({step.image.tobytes() for step in whole}) == STEPS + 1
    for index in (0, 1, 63, 64, 65, STEPS):
        checkpoint = Checkpoint.from_bytes(whole[index].checkpoint.to_bytes())
        assert facts(run(resume=checkpoint, **settings)) == facts(whole[index:])


@pytest.mark.parametrize("name", PAINTED)
def test_an_image_is_the_same_alone_and_in_company(name):
    alone, together = (run(**PAINTED[name], count=count)[-1].image for count in (1, 3))
    assert alone.tobytes() == together[:1].tobytes()
    assert len({image.tobytes() for image in together}) == 3


@pytest.mark.parametrize("name", [name for name in PAINTED if name != "phases"])
def test_the_start_is_the_image_that_was_given(name):
    size = PAINTED[name].get("image_size", (8, 10))
    image = np.random.default_rng(1).uniform(0.05, 0.95, (3, *size)).astype(np.float32)
    first, *_ = run(**PAINTED[name], start=image, image_every=1)
    np.testing.assert_allclose(first.image[0], image, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", PAINTED)
def test_layouts_make_the_same_image(name):
    planar, interleaved = (run(tensor, **PAINTED[name], steps=5)[-1].image for tensor in (NCHW, NHWC))
    np.testing.assert_allclose(planar, interleaved.transpose(0, 3, 1, 2), rtol=0, atol=1e-5)


def test_what_changes_nothing_changes_nothing():
    """The canvas for everything agrees with the fused one on what both can do."""
    settings = {"weight_decay": 0.01, "gradient_normalization": "std", "image_every": 1, "steps": 20, "bounds": (0.0, 1.0)}
    for direct, painted in zip(run(**settings), run(transforms=(T.Flip(0.0),), **settings), strict=True):
        np.testing.assert_allclose(direct.image, painted.image, rtol=0, atol=1e-5)
        np.testing.assert_allclose(direct.gradient_norms, painted.gradient_norms, rtol=1e-5)


def test_the_last_report_is_about_the_image_without_transforms():
    seen = []

    def model(batch, values, gradient):
        seen.append(batch.copy())
        curved(batch, values, gradient)

    *_, last = run(model=model, transforms=(T.Pad(3), T.Jitter(3)), steps=3)
    pixels = seen[-1] * np.reshape(STD, (3, 1, 1)) + np.reshape(MEAN, (3, 1, 1))
    np.testing.assert_allclose(pixels, last.image, rtol=0, atol=1e-6)


def test_pixels_stay_within_the_bounds():
    for name, settings in PAINTED.items():
        hard = {**settings, "optimizer": Adam(5.0), "bounds": (0.25, 0.5)}
        for step in run(**hard, image_every=1, steps=10):
            assert 0.25 <= step.image.min() <= step.image.max() <= 0.5, name


# ---- Lucid, in torch and float64 -------------------------------------------------------------------------------------

SIZE = 32
SQUARE = TensorDescription("x", "float32", ("N", 3, SIZE, SIZE), ImageDescription("NCHW", low=0.0, high=1.0))


class Lucid:
    """The formulas of lucid/optvis as published, on one image, with the random numbers given."""

    def __init__(self, torch, numbers):
        self.torch = torch
        self.theta = torch.tensor(numbers, dtype=torch.float64, requires_grad=True)
        self.first = torch.zeros_like(self.theta)
        self.second = torch.zeros_like(self.theta)

    def image(self):
        torch = self.torch
        fy, fx = torch.fft.fftfreq(SIZE, dtype=torch.float64)[:, None], torch.fft.rfftfreq(SIZE, dtype=torch.float64)[None]
        scale = SIZE / torch.clamp(torch.sqrt(fx**2 + fy**2), min=1 / SIZE)
        parts = self.theta.reshape(2, 3, SIZE, SIZE // 2 + 1)
        picture = torch.fft.irfft2(torch.complex(parts[0], parts[1]) * scale, (SIZE, SIZE)) / 4
        svd_sqrt = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], dtype=torch.float64)
        mixing = svd_sqrt / svd_sqrt.norm(dim=0).max()
        return torch.sigmoid(torch.einsum("ij,jhw->ihw", mixing, picture))

    def transformed(self, image, shift, factor, degrees, second_shift):
        torch = self.torch
        image = torch.nn.functional.pad(image, (12,) * 4, value=0.5)
        image = self.cropped(image, shift, 8)
        image = self.resized(image, int(image.shape[1] * factor))
        image = self.rotated(image, degrees)
        image = self.cropped(image, second_shift, 4)
        surplus = image.shape[1] - SIZE
        if surplus >= 0:
            return image[:, surplus // 2 : surplus // 2 + SIZE, surplus // 2 : surplus // 2 + SIZE]
        before = -surplus // 2
        return torch.nn.functional.pad(image, (before, -surplus - before) * 2)

    def cropped(self, image, shift, less):
        y, x = (math.floor(number * (less + 1)) for number in shift)
        return image[:, y : y + image.shape[1] - less, x : x + image.shape[2] - less]

    def resized(self, image, size):
        """TensorFlow 1's resize_bilinear: no half pixels, no alignment of corners."""
        torch, old = self.torch, image.shape[1]
        matrix = torch.zeros(size, old, dtype=torch.float64)
        for i in range(size):
            position = i * old / size
            below = int(position)
            matrix[i, below] += 1 - (position - below)
            matrix[i, min(below + 1, old - 1)] += position - below
        return torch.einsum("ia,cab,jb->cij", matrix, image, matrix)

    def rotated(self, image, degrees):
        torch, size = self.torch, image.shape[1]
        angle, centre = math.radians(degrees), (size - 1) / 2
        y, x = torch.meshgrid(*[torch.arange(size, dtype=torch.float64) - centre] * 2, indexing="ij")
        from_y, from_x = math.cos(angle) * y + math.sin(angle) * x, -math.sin(angle) * y + math.cos(angle) * x
        grid = torch.stack([from_x, from_y], -1)[None] / centre
        return torch.nn.functional.grid_sample(image[None], grid, align_corners=True)[0]

    def step(self, gradient, t):
        self.first = 0.9 * self.first + 0.1 * gradient
        self.second = 0.999 * self.second + 0.001 * gradient**2
        rate = 0.05 * math.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        with self.torch.no_grad():
            self.theta += rate * self.first / (self.second.sqrt() + 1e-8)


@pytest.mark.torch
def test_the_preset_is_lucid_step_by_step():
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 5), torch.nn.Tanh(), torch.nn.Conv2d(8, 4, 3, stride=2), torch.nn.Tanh()
    ).double()

    def objective(x):
        return net(x)[:, 1].mean((1, 2))

    def model(batch, values, gradient):
        x = torch.tensor(batch, dtype=torch.float64, requires_grad=True)
        value = objective(x)
        value.sum().backward()
        values[:], gradient[...] = value.detach().numpy(), x.grad.numpy()

    steps = run(SQUARE, model, **{**presets.lucid(SIZE), "steps": 20, "image_every": 1})
    # The random numbers, from the same streams.
    seeds = stream(3, 0, 0)
    start = np.random.Generator(np.random.Philox(seeds)).standard_normal(2 * 3 * SIZE * (SIZE // 2 + 1), np.float32)
    reference = Lucid(torch, start * np.float32(0.01))
    draws = [Draws(SPREADS[type(t)](t), stream(3, 0, FIRST_PURPOSE + k)) for k, t in enumerate(T.LUCID)]
    for index, step in enumerate(steps):
        image = reference.image()
        np.testing.assert_allclose(step.image[0], image.detach().numpy(), rtol=0, atol=1e-4, err_msg=str(index))
        _, shift, (factor,), (degrees,), second_shift = (
            each.block(0, [0.0] * STEPS_DRAWN)[index] for each in draws[:1] + draws[1:]
        )
        value = objective(reference.transformed(image, shift, factor, degrees, second_shift)[None])
        (gradient,) = torch.autograd.grad(value.sum(), reference.theta)
        if index < 20:
            np.testing.assert_allclose(step.values[0], value.item(), rtol=1e-4, atol=1e-6)
            reference.step(gradient, index + 1)
    assert np.abs(steps[-1].image - steps[0].image).max() > 0.1


def test_lucids_numbers():
    settings = presets.lucid(224)
    assert (settings["steps"], settings["start"], settings["optimizer"]) == (512, Noise(0.01), Adam(0.05, epsilon_hat=True))
    assert settings["transforms"][-1] == T.Crop(224, 224, fill=0.0)
