"""Vectors, signals, images and volumes: what each can do, bounds of their own for features, and what makes no sense."""

import numpy as np
import pytest
from support.onnx_models import build, random, save
from support.reference import relative_error
from support.steps import again_and_again
from support.tolerances import TOLERANCE

from gradserve import Checkpoint, ImageDescription, Noise, TensorDescription
from gradserve import objectives as O
from gradserve import parameterizations as P
from gradserve import transforms as T
from gradserve.errors import InvalidAscent
from gradserve.optimizers import Adam, Sgd
from gradserve.projections import L2Ball
from gradserve_server import Engine, EngineConfig
from gradserve_server.ascent.canvases import canvas_of
from gradserve_server.ascent.loop import ascend
from gradserve_server.ascent.spec import resolve
from gradserve_server.ascent.transforms.geometry import Range
from gradserve_server.ascent.transforms.view import Views

FIRST, LAST = (ImageDescription(layout, mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0)) for layout in ("NCHW", "NHWC"))
SIZES = {"signal": (9,), "image": (5, 6), "volume": (4, 5, 6), "4-d": (2, 3, 4, 5)}
STEPS = 12
ROLL = T.Jitter(2, T.JitterKind.ROLL)


def tensor(sizes, *, last=False):
    return TensorDescription("x", "float32", ("N", *sizes, 3) if last else ("N", 3, *sizes), LAST if last else FIRST)


VECTOR = TensorDescription("x", "float32", ("N", 7))
TENSORS = {"vector": VECTOR, **{name: tensor(sizes) for name, sizes in SIZES.items()}}


def curved(batch, values, gradient):
    gradient[...] = np.sin(3 * batch) + 2
    values[:] = gradient.reshape(len(batch), -1).sum(axis=1)


def run(tensor, model=curved, **settings):
    spec = resolve({"steps": STEPS, "seed": 3, "bounds": (0.0, 1.0), **settings}, [tensor], ["x"], EngineConfig())
    batch = spec.feeds["x"]
    values, gradient = np.empty(spec.count, np.float32), np.empty_like(batch)
    runs = again_and_again(lambda: model(batch, values, gradient))
    return list(ascend(spec, runs, canvas_of(spec, batch, gradient), values, identity=lambda: {"m": "m"}))


SETTINGS = {
    "pixels": {},
    "rolled": {"jitter": 2},
    "noisy": {"transforms": (ROLL, T.Noisy(0.1, 0.05))},
    "fourier": {"parameterization": P.Fourier(colours=()), "transforms": (ROLL,)},
    "pyramid": {"parameterization": P.Laplacian(2, colours=())},
    "tanh": {"parameterization": P.Pixels(P.Squash.TANH)},
    "near": {"projection": L2Ball(0.5, random_start=True)},
}


@pytest.mark.parametrize("kind", TENSORS)
@pytest.mark.parametrize("name", SETTINGS)
def test_every_shape_ascends_and_goes_on_with_the_same_bytes(kind, name):
    settings = {**SETTINGS[name], "count": 2, "image_every": 1}
    whole = run(TENSORS[kind], checkpoint_every=5, **settings)
    assert whole[-1].image.shape == (2, *TENSORS[kind].shape[1:])
    assert whole[-1].image.tobytes() != whole[0].image.tobytes()
    assert 0 <= whole[-1].image.min() <= whole[-1].image.max() <= 1
    checkpoint = Checkpoint.from_bytes(whole[5].checkpoint.to_bytes())
    again = run(TENSORS[kind], resume=checkpoint, **settings)
    assert [step.image.tobytes() for step in again] == [step.image.tobytes() for step in whole[5:]]
    alone = run(TENSORS[kind], **{**settings, "count": 1})
    assert alone[-1].image.tobytes() == whole[-1].image[:1].tobytes()


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("name", SETTINGS)
def test_layouts_make_the_same_image(kind, name):
    first = run(tensor(SIZES[kind]), **SETTINGS[name])[-1].image
    last = run(tensor(SIZES[kind], last=True), **SETTINGS[name])[-1].image
    np.testing.assert_allclose(first, np.moveaxis(last, -1, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", SIZES)
def test_the_model_sees_normalized_channels(kind):
    seen = []

    def model(batch, values, gradient):
        seen.append(batch.copy())
        curved(batch, values, gradient)

    step = run(tensor(SIZES[kind]), model, image_every=1)[0]
    column = (1, 3, *[1] * len(SIZES[kind]))
    expected = (step.image - np.reshape(FIRST.mean, column)) / np.reshape(FIRST.std, column)
    np.testing.assert_allclose(seen[0], expected, rtol=0, atol=1e-6)


# ---- transforms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(9,), (1,), (4, 5, 6), (3, 1, 2), (2, 3, 4, 5)])
@pytest.mark.parametrize("seed", range(4))
def test_rolls_have_exact_adjoints(sizes, seed):
    views = Views((ROLL, T.Noisy(0.1), ROLL), seed=seed, count=3, sizes=sizes, target=sizes, pixels=Range(0.0, 1.0))
    rng = np.random.default_rng(seed)
    view = views.at(seed)
    x, y = (rng.standard_normal((3, 2, int(np.prod(sizes[:-1])), sizes[-1])).astype(np.float32) for _ in range(2))
    left = ((view.forward(x) - view.forward(np.zeros_like(x))).astype(np.float64) * y).sum()
    right = (x.astype(np.float64) * view.adjoint(y)).sum()
    assert abs(left - right) < 1e-5 * np.linalg.norm(x) * np.linalg.norm(y)


def test_rolls_take_every_shift_along_every_axis():
    views = Views((ROLL,), seed=0, count=1, sizes=(7, 7, 7), target=(7, 7, 7), pixels=Range(0.0, 1.0))
    x = np.zeros((1, 1, 7, 7, 7), np.float32)
    x[0, 0, 3, 3, 3] = 1
    seen = [np.argwhere(views.at(i).forward(x.reshape(1, 1, 49, 7)).reshape(7, 7, 7))[0] - 3 for i in range(400)]
    assert {tuple(map(int, np.unique(axis))) for axis in np.transpose(seen)} == {(-2, -1, 0, 1, 2)}
    assert len({tuple(shift) for shift in seen}) > 90


IMAGES_ONLY = [
    *(T.Pad(1), T.Jitter(1), T.Jitter(1, T.JitterKind.TRANSLATE), T.Scale(1.1), T.Rotate(3.0), T.Affine(), T.Crop(2, 2)),
    *(T.RandomCrop(0.5), T.Resize(3, 3), T.Flip(), T.Blur(1.0)),
]


@pytest.mark.parametrize("transform", IMAGES_ONLY, ids=str)
@pytest.mark.parametrize(
    ("kind", "spelled"),
    [("vector", r"a vector \[N,L\]"), ("signal", r"a signal \[N,C,L\]"), ("volume", r"a volume \[N,C,D,H,W\]")],
)
def test_what_makes_no_sense_says_so(transform, kind, spelled):
    name = type(transform).__name__
    expected = rf"^transforms: expected Jitter\(kind='roll'\) or Noisy, because input 'x' is {spelled}, got {name}"
    with pytest.raises(InvalidAscent, match=expected):
        run(TENSORS[kind], transforms=(transform,))
    with pytest.raises(InvalidAscent, match=f"^image_size: expected none, because input 'x' is {spelled}, got"):
        run(TENSORS[kind], image_size=(3, 4))


# ---- bounds ----------------------------------------------------------------------------------------------------------

LOW = np.float32([0, -1, 5, -100, 0.5, 0, 2])
HIGH = np.float32([1, 1, 7, 100, 0.5, np.inf, 3])
"""One that never changes, and one without an upper bound."""


@pytest.mark.parametrize(
    "more", [{}, {"transforms": (ROLL, T.Noisy(0.5))}, {"optimizer": Sgd(9.0)}, {"projection": L2Ball(30.0)}], ids=str
)
def test_every_feature_has_its_own_bounds(more):
    steps = run(VECTOR, bounds=(LOW, HIGH), image_every=1, **{"optimizer": Adam(1.0), **more})
    images = np.stack([step.image[0] for step in steps])
    assert (images >= LOW).all()
    assert (images <= HIGH).all()
    assert (images[:, 4] == 0.5).all()
    assert (images[-1, [0, 1, 2]] != images[0, [0, 1, 2]]).all()


def test_noise_is_a_share_of_each_features_range():
    width = np.float32([0.1, 1, 10, 1e3, 1e-3, 2, 5])
    settings = {"bounds": (7 - width / 2, 7 + width / 2), "start": Noise(0.05), "count": 500}
    spec = resolve(settings, [VECTOR], ["x"], EngineConfig())
    start = spec.start.reshape(500, 7).astype(np.float64)
    np.testing.assert_allclose(start.std(0) / width, 0.05, rtol=5 / np.sqrt(1000))
    np.testing.assert_allclose((start.mean(0) - 7) / width, 0, atol=0.05 * 5 / np.sqrt(500))


@pytest.mark.parametrize("squash", ["sigmoid", "tanh"])
def test_features_within_their_bounds_by_a_squash(squash):
    low, high = LOW[:4], HIGH[:4]
    given = low + (high - low) * np.float32([0.1, 0.5, 0.9, 0.3])
    four = TensorDescription("x", "float32", ("N", 4))
    steps = run(four, bounds=(low, high), parameterization=P.Pixels(P.Squash(squash)), start=given, image_every=1)
    np.testing.assert_allclose(steps[0].image[0], given, rtol=1e-4)
    assert (steps[-1].image >= low).all()
    assert (steps[-1].image <= high).all()


@pytest.mark.parametrize("last", [False, True])
def test_bounds_for_each_channel_of_an_image(last):
    low, high = np.float32([0, 0.2, 0.4]), np.float32([0.1, 0.3, 0.5])
    shape = (1, 1, 3) if last else (3, 1, 1)
    one = tensor((5, 6), last=last)
    common = {"transforms": (T.Pad(1, fill=0.0), T.Noisy(0.1)), "optimizer": Adam(1.0)}
    image = run(one, bounds=(low.reshape(shape), high.reshape(shape)), **common)[-1].image
    planes = np.moveaxis(image, -1, 1) if last else image
    assert (planes.min((0, 2, 3)) >= low).all()
    assert (planes.max((0, 2, 3)) <= high).all()


def test_one_array_for_all_and_numbers_that_are_alike_give_the_same_image():
    as_arrays = run(VECTOR, bounds=(np.zeros(7), np.ones(7)), image_every=1)
    as_numbers = run(VECTOR, bounds=(0.0, 1.0), image_every=1)
    for a, b in zip(as_arrays, as_numbers, strict=True):
        np.testing.assert_array_equal(a.image, b.image)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        (
            {"bounds": (np.zeros(6), 1.0)},
            r"^bounds: expected numbers, or arrays that broadcast to \[7\], got an array",
        ),
        ({"bounds": (np.zeros((2, 7)), 1.0)}, r"^bounds: expected numbers, or arrays .* \[7\], got an array \[2, 7\]$"),
        ({"bounds": (np.full(7, 2.0), 1.0)}, "^bounds: expected the smaller first, got an array .* and 1.0$"),
        ({"bounds": (np.full(7, np.nan), 1.0)}, "^bounds: expected numbers that float32 holds"),
        ({"bounds": (np.full(7, "a"), 1.0)}, "^bounds: expected two numbers or arrays, got"),
        ({"bounds": (LOW, HIGH), "parameterization": P.Pixels(P.Squash.TANH)}, "^parameterization: expected finite bounds"),
    ],
)
def test_bounds_that_are_none(settings, error):
    with pytest.raises(InvalidAscent, match=error):
        run(VECTOR, **settings)


@pytest.mark.parametrize(
    ("transforms", "error"),
    [
        ((T.Pad(1),), "^transforms: expected each that fills to have a fill, because bounds are arrays, got none$"),
        ((T.Pad(1, fill=0.0), T.Noisy(0.1)), "^transforms: Noisy.*: expected an image of its first size, because bounds"),
    ],
)
def test_transforms_that_bounds_in_arrays_do_not_allow(transforms, error):
    with pytest.raises(InvalidAscent, match=error):
        run(tensor((5, 6)), bounds=(np.zeros((3, 5, 6)), np.ones((3, 5, 6))), transforms=transforms)


# ---- models ----------------------------------------------------------------------------------------------------------

MODELS = {
    "vector": ("float[N,7] x", "float[N,4] y", "h = MatMul(x, w) y = Tanh(h)", {"w": random(7, 4)}),
    "signal": ("float[N,3,20] x", "float[N,4,?] y", "h = Conv(x, w) y = Tanh(h)", {"w": random(4, 3, 5)}),
    "volume": ("float[N,2,5,6,7] x", "float[N,4,?,?,?] y", "h = Conv(x, w) y = Tanh(h)", {"w": random(4, 2, 3, 3, 3)}),
}


@pytest.mark.parametrize("kind", MODELS)
def test_models_of_every_rank(kind, tmp_path):
    inputs, outputs, body, weights = MODELS[kind]
    path = save(build(body, inputs=inputs, outputs=outputs, weights=weights), tmp_path / "m.onnx")
    settings = {"steps": 30, "bounds": (-1.0, 1.0), "jitter": 1, "count": 2, "parameterization": P.Fourier(colours=())}
    with Engine(path) as engine:
        first, *_, last = engine.ascend("m", O.unit("y", 3) if kind == "vector" else O.channel("y", 3), **settings)
        assert last.value > first.value + 0.1
        y = engine.infer("m", {"x": last.image})["y"]
        assert relative_error(y[:, 3].reshape(2, -1).mean(1), last.values) < TOLERANCE["another batch size"]
