"""Attacks: balls around a start, step by step against an independent PGD, and what cannot be projected."""

import itertools
import math

import numpy as np
import pytest
from support import golden, torch_digits

from gradserve import ImageDescription, TensorDescription, presets
from gradserve import objectives as O
from gradserve.errors import InvalidAscent
from gradserve.optimizers import Adam, Sgd
from gradserve.parameterizations import Fourier, Pixels, Squash
from gradserve.projections import L2Ball, LInfBall
from gradserve.transforms import Flip
from gradserve_server import EngineConfig
from gradserve_server.ascent.projection import Ball
from gradserve_server.ascent.spec import resolve

COUNT = 4
LABEL = 7
SIGN = -1
"""Away from the label."""

ULP = 2.0**-23
"""Of float32, relative to the range of the pixels, which is 1."""


def digits():
    return golden.digits()[:COUNT] * 0.33 + 0.2268


def start():
    return np.clip(digits(), 0, 1).astype(np.float32)


def attack(engine, **settings):
    steps = list(
        engine.ascend("digits", SIGN * O.unit("logits", LABEL), start=start(), count=COUNT, image_every=1, **settings)
    )
    return np.stack([step.image.astype(np.float64) for step in steps]), steps


def lengths(offset):
    return np.sqrt(np.square(offset).sum(axis=(-3, -2, -1)))


ATTACKS = {
    "fgsm": (presets.fgsm(0.1), np.inf),
    "pgd": (presets.pgd(0.1, 0.03, 8), np.inf),
    "pgd from the image": (presets.pgd(0.1, 0.03, 8, random_start=False), np.inf),
    "pgd_l2": (presets.pgd_l2(1.5, 0.4, 8), 2),
    "pgd_l2 from the image": (presets.pgd_l2(1.5, 0.4, 8, random_start=False), 2),
}


@pytest.mark.torch
@pytest.mark.parametrize("name", ATTACKS)
def test_every_step_is_that_of_an_independent_pgd(engine, name):
    """From each image that we report, float64 torch and numpy make the next; signs may differ only where it is 0."""
    import torch

    settings, norm = ATTACKS[name]
    images, _ = attack(engine, **settings)
    radius, step, centre = settings["projection"].radius, settings["optimizer"].learning_rate, start().astype(np.float64)
    assert len(images) == settings["steps"] + 1
    for before, after in itertools.pairwise(images):
        _, gradient = torch_digits.gradient(torch, before, lambda logits: SIGN * logits[:, LABEL])
        length = lengths(gradient)[:, None, None, None]
        if norm == 2:
            offset = before + step * gradient / length - centre
            expected = centre + offset * np.minimum(1, radius / lengths(offset))[:, None, None, None]
        else:
            expected = centre + np.clip(before + step * np.sign(gradient) - centre, -radius, radius)
        expected = np.clip(expected, 0, 1)
        # Rounding of the image, and of the gradient: 1e-5 of its length ("float32 network").
        tolerance = 2 * ULP + (step * 1e-5 if norm == 2 else 0)
        sure = np.ones_like(before, bool) if norm == 2 else np.abs(gradient) > 1e-5 * length
        assert sure.mean() > 0.9
        np.testing.assert_allclose(after[sure], expected[sure], rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ATTACKS)
def test_no_image_leaves_the_ball_or_the_range(engine, name):
    settings, norm = ATTACKS[name]
    images, steps = attack(engine, **settings)
    offsets, radius = images - start(), settings["projection"].radius
    farthest = lengths(offsets) if norm == 2 else np.abs(offsets).max(axis=(-3, -2, -1))
    assert farthest.max() <= radius * (1 + 4 * ULP) + ULP
    assert farthest[-1].min() > 0.5 * radius, "the attack moves"
    assert images.min() >= 0
    assert images.max() <= 1
    assert steps[-1].values.mean() > steps[0].values.mean() + 1


def test_targeted_attacks_arrive(engine):
    """Every image becomes a 3, as the model sees it, with no pixel changed by more than 0.3."""
    goal = {"start": start(), "count": COUNT, **presets.pgd(0.3, 0.02, 60)}
    objective = O.unit("logits", 3)
    for label in {*range(10)} - {3}:
        objective -= 1 / 9 * O.unit("logits", label)
    *_, last = engine.ascend("digits", objective, **goal)
    pixels = (last.image - np.float32(0.2268)) / np.float32(0.33)
    assert (engine.infer("digits", {"image": pixels})["logits"].argmax(1) == 3).all()


def test_pgds_defaults_are_torchattacks():
    assert presets.pgd() == {
        "projection": LInfBall(8 / 255, random_start=True),
        "gradient_normalization": "sign",
        "optimizer": Sgd(2 / 255),
        "steps": 10,
    }
    assert (presets.fgsm()["projection"], presets.fgsm()["optimizer"], presets.fgsm()["steps"]) == (
        LInfBall(8 / 255),
        Sgd(8 / 255),
        1,
    )
    assert (presets.pgd_l2()["projection"], presets.pgd_l2()["optimizer"]) == (L2Ball(1.0, random_start=True), Sgd(0.2))


# ---- random starts ---------------------------------------------------------------------------------------------------

VECTOR = TensorDescription("x", "float32", ("N", 5))
NCHW = TensorDescription("x", "float32", ("N", 3, 4, 5), ImageDescription())


def first(projection, count=2000, seed=0, tensor=VECTOR, **settings):
    spec = resolve(
        {"projection": projection, "count": count, "seed": seed, "start": 0.5, **settings},
        [tensor],
        ["x"],
        EngineConfig(max_images=count),
    )
    ball = Ball(projection, spec.start, spec.bounds)
    return ball.first([np.random.SeedSequence(seed, spawn_key=(n, 2)) for n in range(count)]) - spec.start, spec


def test_a_start_in_linf_is_even():
    offsets, _ = first(LInfBall(0.25, random_start=True))
    edges = np.histogram(offsets, bins=10, range=(-0.25, 0.25))[0]
    assert edges.sum() == offsets.size
    # Five standard errors of a share of 1/10 among 10000.
    np.testing.assert_allclose(edges / offsets.size, 0.1, atol=5 * math.sqrt(0.09 / offsets.size))


def test_a_start_in_l2_is_even_over_the_ball():
    """In d dimensions the share within a radius r is r^d, and no axis is preferred."""
    offsets, _ = first(L2Ball(2.0, random_start=True), bounds=(-9.0, 9.0))
    offsets = offsets.reshape(len(offsets), -1).astype(np.float64)
    radii = np.sort(np.sqrt(np.square(offsets).sum(1)) / 2.0)
    assert radii[-1] <= 1 + ULP
    even = radii**5 - (np.arange(len(radii)) + 0.5) / len(radii)
    assert np.abs(even).max() < 1.95 / math.sqrt(len(radii)), "Kolmogorov-Smirnov, 0.1 %"
    covariance = np.cov(offsets.T) / (2.0**2 / 7)  # r^2 / (d + 2)
    np.testing.assert_allclose(covariance, np.eye(5), atol=5 * math.sqrt(2 / len(offsets)))


def test_same_seed_same_start_alone_or_in_company():
    many, few, other = (first(L2Ball(1.0, random_start=True), count=n, seed=s)[0] for n, s in ((5, 1), (2, 1), (5, 2)))
    assert many[:2].tobytes() == few.tobytes()
    assert not (many == other).any()


@pytest.mark.parametrize("projection", [LInfBall(0.1, random_start=True), L2Ball(0.5, random_start=True)])
@pytest.mark.parametrize("settings", [{}, {"transforms": (Flip(),)}, {"jitter": 2}])
def test_it_goes_on_with_the_same_bytes(engine, projection, settings):
    common = {"optimizer": Adam(0.05), "projection": projection, "steps": 12, "seed": 4, **settings}
    images, steps = attack(engine, checkpoint_every=1, **common)
    for index in (0, 5, 12):
        again, _ = attack(engine, resume=steps[index].checkpoint, **common)
        assert again.tobytes() == images[index:].tobytes()


# ---- what does not fit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"projection": "linf"}, "^projection: expected one of LInfBall, L2Ball, got str$"),
        ({"projection": LInfBall(0.0)}, "^projection: expected a radius above 0, got 0.0$"),
        ({"projection": L2Ball(math.nan)}, "^projection: expected a radius above 0, got nan$"),
        ({"projection": L2Ball(math.inf)}, "^projection: "),
        ({"projection": L2Ball("far")}, "^projection: "),
        (
            {"projection": L2Ball(1.0), "parameterization": Fourier()},
            r"^projection: expected the parameterization Pixels\(\), ",
        ),
        ({"projection": L2Ball(1.0), "parameterization": Pixels(Squash.TANH)}, "^projection: expected the parameterization"),
    ],
)
def test_what_cannot_be_projected(settings, error):
    with pytest.raises(InvalidAscent, match=error):
        resolve(settings, [NCHW], ["x"], EngineConfig())


def test_a_radius_may_be_numpys():
    assert resolve({"projection": LInfBall(np.float32(0.5))}, [NCHW], ["x"], EngineConfig()).projection.radius == 0.5


def test_a_checkpoint_from_outside_is_refused(engine):
    settings = {"projection": LInfBall(0.1), "steps": 3}
    _, steps = attack(engine, checkpoint_every=1, **settings)
    checkpoint = steps[1].checkpoint
    checkpoint.arrays["image"][0, 0, 0, 0] += 0.2
    with pytest.raises(InvalidAscent, match="^resume: 'image': expected values near the start, got others$"):
        attack(engine, resume=checkpoint, **settings)


def test_steps_that_no_float_holds_stay_inside(engine):
    images, _ = attack(engine, optimizer=Sgd(3e38), gradient_normalization="sign", projection=L2Ball(0.5), steps=2)
    assert lengths(images[-1] - start()).max() <= 0.5 * (1 + 4 * ULP) + ULP
