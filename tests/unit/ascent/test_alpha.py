"""Transparent images: step by step against torch, adjoints, checkpoints, and opaque only where that pays."""

from dataclasses import replace

import numpy as np
import pytest
from support.steps import again_and_again

from gradserve import Checkpoint, ImageDescription, Noise, TensorDescription
from gradserve import objectives as O
from gradserve import parameterizations as P
from gradserve import transforms as T
from gradserve.errors import InvalidAscent
from gradserve.optimizers import Sgd
from gradserve.projections import LInfBall
from gradserve.stopping import Value
from gradserve_server import EngineConfig
from gradserve_server.ascent.alpha import Transparency
from gradserve_server.ascent.canvases import canvas_of
from gradserve_server.ascent.loop import ascend
from gradserve_server.ascent.parameters.image import Painter
from gradserve_server.ascent.pixels import PixelSpace
from gradserve_server.ascent.spec import resolve
from gradserve_server.ascent.transforms.geometry import Range

IMAGE = TensorDescription("x", "float32", ("N", 3, 8, 9), ImageDescription(low=-1.0, high=3.0, mean=(0.5,), std=(2.0,)))
SIGNAL = TensorDescription("x", "float32", ("N", 2, 11), ImageDescription())
STEPS = 12


def curved(batch, values, gradient):
    gradient[...] = np.sin(3 * batch) + 2
    values[:] = gradient.reshape(len(batch), -1).sum(axis=1)


def run(tensor=IMAGE, model=curved, penalties=(), **settings):
    spec = resolve({"steps": STEPS, "seed": 3, "start": Noise(0.5), **settings}, [tensor], ["x"], EngineConfig())
    spec = replace(spec, penalties=penalties)
    batch = spec.feeds["x"]
    values, gradient = np.empty(spec.count, np.float32), np.empty_like(batch)
    runs = again_and_again(lambda: model(batch, values, gradient))
    return list(ascend(spec, runs, canvas_of(spec, batch, gradient), values, identity=lambda: {"m": "m"}))


SETTINGS = {
    "pixels": {},
    "fourier": {"parameterization": P.Fourier()},
    "pyramid": {"parameterization": P.Laplacian(2), "transforms": (T.Pad(2), T.Jitter(2))},
    "phases": {"parameterization": P.Phases(np.ones((3, 8, 5))), "jitter": 1},
    "over grey": {"alpha": P.Alpha(1.0, penalty=2.0)},
    "size": {"image_size": (5, 6), "transforms": (T.Noisy(0.1),), "keep": "best"},
    "done": {"stop_at": Value(1e9, 3), "keep": "best"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_it_goes_on_with_the_same_bytes_alone_and_in_company(name):
    settings = {"alpha": P.Alpha(), "count": 2, "image_every": 1, **SETTINGS[name]}
    whole = run(checkpoint_every=1, **settings)
    size = settings.get("image_size", (8, 9))
    for step in whole:
        assert step.image.shape == (2, 3, *size)
        assert step.alpha.shape == (2, *size)
        assert 0 <= step.alpha.min() <= step.alpha.max() <= 1
        assert -1 <= step.image.min() <= step.image.max() <= 3

    def facts(steps):
        return [(step.values.tobytes(), step.image.tobytes(), step.alpha.tobytes()) for step in steps]

    for index in (0, 5, STEPS):
        checkpoint = Checkpoint.from_bytes(whole[index].checkpoint.to_bytes())
        assert facts(run(resume=checkpoint, **settings)) == facts(whole[index:])
    *_, alone = run(**{**settings, "count": 1})
    assert alone.alpha.tobytes() == whole[-1].alpha[:1].tobytes()
    assert run(**{**settings, "alpha": None})[-1].alpha is None


@pytest.mark.torch
@pytest.mark.parametrize("background", [None, 0.25])
@pytest.mark.parametrize("parameterization", [P.Pixels(P.Squash.TANH), P.Fourier(1.5), P.Laplacian(2)], ids=str)
def test_steps_are_those_of_float64_autograd(parameterization, background):
    """The loss of the composite, and the penalty: the numbers after a step by sgd, from those before it."""
    import torch

    penalty, rate = 30.0, 0.01
    alpha = P.Alpha(background, penalty=penalty)
    settings = {"alpha": alpha, "parameterization": parameterization, "optimizer": Sgd(rate)}
    seen = []

    def model(batch, values, gradient):
        seen.append(batch.copy())
        gradient[...] = np.cos(batch)
        values[:] = np.sin(batch).reshape(len(batch), -1).sum(axis=1)

    steps = run(model=model, steps=4, checkpoint_every=1, image_every=1, **settings)
    spec = resolve({"seed": 3, **settings}, [IMAGE], ["x"], EngineConfig())
    behind = Transparency(alpha, parameterization, spec.image, spec.bounds, 3)
    for index in range(4):
        numbers = [np.float64(step.checkpoint.arrays["numbers"].reshape(1, -1)) for step in steps[index : index + 2]]
        image, opaque = steps[index].image.astype(np.float64), steps[index].alpha[:, None].astype(np.float64)
        ground = np.broadcast_to(behind._of(1, index), image.shape).astype(np.float64)
        shown = opaque * image + (1 - opaque) * ground
        np.testing.assert_allclose(seen[index], (shown - 0.5) / 2, rtol=0, atol=2e-6)
        value = np.sin((shown - 0.5) / 2).sum() - penalty * opaque.mean()
        np.testing.assert_allclose(steps[index].values, [value], rtol=1e-5)
        # The numbers' gradient by autograd through torch's own composite; the paint itself is tested elsewhere.
        x, a = (torch.tensor(array, requires_grad=True) for array in (image, opaque))
        composite = a * x + (1 - a) * torch.tensor(ground)
        (torch.sin((composite - 0.5) / 2).sum() - penalty * a.mean()).backward()
        split = painter_of(spec).length
        first = numbers[0].astype(np.float32)
        got = [
            painter_of(spec).pull_back(first[:, :split], image.astype(np.float32), x.grad.numpy().astype(np.float32)),
            behind.painter.pull_back(first[:, split:], opaque.astype(np.float32), a.grad.numpy().astype(np.float32)),
        ]
        expected = numbers[0] + rate * np.concatenate(got, axis=1)
        scale = np.abs(expected - numbers[0]).max()
        np.testing.assert_allclose(numbers[1], expected, rtol=0, atol=1e-4 * scale + 1e-6)


def painter_of(spec):
    return Painter(spec.parameterization, (spec.image.channels, *spec.image.sizes), Range(*spec.bounds))


@pytest.mark.parametrize("shape", [(3, 7, 8), (1, 7, 8), (2, 11), (2, 3, 4, 5)])
def test_the_composite_has_an_exact_adjoint_in_both(shape):
    space = PixelSpace(None, shape)
    behind = Transparency(P.Alpha(), P.Fourier(colours=()), space, (0.0, 1.0), 1)
    rng = np.random.default_rng(0)
    planar = (2, *space.planar_shape)
    image, change, y = (rng.uniform(0, 1, planar).astype(np.float32) for _ in range(3))
    alpha, alpha_change = (rng.uniform(0, 1, (2, 1, *planar[2:])).astype(np.float32) for _ in range(2))
    one = behind.over(image, alpha, 5).astype(np.float64)
    back, alpha_back = behind.pull_back(y)
    moved = behind.over(image + change, alpha, 5) - one
    assert abs((moved * y).sum() - (change.astype(np.float64) * back).sum()) < 1e-5 * np.linalg.norm(moved) * np.linalg.norm(
        y
    )
    faded = behind.over(image, alpha + alpha_change, 5) - one
    left, right = (faded * y).sum(), (alpha_change.astype(np.float64) * alpha_back).sum()
    assert abs(left - right) < 1e-5 * np.linalg.norm(faded) * np.linalg.norm(y)


def test_backgrounds_differ_from_step_to_step_and_image_to_image():
    behind = Transparency(P.Alpha(), P.Fourier(), PixelSpace(None, (3, 16, 16)), (0.0, 1.0), 1)
    seen = [behind._of(2, index) for index in range(20)]
    assert len({image.tobytes() for pair in seen for image in pair}) == 40
    assert 0.02 < np.std(seen) < 0.4
    assert min(map(np.min, seen)) >= 0


def test_a_transparent_image_pays_for_what_it_is_and_for_what_it_hides():
    """The penalties of both, each once: of the image itself, not of what is seen of it."""
    settings = {"alpha": P.Alpha(1.0, penalty=2.0), "image_every": 1, "steps": 3}
    (plain, *_), (both, *_) = run(**settings), run(penalties=((-0.5, O.L1()),), **settings)
    paid = 0.5 * np.abs(both.image, dtype=np.float64).sum((1, 2, 3))
    np.testing.assert_allclose(plain.values - both.values, paid, rtol=1e-6)


def test_alpha_has_the_mean_of_the_magnitudes_of_the_channels():
    """Where one channel is empty, alpha is not."""
    magnitude = np.zeros((3, 8, 5))
    magnitude[2] = 3.0
    settings = {"alpha": P.Alpha(), "image_every": 1, "steps": 1}
    first, *_ = run(parameterization=P.Phases(magnitude), **settings)
    same, *_ = run(parameterization=P.Phases(np.ones((3, 8, 5))), **settings)
    np.testing.assert_allclose(first.alpha, same.alpha, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"alpha": 0.5}, "^alpha: expected an Alpha, got float$"),
        ({"alpha": P.Alpha(), "projection": LInfBall(0.1), "parameterization": P.Pixels()}, "^alpha: expected none with a"),
        ({"alpha": P.Alpha(np.inf)}, "^alpha: background: expected a finite number"),
        ({"alpha": P.Alpha(standard_deviation=-1.0)}, "^alpha: standard_deviation: expected a finite number"),
        ({"alpha": P.Alpha(penalty=np.nan)}, "^alpha: penalty: expected a finite number"),
    ],
)
def test_what_cannot_be_transparent(settings, error):
    with pytest.raises(InvalidAscent, match=error):
        run(**settings)


def test_a_signal_may_be_transparent():
    *_, last = run(SIGNAL, alpha=P.Alpha(), parameterization=P.Fourier(colours=()))
    assert (last.image.shape, last.alpha.shape) == ((1, 2, 11), (1, 11))


@pytest.mark.parametrize("verbs", ["engine", "client"])
def test_a_digit_is_opaque_where_it_pays(request, verbs):
    settings = {"alpha": P.Alpha(penalty=3.0), "parameterization": P.Fourier(colours=()), "steps": 150}
    *_, last = request.getfixturevalue(verbs).ascend("digits", O.unit("logits", 7), **settings)
    assert last.alpha.mean() < 0.5
    assert last.alpha.max() > 0.7
    shown = last.alpha[:, None] * last.image
    logits = request.getfixturevalue("engine").infer("digits", {"image": (shown - np.float32(0.2268)) / np.float32(0.33)})
    assert logits["logits"].argmax() == 7
