"""Penalties in ascents: step by step against torch, in any layout, company and parameterization, and interrupted."""

from dataclasses import replace

import numpy as np
import pytest
from support.objective_formulas import OF_THE_IMAGE
from support.steps import again_and_again

from gradserve import Checkpoint, ImageDescription, Sgd, TensorDescription
from gradserve import parameterizations as P
from gradserve import transforms as T
from gradserve.errors import InvalidObjective
from gradserve.numbers import Linear
from gradserve.objectives import L1, L2, BlurInputEachStep, BoundaryComplexity, TotalVariation
from gradserve_server import EngineConfig
from gradserve_server.ascent.canvases import canvas_of
from gradserve_server.ascent.loop import ascend
from gradserve_server.ascent.penalties import checked
from gradserve_server.ascent.spec import resolve

MEAN, STD = (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)
NCHW = TensorDescription("x", "float32", ("N", 3, 8, 10), ImageDescription("NCHW", mean=MEAN, std=STD))
NHWC = TensorDescription("x", "float32", ("N", 8, 10, 3), ImageDescription("NHWC", mean=MEAN, std=STD))
ROWS = TensorDescription("x", "float32", ("N", 7))
PENALTIES = ((-0.1, L1()), (Linear(-1.0, 0.0), L2()), (-0.01, TotalVariation()), (-0.02, BoundaryComplexity(width=2)))
PENALTIES = (*PENALTIES, (Linear(-0.01, -0.2), BlurInputEachStep()))


def curved(batch, values, gradient):
    """An objective with a gradient that is different everywhere."""
    gradient[...] = np.sin(3 * batch)
    values[:] = -np.cos(3 * batch.astype(np.float64)).reshape(len(batch), -1).sum(1) / 3


def nothing(batch, values, gradient):  # noqa: ARG001
    values[:], gradient[...] = 0, 0


def run(tensor=NCHW, model=curved, penalties=PENALTIES, **settings):
    spec = resolve({"steps": 12, "seed": 3, "optimizer": Sgd(0.02), **settings}, [tensor], ["x"], EngineConfig())
    spec = replace(spec, penalties=checked(penalties, spec.image))
    batch = spec.feeds["x"]
    values, gradient = np.empty(spec.count, np.float32), np.empty_like(batch)
    runs = again_and_again(lambda: model(batch, values, gradient))
    return list(ascend(spec, runs, canvas_of(spec, batch, gradient), values, identity=lambda: {"m": "m"}))


@pytest.mark.torch
@pytest.mark.parametrize("case", OF_THE_IMAGE, ids=lambda case: case.name)
def test_steps_equal_those_of_autograd(case):
    """Pixels, not what the model sees of them, are what is penalized."""
    import torch

    ((_, term),) = case.objective.terms
    mean, std = (torch.tensor(numbers, dtype=torch.float64).reshape(3, 1, 1) for numbers in (MEAN, STD))
    start = np.random.default_rng(2).uniform(0.05, 0.95, (2, 3, 8, 10)).astype(np.float32)
    steps = run(penalties=((-0.05, term),), start=start, count=2, image_every=1, bounds=(-np.inf, np.inf), steps=5)
    image = torch.tensor(start, dtype=torch.float64)
    for step in steps:
        x = image.clone().requires_grad_()
        seen = (x - mean) / std
        values = -torch.cos(3 * seen).sum((1, 2, 3)) / 3 - 0.05 * case.formula(torch, {"x": x})
        (gradient,) = torch.autograd.grad(values.sum(), x)
        np.testing.assert_allclose(step.image, image.numpy(), rtol=0, atol=1e-5)
        np.testing.assert_allclose(step.values, values.detach().numpy(), rtol=1e-5)
        np.testing.assert_allclose(step.gradient_norms, gradient.flatten(1).norm(dim=1).numpy(), rtol=1e-4)
        image = image + 0.02 * gradient


PAINTED = {
    "pixels": {},
    "jitter": {"jitter": 2},
    "transforms": {"transforms": (T.Pad(2), T.Jitter(1), T.Rotate(5.0))},
    "fourier": {"parameterization": P.Fourier()},
    "pyramid": {"parameterization": P.Laplacian(2)},
    "size": {"image_size": (13, 9)},
}


@pytest.mark.parametrize("name", PAINTED)
def test_an_image_is_the_same_alone_and_in_company(name):
    alone, together = (run(**PAINTED[name], count=count)[-1] for count in (1, 3))
    assert alone.image.tobytes() == together.image[:1].tobytes()
    assert alone.values[0] == together.values[0]


@pytest.mark.parametrize("name", PAINTED)
def test_it_goes_on_with_the_same_bytes(name):
    settings = {**PAINTED[name], "count": 2, "image_every": 1, "checkpoint_every": 1}
    whole = run(**settings)
    for index in (0, 5, 12):
        rest = run(resume=Checkpoint.from_bytes(whole[index].checkpoint.to_bytes()), **settings)
        for before, after in zip(whole[index:], rest, strict=True):
            assert before.image.tobytes() == after.image.tobytes()
            assert before.values.tobytes() == after.values.tobytes()


@pytest.mark.parametrize("name", PAINTED)
def test_layouts_make_the_same_image(name):
    planar, interleaved = (run(tensor, **PAINTED[name], steps=5)[-1].image for tensor in (NCHW, NHWC))
    np.testing.assert_allclose(planar, interleaved.transpose(0, 3, 1, 2), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["pixels", "fourier", "pyramid"])
def test_the_gradient_is_that_of_what_is_painted(name):
    """A small step up the gradient g raises the value by rate * |g|^2."""
    smooth = ((-1.0, L2(constant=0.2)), (-0.5, BoundaryComplexity(width=2)))
    rate = 1e-4
    first, second = run(model=nothing, penalties=smooth, **PAINTED[name], optimizer=Sgd(rate), steps=1)
    np.testing.assert_allclose(second.values - first.values, rate * first.gradient_norms**2, rtol=1e-2)


def test_scales_change_from_the_first_step_to_the_last():
    """The image stands still, so that only the scale moves the value."""
    steps = run(model=nothing, penalties=((Linear(-1.0, -3.0), L1()),), start=0.5, optimizer=Sgd(1e-30), steps=5)
    norm = 0.5 * 3 * 8 * 10
    assert [step.value / norm for step in steps] == pytest.approx([-1, -1.5, -2, -2.5, -3, -3])


def test_what_is_no_image_has_norms_and_no_neighbours():
    *_, last = run(ROWS, penalties=((-1.0, L2()), (-0.1, L1())), steps=3)
    assert last.image.shape == (1, 7)
    for term in (TotalVariation(), BoundaryComplexity(), BlurInputEachStep()):
        with pytest.raises(InvalidObjective, match=r"expected an image \[N,C,H,W\], got samples of shape \[7\]"):
            run(ROWS, penalties=((-1.0, term),))


def test_a_penalty_that_is_infinite_ends_the_ascent_with_the_last_image():
    *_, last = run(penalties=((3e38, L1(constant=3e38)),), steps=3)
    assert last.stop_reason == "non_finite"
    assert np.isfinite(last.image).all()
