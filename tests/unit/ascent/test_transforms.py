"""Transforms of an ascent: what each does against NumPy and torch, exact adjoints, and numbers that can be drawn again."""

import math
import typing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradserve import transforms as T
from gradserve.errors import InvalidAscent
from gradserve.numbers import Choice, Linear, Normal, Uniform
from gradserve_server.ascent.transforms.course import AT_ONCE
from gradserve_server.ascent.transforms.draws import SPREADS, STEPS_DRAWN
from gradserve_server.ascent.transforms.geometry import OPERATIONS, Range
from gradserve_server.ascent.transforms.view import Views

UNIT = Range(0.0, 1.0)
ADJOINT = 1e-5  # of the inner product, relative to the norms: float32 values summed in float64

CASES = [
    T.Pad(2),
    T.Pad(3, T.Border.REFLECT),
    T.Pad(1, T.Border.EDGE),
    T.Pad(2, T.Border.WRAP),
    T.Pad(1, fill=0.25),
    T.Jitter(3),
    T.Jitter(2, T.JitterKind.ROLL),
    T.Jitter(2, T.JitterKind.TRANSLATE, fill=0.0),
    T.Scale(Uniform(0.8, 1.3)),
    T.Scale(Choice((0.9, 1.1)), T.Alignment.ASYMMETRIC),
    T.Scale(1.2, T.Alignment.CORNERS),
    T.Rotate(Uniform(-20, 20)),
    T.Affine(Uniform(0.9, 1.1), Uniform(-5, 5), Uniform(-10, 10), Normal(0, 2), Uniform(-3, 3)),
    T.Affine(1.1, border=T.Border.EDGE),
    T.Crop(9, 14),
    T.RandomCrop(Normal(Linear(0.5, 0.2), 0.05), Normal(0.5, 0.15)),
    T.Resize(7, 19),
    T.Flip(),
    T.Blur(Uniform(0.5, 2.0)),
    T.Blur(1.0, 2, T.Border.FILL),
    T.Noisy(0.1, 0.05),
]


def test_every_transform_has_its_numbers_its_operation_and_a_case():
    kinds = set(typing.get_args(T.Transform))
    assert kinds == set(SPREADS) == set(OPERATIONS) | {T.Noisy} == {type(case) for case in CASES}


def images(count=2, size=(12, 15), channels=3, seed=1):
    return np.random.default_rng(seed).standard_normal((count, channels, *size)).astype(np.float32)


def views(transforms, count=2, size=(12, 15), target=None, seed=0, fuse=True, pixels=UNIT, progress=0.3):
    sizes = {"sizes": size, "target": target or size}
    return Views(transforms, seed=seed, count=count, **sizes, pixels=pixels, fuse=fuse, progress=lambda _: progress)


def one(transform, image, target, **options):
    return views([transform], len(image), image.shape[2:], target, **options).at(0).forward(image)


# ---- adjoints --------------------------------------------------------------------------------------------------------


def assert_adjoint(view, rng, shape, target):
    x = rng.standard_normal(shape).astype(np.float32)
    y = rng.standard_normal((*shape[:2], *target)).astype(np.float32)
    # What is filled or added is a constant: without it, the view is linear.
    tx = view.forward(x).astype(np.float64) - view.forward(np.zeros_like(x))
    back = view.adjoint(y).astype(np.float64)
    scale = (np.linalg.norm(tx) + np.linalg.norm(x)) * np.linalg.norm(y)
    assert abs((tx * y).sum() - (x * back).sum()) <= ADJOINT * scale


@pytest.mark.parametrize("transform", CASES, ids=str)
@pytest.mark.parametrize("fuse", [True, False])
def test_adjoint_of_each(transform, fuse):
    rng = np.random.default_rng(2)
    for index in range(4):
        view = views([transform], 3, target=(11, 13), fuse=fuse, seed=index).at(index)
        assert_adjoint(view, rng, (3, 2, 12, 15), (11, 13))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(CASES), max_size=6), st.integers(0, 2**32), st.booleans(), st.integers(1, 4))
def test_adjoint_of_sequences(transforms, seed, fuse, count):
    size = (30, 33)
    view = views(transforms, count, size, (10, 9), seed, fuse).at(5)
    assert_adjoint(view, np.random.default_rng(seed), (count, 2, *size), (10, 9))


# ---- what each does --------------------------------------------------------------------------------------------------


def test_roll():
    image = images(1)
    rolled = {one(T.Jitter(2, T.JitterKind.ROLL), image, (12, 15), seed=seed).tobytes() for seed in range(300)}
    every = {np.roll(image, (y, x), (2, 3)).tobytes() for y in range(-2, 3) for x in range(-2, 3)}
    assert rolled == every


def test_crop_jitter_is_any_window():
    image = images(1)
    windows = {one(T.Jitter(2), image, (10, 13), seed=seed).tobytes() for seed in range(150)}
    assert windows == {image[:, :, y : y + 10, x : x + 13].tobytes() for y in range(3) for x in range(3)}


def test_translate_fills_what_enters():
    image = images(1)
    framed = np.pad(image, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=0.25)
    jitter = T.Jitter(1, T.JitterKind.TRANSLATE, fill=0.25)
    shifted = {one(jitter, image, (12, 15), seed=seed).tobytes() for seed in range(150)}
    assert shifted == {framed[:, :, y : y + 12, x : x + 15].tobytes() for y in range(3) for x in range(3)}


@pytest.mark.parametrize(
    ("pad", "mode"),
    [
        (T.Pad(2, fill=0.25), {"constant_values": 0.25}),
        (T.Pad(2), {"constant_values": 0.5}),
        (T.Pad(2, T.Border.EDGE), {"mode": "edge"}),
        (T.Pad(2, T.Border.REFLECT), {"mode": "reflect"}),
        (T.Pad(2, T.Border.WRAP), {"mode": "wrap"}),
    ],
)
def test_pad(pad, mode):
    image = images(1)
    np.testing.assert_array_equal(one(pad, image, (16, 19)), np.pad(image, ((0, 0), (0, 0), (2, 2), (2, 2)), **mode))


def test_the_colour_of_a_frame_is_in_the_middle_of_the_range():
    framed = one(T.Pad(1), images(1), (14, 17), pixels=Range(-100.0, 300.0))
    assert (framed[:, :, 0] == 100).all()
    assert Range(-np.inf, np.inf).middle == 0


@pytest.mark.parametrize("quarter", range(4))
def test_a_quarter_turn_is_numpys(quarter):
    image = images(1, (11, 11))
    turned = one(T.Rotate(90.0 * quarter), image, (11, 11))
    np.testing.assert_allclose(turned, np.rot90(image, quarter, (2, 3)), rtol=0, atol=1e-5)


def test_flip():
    image = images(1)
    np.testing.assert_array_equal(one(T.Flip(1.0), image, (12, 15)), image[:, :, :, ::-1])
    np.testing.assert_array_equal(one(T.Flip(0.0), image, (12, 15)), image)
    flips = [one(T.Flip(0.3), image, (12, 15), seed=seed)[0, 0, 0, 0] != image[0, 0, 0, 0] for seed in range(400)]
    assert 0.2 < np.mean(flips) < 0.4


@pytest.mark.parametrize("size", [(10, 11), (14, 9), (13, 16)])
def test_crop_or_pad(size):
    image = images(1)
    out = one(T.Crop(*size, fill=0.0), image, size)
    y, x = (12 - size[0]) // 2 if size[0] < 12 else 0, (15 - size[1]) // 2 if size[1] < 15 else 0
    inside = image[:, :, y : y + size[0], x : x + size[1]]
    down, right = max(size[0] - 12, 0) // 2, max(size[1] - 15, 0) // 2
    expected = np.zeros((1, 3, *size), np.float32)
    expected[:, :, down : down + inside.shape[2], right : right + inside.shape[3]] = inside
    np.testing.assert_array_equal(out, expected)


def test_affine_is_scale_then_rotation_then_shift():
    image = images(1, (21, 21))
    np.testing.assert_array_equal(
        one(T.Affine(down=3.0, right=-2.0, fill=0.0), image, (21, 21))[:, :, 3:, :-2], image[:, :, :-3, 2:]
    )
    turned = one(T.Affine(degrees=90.0), image, (21, 21))
    np.testing.assert_allclose(turned, np.rot90(image, 1, (2, 3)), rtol=0, atol=1e-5)
    zoomed = one(T.Affine(scale=2.0), image, (21, 21))
    np.testing.assert_allclose(zoomed[:, :, ::2, ::2], image[:, :, 5:16, 5:16], rtol=0, atol=1e-5)
    sheared = one(T.Affine(shear=45.0, fill=0.0), image, (21, 21))
    # At 45 degrees a row moves by as much as it is away from the middle row.
    np.testing.assert_allclose(sheared[:, :, 7, 3:], image[:, :, 7, :-3], rtol=0, atol=1e-5)


@pytest.mark.torch
@pytest.mark.parametrize(("alignment", "corners"), [(T.Alignment.HALF_PIXEL, False), (T.Alignment.CORNERS, True)])
def test_scale_is_torchs(alignment, corners):
    import torch

    image = images(1)
    out = one(T.Scale(1.37, alignment), image, (16, 20))
    expected = torch.nn.functional.interpolate(torch.tensor(image), (16, 20), mode="bilinear", align_corners=corners)
    np.testing.assert_allclose(out, expected, rtol=0, atol=2e-5)


def test_asymmetric_scale_begins_at_the_first_pixel():
    image = images(1)
    out = one(T.Scale(2.0, T.Alignment.ASYMMETRIC), image, (24, 30))
    np.testing.assert_array_equal(out[:, :, ::2, ::2], image)
    np.testing.assert_allclose(out[:, :, 1, 0], (image[:, :, 0, 0] + image[:, :, 1, 0]) / 2, rtol=0, atol=1e-6)


@pytest.mark.torch
def test_random_crop_is_a_resized_window():
    import torch

    image = images(1, (16, 16))
    out = one(T.RandomCrop(0.5, 0.5), image, (16, 16))
    window = torch.tensor(image[:, :, 4:12, 4:12])
    expected = torch.nn.functional.interpolate(window, (16, 16), mode="bilinear").numpy()
    np.testing.assert_allclose(out[:, :, 1:-1, 1:-1], expected[:, :, 1:-1, 1:-1], rtol=0, atol=1e-5)


@pytest.mark.torch
def test_blur_is_a_convolution_with_a_gaussian():
    import torch

    image = images(1)
    distance = torch.arange(-3, 4, dtype=torch.float64)
    line = torch.exp(-(distance**2) / (2 * 1.3**2))
    kernel = torch.outer(line, line) / line.sum() ** 2
    padded = torch.nn.functional.pad(torch.tensor(image, dtype=torch.float64), (3, 3, 3, 3), mode="replicate")
    expected = torch.nn.functional.conv2d(padded, kernel.expand(3, 1, 7, 7), groups=3)
    np.testing.assert_allclose(one(T.Blur(1.3, 3), image, (12, 15)), expected, rtol=0, atol=2e-6)


def test_noise_has_the_size_that_was_asked_for():
    still = np.zeros((1, 3, 200, 200), np.float32)
    normal = one(T.Noisy(0.1), still, (200, 200), pixels=Range(0.0, 10.0))
    even = one(T.Noisy(half_width=0.1), still, (200, 200), pixels=Range(0.0, 10.0))
    assert abs(normal.std() - 1) < 0.02
    assert abs(even.std() - 1 / np.sqrt(3)) < 0.01
    assert np.abs(even).max() <= 1


# ---- fusing ----------------------------------------------------------------------------------------------------------


def test_whole_pixels_are_the_same_fused_or_not():
    sequence = [T.Pad(4), T.Jitter(3), T.Flip(), T.Crop(10, 10), T.Jitter(2)]
    image = images(3)
    fused, apart = (views(sequence, 3, target=(8, 8), fuse=fuse).at(7).forward(image) for fuse in (True, False))
    np.testing.assert_array_equal(fused, apart)


def test_an_affine_sequence_is_one_map():
    sequence = [T.Pad(4), T.Jitter(3), T.Scale(Uniform(0.9, 1.1)), T.Rotate(Uniform(-9, 9)), T.Jitter(2)]
    assert len(views(sequence, 1, target=(12, 15)).at(3)._parts[0].stages) == 1


def test_another_border_is_not_fused_away():
    rolled_then_turned = views([T.Jitter(2, T.JitterKind.ROLL), T.Rotate(30.0)], 1).at(0)
    assert len(rolled_then_turned._parts[0].stages) == 2


# ---- random numbers --------------------------------------------------------------------------------------------------

EVERYTHING = [
    T.Pad(3),
    T.Jitter(2),
    T.Scale(Uniform(0.9, 1.1)),
    T.Rotate(Normal(0, 5)),
    T.Blur(Uniform(0.4, 1)),
    T.Noisy(0.1),
]


def test_an_image_is_the_same_alone_and_in_company():
    image = images(3)
    together = views(EVERYTHING, 3, seed=9).at(2).forward(image)
    alone = views(EVERYTHING, 1, seed=9).at(2).forward(image[:1])
    assert alone.tobytes() == together[:1].tobytes()
    assert not np.array_equal(together[0], together[1])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(CASES), min_size=1, max_size=5),
    st.integers(0, 2**32),
    st.booleans(),
    st.integers(0, 99),
    st.sampled_from([4, AT_ONCE // STEPS_DRAWN + 1]),
)
def test_whatever_the_company_and_the_other_steps(transforms, seed, fuse, index, count):
    """Where some steps and images fuse maps, or need a resize, and others do not: each goes its own way.

    With many images fewer steps are planned at once.
    """
    size = (30, 33)
    image = images(count, size)
    together = views(transforms, count, size, (10, 9), seed, fuse).at(index)
    alone = views(transforms, 1, size, (10, 9), seed, fuse).at(index)
    assert alone.forward(image[:1]).tobytes() == together.forward(image)[:1].tobytes()
    gradient = images(count, (10, 9))
    assert alone.adjoint(gradient[:1]).tobytes() == together.adjoint(gradient)[:1].tobytes()


@pytest.mark.parametrize("count", [2, AT_ONCE // STEPS_DRAWN + 1, AT_ONCE + 1])
def test_however_few_steps_are_planned_at_once(count):
    image, once = images(count, (5, 6), 1), views(EVERYTHING, count, (5, 6), seed=9)
    alone = views(EVERYTHING, 1, (5, 6), seed=9)
    for index in (0, 1, 31, 32, 33, STEPS_DRAWN - 1, STEPS_DRAWN, 3 * STEPS_DRAWN - 2):
        assert alone.at(index).forward(image[:1]).tobytes() == once.at(index).forward(image)[:1].tobytes(), index


def test_numbers_that_fit_no_image_are_refused_in_their_step():
    crop = T.RandomCrop(Normal(0.5, 5e7), 0.5)  # a side of 1e8 times 12 pixels is too far away
    once, told = views([crop], 2, seed=4), {}
    for index in range(2 * STEPS_DRAWN):
        try:
            once.at(index)
        except InvalidAscent as error:
            told[index] = str(error)
    assert 10 < len(told) < 2 * STEPS_DRAWN - 10
    for index, message in told.items():
        with pytest.raises(InvalidAscent, match="expected numbers that lead to positions near the image, got") as error:
            views([crop], 2, seed=4).at(index)
        assert str(error.value) == message
    assert len(set(told.values())) == len(told)


def test_steps_may_be_drawn_in_any_order():
    image = images(2)
    indices = [0, 1, STEPS_DRAWN - 1, STEPS_DRAWN, 5 * STEPS_DRAWN + 3]
    once = views(EVERYTHING)
    forwards = {index: once.at(index).forward(image).tobytes() for index in indices}
    for index in reversed(indices):
        assert views(EVERYTHING).at(index).forward(image).tobytes() == forwards[index]
    assert len(set(forwards.values())) == len(indices)


def test_a_seed_is_a_sequence():
    image = images(2)
    first, again, other = (views(EVERYTHING, seed=seed).at(0).forward(image).tobytes() for seed in (1, 1, 2))
    assert first == again != other


def test_a_mean_that_moves():
    image = images(1, (40, 40))
    crop = [T.RandomCrop(Normal(Linear(1.0, 0.5), 0.0), 0.5)]
    start, end = (views(crop, 1, (40, 40), progress=progress).at(0).forward(image) for progress in (0.0, 1.0))
    np.testing.assert_allclose(start, image, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(end, one(T.RandomCrop(0.5, 0.5), image, (40, 40)))


def test_lucids_scales_and_angles():
    scale, rotate = T.LUCID[2], T.LUCID[3]
    np.testing.assert_allclose(scale.factor.values, [0.9, 0.92, 0.94, 0.96, 0.98, 1, 1.02, 1.04, 1.06, 1.08, 1.1])
    assert sorted(rotate.degrees.values) == sorted([*range(-10, 11), 0, 0, 0, 0, 0])


def test_what_leaves_nothing_is_refused():
    with pytest.raises(
        InvalidAscent, match=r"transforms: Jitter\(size=12.*\): expected an image of a pixel or more after it, got \[0, 3\]"
    ):
        views([T.Jitter(12)])


@pytest.mark.parametrize(
    ("transform", "small"),
    [
        (T.Rotate(1e308), T.Rotate(math.fmod(1e308, 360))),
        (T.Rotate(370.0), T.Rotate(10.0)),
        (T.Affine(degrees=-1e308), T.Affine(degrees=math.fmod(-1e308, 360))),
        (T.Affine(shear=1e308), T.Affine(shear=math.fmod(1e308, 360))),
    ],
)
def test_angles_of_any_size_are_angles(transform, small):
    image = images(1)
    np.testing.assert_allclose(one(transform, image, (12, 15)), one(small, image, (12, 15)), rtol=0, atol=1e-6)
