"""What images of a batch have in common: against torch, adjoints, steps, checkpoints, and images that must stay."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from support.steps import again_and_again

from gradserve import Adam, Checkpoint, GradientNormalization, ImageDescription, Noise, TensorDescription
from gradserve import objectives as O
from gradserve import parameterizations as P
from gradserve import transforms as T
from gradserve.errors import InvalidAscent, TooLarge
from gradserve.optimizers import Sgd
from gradserve.parameterizations import Shared
from gradserve.projections import LInfBall
from gradserve.stopping import Value
from gradserve_server import EngineConfig
from gradserve_server.ascent.canvases import canvas_of
from gradserve_server.ascent.loop import ascend
from gradserve_server.ascent.pixels import PixelSpace
from gradserve_server.ascent.shared import SharedNumbers, mixing
from gradserve_server.ascent.spec import resolve

IMAGE = TensorDescription("x", "float32", ("N", 3, 8, 9), ImageDescription(low=-1.0, high=3.0, mean=(0.5,), std=(2.0,)))
STEPS = 12
COUNT = 4
LEVELS = (Shared(1, 2), Shared(2, 3), Shared(3, 1))

# Relative to the largest value.
PICTURE = 2e-6
GRADIENT = 2e-6
STEP = 2e-5
ROUNDING = 2e-7
"""Of the numbers, which are about 1."""


def curved(batch, values, gradient):
    gradient[...] = np.sin(3 * batch) + 2
    values[:] = gradient.reshape(len(batch), -1).sum(axis=1)


def run(tensor=IMAGE, model=curved, **settings):
    settings = {"steps": STEPS, "seed": 3, "count": COUNT, "start": Noise(0.5), "shared": LEVELS, **settings}
    spec = resolve({"parameterization": P.Fourier(), **settings}, [tensor], ["x"], EngineConfig())
    batch = spec.feeds["x"]
    values, gradient = np.empty(spec.count, np.float32), np.empty_like(batch)
    runs = again_and_again(lambda: model(batch, values, gradient))
    return list(ascend(spec, runs, canvas_of(spec, batch, gradient), values, identity=lambda: {"m": "m"}))


def numbers_of(shared, shape, count, deviation=1.0):
    rules = {"rule": Sgd(1.0), "normalization": GradientNormalization.NONE, "weight_decay": 0.0}
    return SharedNumbers(shared, PixelSpace(None, shape), count, seed=1, deviation=deviation, **rules)


def level(step, index):
    return step.checkpoint.arrays[f"shared {index}: numbers"]


# ---- the formula -----------------------------------------------------------------------------------------------------

CASES = [
    (Shared(), (3, 8, 6), 2),
    (Shared(1, 16), (3, 16, 12), 5),
    (Shared(2, 3), (1, 8, 7), 7),
    (Shared(3, 1), (2, 5, 4), 7),
    (Shared(5, 2), (3, 7, 9), 5),
    (Shared(4, 4), (2, 21), 6),
    (Shared(2, 4), (12,), 5),
    (Shared(3, 2), (2, 5, 4, 3), 4),
    (Shared(2, 2), (1, 3, 4, 5, 2), 3),
]


def interpolated(torch, small, sizes, count):
    """[images, C, ...] to [count, C, *sizes], along every axis, by torch alone: for images it is one `trilinear` call."""
    moved = small.movedim(0, 1)
    for axis, size in enumerate((count, *sizes), start=1):
        rows = moved.movedim(axis, -1)
        flat = rows.reshape(1, -1, rows.shape[-1])
        enlarged = torch.nn.functional.interpolate(flat, size, mode="linear")
        moved = enlarged.reshape(*rows.shape[:-1], size).movedim(-1, axis)
    return moved.movedim(1, 0)


@pytest.mark.torch
@pytest.mark.parametrize("case", CASES, ids=str)
def test_pictures_and_gradients_are_those_of_float64_autograd(case):
    import torch

    shared, shape, count = case
    ours = numbers_of([shared], shape, count)
    channels, *sizes = shape if len(shape) > 1 else (1, *shape)
    small = [-(-size // shared.factor) for size in sizes]
    theta = ours.arrays()["shared 0: numbers"]
    x = torch.tensor(theta.reshape(shared.images, channels, *small), dtype=torch.float64, requires_grad=True)
    expected = interpolated(torch, x, sizes, count)
    if len(sizes) == 2:
        once = torch.nn.functional.interpolate(x.movedim(0, 1)[None], (count, *sizes), mode="trilinear")[0].movedim(1, 0)
        torch.testing.assert_close(once, expected)
    picture = ours.picture()
    assert picture.dtype == np.float32
    expected = expected.reshape(picture.shape)
    np.testing.assert_allclose(picture, expected.detach(), rtol=0, atol=PICTURE * float(expected.detach().abs().max()))
    y = np.random.default_rng(2).standard_normal(picture.shape).astype(np.float32)
    expected.backward(torch.tensor(y, dtype=torch.float64))
    got = ours._levels[0].pull_back(y)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got.reshape(x.shape), x.grad, rtol=0, atol=GRADIENT * float(x.grad.abs().max()))


@pytest.mark.parametrize("seed", range(24))
def test_the_adjoint_is_exact(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 9))
    shape = tuple(rng.integers(1, 14, rng.integers(1, 5)).tolist())
    shared = Shared(int(rng.integers(1, count + 1)), int(rng.integers(1, max(shape[1:], default=shape[0]) + 1)))
    ours = numbers_of([shared], shape, count)
    (one,) = ours._levels
    seen = ours.picture().astype(np.float64)
    y = rng.standard_normal(seen.shape).astype(np.float32)
    left, right = (seen * y).sum(), (one.numbers.astype(np.float64) * one.pull_back(y)).sum()
    assert abs(left - right) <= 1e-5 * np.linalg.norm(seen) * np.linalg.norm(y)


@pytest.mark.parametrize("count", range(1, 9))
def test_each_image_is_made_of_its_nearest_and_all_are_used(count):
    assert mixing(1, count) == [[(0, 1.0)]] * count
    assert mixing(count, count) == [[(n, 1.0)] for n in range(count)]
    for images in range(1, count + 1):
        made_of = mixing(images, count)
        assert {row for pairs in made_of for row, _ in pairs} == set(range(images))
        for pairs in made_of:
            assert abs(sum(weight for _, weight in pairs) - 1) < 1e-6
            assert min(weight for _, weight in pairs) > 0
        places = [sum(row * weight for row, weight in pairs) for pairs in made_of]
        assert all(before <= after for before, after in pairwise(places))


@pytest.mark.torch
@pytest.mark.parametrize("normalization", ["none", "l2"])
@pytest.mark.parametrize("parameterization", [P.Pixels(P.Squash.TANH, P.IMAGENET_COLOURS), P.Pixels(P.Squash.SIGMOID)])
def test_steps_are_those_of_float64_autograd(parameterization, normalization):
    """Own numbers and shared ones after a step by sgd, from those before it, each normalized by itself."""
    import torch

    rate = 0.05
    steps = run(
        model=lambda batch, values, gradient: (np.cos(batch, out=gradient), np.sin(batch).sum(axis=(1, 2, 3), out=values)),
        **{"parameterization": parameterization, "optimizer": Sgd(rate), "gradient_normalization": normalization},
        **{"steps": 3, "checkpoint_every": 1, "image_every": 1},
    )
    shapes = {"numbers": (COUNT, 3, 8, 9)} | {
        f"shared {index}: numbers": (one.images, 3, -(-8 // one.factor), -(-9 // one.factor))
        for index, one in enumerate(LEVELS)
    }
    for before, after in pairwise(steps):
        theta = {
            name: torch.tensor(before.checkpoint.arrays[name].reshape(shape), dtype=torch.float64, requires_grad=True)
            for name, shape in shapes.items()
        }
        own, *shared = theta.values()
        picture = own + sum(interpolated(torch, one, (8, 9), COUNT) for one in shared)
        if parameterization.colours:
            picture = torch.einsum("ij,njhw->nihw", torch.tensor(parameterization.colours, dtype=torch.float64), picture)
        tanh = parameterization.squash == P.Squash.TANH
        share = (torch.tanh(picture) + 1) / 2 if tanh else torch.sigmoid(picture)
        pixels = -1 + 4 * share
        np.testing.assert_allclose(before.image, pixels.detach(), rtol=0, atol=4e-6)
        torch.sin((pixels - 0.5) / 2).sum().backward()
        lengths = own.grad.reshape(COUNT, -1).norm(dim=1)
        np.testing.assert_allclose(before.gradient_norms, lengths, rtol=1e-5)
        for name, one in theta.items():
            rows = one.grad.reshape(len(one), -1)
            size = rows.norm(dim=1, keepdim=True) if normalization == "l2" else 1.0
            update = rate * rows / size
            got = after.checkpoint.arrays[name].reshape(rows.shape) - one.detach().reshape(rows.shape).numpy()
            np.testing.assert_allclose(got, update, rtol=0, atol=STEP * float(update.abs().max()) + ROUNDING)


def test_moments_are_corrected_for_the_steps_that_there_were():
    """The first step of Adam is the rate times the gradient's sign, of shared numbers as of an image's own."""
    before, after, *_ = run(optimizer=Adam(0.1), checkpoint_every=1)
    for name in ("numbers", *(f"shared {index}: numbers" for index in range(3))):
        moved = after.checkpoint.arrays[name] - before.checkpoint.arrays[name]
        assert 0.099 < np.quantile(np.abs(moved), 0.2) <= np.abs(moved).max() < 0.101


# ---- ascents ---------------------------------------------------------------------------------------------------------

SETTINGS = {
    "fourier": {},
    "pixels": {"parameterization": P.Pixels()},
    "pyramid": {"parameterization": P.Laplacian(2), "transforms": (T.Pad(2), T.Jitter(2)), "weight_decay": 0.1},
    "phases": {"parameterization": P.Phases(np.ones((3, 8, 5))), "jitter": 1},
    "transparent": {"alpha": P.Alpha(penalty=0.1)},
    "size": {"image_size": (5, 6), "keep": "best"},
    "moments": {"optimizer": Adam(0.1), "gradient_normalization": "l2", "stop_at": Value(1e9, 3)},
    "given": {"start": 0.25},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_it_goes_on_with_the_same_bytes(name):
    settings = {"image_every": 1, **SETTINGS[name]}
    whole = run(checkpoint_every=1, **settings)
    for index in (0, 5, STEPS):
        checkpoint = Checkpoint.from_bytes(whole[index].checkpoint.to_bytes())
        again = run(resume=checkpoint, **settings)
        assert [step.image.tobytes() for step in again] == [step.image.tobytes() for step in whole[index:]]
    assert all(not np.array_equal(level(whole[0], index), level(whole[-1], index)) for index in range(3))
    with pytest.raises(InvalidAscent, match="resume: expected the arrays"):
        run(resume=whole[3].checkpoint, **{**settings, "shared": LEVELS[:2]})


def test_what_is_shared_begins_with_nothing_where_an_image_is_given():
    rng = np.random.default_rng(0)
    start = rng.uniform(-0.9, 2.9, (COUNT, 3, 8, 9)).astype(np.float32)
    first, *_ = run(start=start, image_every=1, checkpoint_every=1)
    np.testing.assert_allclose(first.image, start, rtol=0, atol=2e-4)
    assert not any(level(first, index).any() for index in range(3))
    first, *_ = run(checkpoint_every=1)
    drawn = np.concatenate([level(first, index).ravel() for index in range(3)])
    assert abs(drawn.std() - 0.5) < 0.05
    assert len(np.unique(drawn)) > 0.99 * drawn.size


def test_an_image_that_is_done_stays_and_so_does_what_it_is_made_of():
    """Image 0 of four is done at once: of two rows it is the first alone, of three as well, of one all are."""

    def model(batch, values, gradient):
        curved(batch, values, gradient)
        values[:] = [1, 0, 0, 0]

    settings = {"stop_at": Value(1.0), "image_every": 1, "checkpoint_every": 1, "optimizer": Adam(0.1)}
    first, *_, last = run(model=model, **settings)
    assert last.reached.tolist() == [True, False, False, False]
    assert last.image[0].tobytes() == first.image[0].tobytes()
    assert (last.image[1:] != first.image[1:]).any(axis=(1, 2, 3)).all()
    for index, rows in enumerate(([False], [False, True], [False, True, True])):
        assert (level(first, index) != level(last, index)).any(axis=(1, 2, 3)).tolist() == rows
    assert (last.gradient_norms > 0).all()


def test_an_image_without_a_gradient_stays_and_the_others_go_on():
    def model(batch, values, gradient):
        curved(batch, values, gradient)
        gradient[3, 1, 2] = np.nan

    first, *_, last = run(model=model, image_every=1, checkpoint_every=1)
    assert last.image[3].tobytes() == first.image[3].tobytes()
    assert (last.image[:3] != first.image[:3]).any(axis=(1, 2, 3)).all()
    assert (level(first, 1) != level(last, 1)).any(axis=(1, 2, 3)).tolist() == [True, False]
    assert all(np.isfinite(level(last, index)).all() for index in range(3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shared": Shared()}, r"^shared: expected a sequence of Shared, got Shared\("),
        ({"shared": (1,)}, "^shared: expected a sequence of Shared, got"),
        ({"shared": 3}, "^shared: expected a sequence of Shared, got 3"),
        ({"shared": (Shared(5),)}, "^shared: images: expected a whole number from 1 to 4, got 5"),
        ({"shared": (Shared(0),)}, "^shared: images: expected a whole number from 1 to 4, got 0"),
        ({"shared": (Shared(1, 10),)}, "^shared: factor: expected a whole number from 1 to 9, got 10"),
        ({"shared": (Shared(1, 0.5),)}, "^shared: factor: expected a whole number from 1 to 9, got 0.5"),
        ({"parameterization": P.Pixels(), "projection": LInfBall(0.1)}, "^shared: expected none with a projection, got"),
    ],
)
def test_what_does_not_fit_is_refused(settings, message):
    with pytest.raises(InvalidAscent, match=message):
        run(**settings)


def test_it_takes_no_more_memory_than_is_allowed():
    spec = {"count": 3, "parameterization": P.Fourier(), "shared": (Shared(3, 1),) * 405}
    with pytest.raises(TooLarge, match=r"^shared: expected at most 1 MiB for all \(max_ascent_mib\)"):
        resolve(spec, [IMAGE], ["x"], EngineConfig(max_ascent_mib=1))
    resolve({**spec, "shared": spec["shared"][1:]}, [IMAGE], ["x"], EngineConfig(max_ascent_mib=1))


def test_served_or_not_alone_or_in_company_it_is_the_same(engine, client):
    settings = {"count": 4, "shared": (Shared(1, 4), Shared(2, 8)), "parameterization": P.Fourier(colours=()), "steps": 40}

    def last(verbs, unit):
        *_, step = verbs.ascend("digits", O.unit("logits", unit), **settings)
        return step.values.tobytes() + step.image.tobytes()

    alone = [last(engine, unit) for unit in range(4)]
    assert len(set(alone)) == 4
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda unit: last(client, unit), range(4))) == alone


def test_pictures_of_one_batch_become_alike(engine):
    """From one class to another: what they share they need not each find for themselves."""

    def likeness(**settings):
        objective = O.channel_interpolate("logits", 1, "logits", 7)
        both = {"count": 6, "parameterization": P.Fourier(colours=()), "steps": 128, "seed": 1}
        *_, last = engine.ascend("digits", objective, **both, **settings)
        return np.mean([np.corrcoef(one.ravel(), two.ravel())[0, 1] for one, two in pairwise(last.image)])

    assert likeness(shared=(Shared(1, 2), Shared(1, 4), Shared(2, 4))) > likeness() + 0.2
