"""Yosinski's regularizers, step by step against SciPy's filter and NumPy's percentiles, and what they leave alone."""

import itertools
import typing

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from support.steps import again_and_again

from gradserve import Checkpoint, ImageDescription, TensorDescription, presets
from gradserve import regularizers as R
from gradserve.errors import InvalidParameter
from gradserve.optimizers import Adam, Sgd
from gradserve.projections import LInfBall
from gradserve.stopping import Value
from gradserve.transforms import Flip, Jitter
from gradserve_server.ascent.canvases import canvas_of
from gradserve_server.ascent.loop import ascend
from gradserve_server.ascent.spec import resolve
from gradserve_server.config import EngineConfig

MEAN, STD = (0.25, 0.5, 0.75), (0.5, 0.25, 0.2)
RGB = TensorDescription("x", "float32", ("N", 3, 9, 11), ImageDescription(low=-100, high=100, mean=MEAN, std=STD))
TENSORS = {
    "planar": RGB,
    "interleaved": TensorDescription(
        "x", "float32", ("N", 9, 11, 3), ImageDescription("NHWC", low=-100, high=100, mean=MEAN, std=STD)
    ),
    "signal": TensorDescription("x", "float32", ("N", 3, 17)),
    "volume": TensorDescription("x", "float32", ("N", 2, 4, 3, 5)),
    "vector": TensorDescription("x", "float32", ("N", 12)),
}
WAYS = {
    "blur": (R.GaussianBlur(0.5, 3),),
    "wide blur": (R.GaussianBlur(4.0),),
    "norms": (R.SmallNorms(50),),
    "contributions": (R.SmallContributions(90),),
    "all, in their order": (R.GaussianBlur(1.0, 2), R.SmallNorms(20), R.SmallContributions(30.5)),
    "all, in another": (R.SmallContributions(30.5), R.SmallNorms(20), R.GaussianBlur(1.0, 2)),
}
STEPS = 7


def run(tensor=RGB, **settings):
    """An ascent of sum(sin(3 input)), whose gradients differ from pixel to pixel."""
    spec = resolve({"steps": STEPS, "image_every": 1, **settings}, [tensor], ["x"], EngineConfig())
    batch = np.empty_like(spec.feeds["x"])
    values, gradient = np.empty(spec.count, np.float32), np.empty_like(batch)

    def model():
        values[:] = np.sin(3 * batch.astype(np.float64)).reshape(spec.count, -1).sum(axis=1)
        gradient[...] = 3 * np.cos(3 * batch)

    return list(
        ascend(spec, again_and_again(model), canvas_of(spec, batch, gradient), values, identity=lambda: {"same": "same"})
    )


def facts(steps):
    return [(step.index, step.values.tobytes(), step.gradient_norms.tobytes(), step.image.tobytes()) for step in steps]


def expected(before, regularizers, rate, decay, mean, std, index):
    """One image, [C, sizes], after a step from `before`, as the toolbox makes it."""
    slope = 3 * np.cos(3 * (before - mean) / std) / std
    x = (before + rate * slope - mean) * (1 - decay)
    for one in regularizers:
        match one:
            case R.GaussianBlur(radius, every):
                if index % every == 0:
                    x = np.stack([gaussian_filter(channel, radius) for channel in x])
            case R.SmallNorms(percentile):
                sizes = np.linalg.norm(x, axis=0)
                x = x * (sizes >= np.percentile(sizes, percentile))
            case R.SmallContributions(percentile):
                sizes = np.abs((x * slope).sum(axis=0))
                x = x * (sizes >= np.percentile(sizes, percentile))
    return x + mean


def test_every_regularizer_is_in_this_test():
    assert {type(one) for way in WAYS.values() for one in way} == set(typing.get_args(R.Regularizer))


@pytest.mark.parametrize("tensor", TENSORS.values(), ids=TENSORS)
@pytest.mark.parametrize("way", WAYS)
def test_each_step_is_that_of_an_independent_implementation(way, tensor):
    settings = {"optimizer": Sgd(0.01), "weight_decay": 0.1, "count": 2, "seed": 3}
    images = [planar(tensor, step.image) for step in run(tensor, regularizers=WAYS[way], **settings)]
    mean, std = (MEAN, STD) if tensor.image is not None else ((0.0,), (1.0,))
    for index, (before, after) in enumerate(itertools.pairwise(images)):
        for old, new in zip(before, after, strict=True):
            numbers = (np.reshape(values, (-1, *[1] * (old.ndim - 1))) for values in (mean, std))
            wanted = expected(old.astype(np.float64), WAYS[way], 0.01, 0.1, *numbers, index)
            np.testing.assert_allclose(new, wanted, rtol=0, atol=5e-6)


def planar(tensor, images):
    """[count, C, sizes]."""
    if tensor.image is not None and tensor.image.layout == "NHWC":
        return np.moveaxis(images, -1, 1)
    return images if images.ndim > 2 else images[:, np.newaxis]


@pytest.mark.parametrize("more", [{}, {"jitter": 2}, {"transforms": (Jitter(2), Flip())}, {"projection": LInfBall(0.2)}])
def test_it_goes_on_with_the_same_bytes_and_each_image_is_alone(more):
    settings = {"regularizers": WAYS["all, in their order"], "optimizer": Adam(0.05), "checkpoint_every": 1, **more}
    whole = run(count=3, **settings)
    for index in range(STEPS + 1):
        checkpoint = Checkpoint.from_bytes(whole[index].checkpoint.to_bytes())
        assert facts(run(count=3, resume=checkpoint, **settings)) == facts(whole[index:])
    alone = run(count=1, **settings)
    assert [step.image[0].tobytes() for step in alone] == [step.image[0].tobytes() for step in whole]


def test_images_that_are_done_stay_as_they_are():
    start = np.zeros((2, 3, 9, 11), np.float32) + np.reshape(MEAN, (3, 1, 1)).astype(np.float32)
    start[0] += 0.1 * np.random.default_rng(0).standard_normal((3, 9, 11), np.float32)
    goal = Value(float(run(start=start, count=2)[0].values.max() - 1e-3))
    steps = run(start=start, count=2, stop_at=goal, optimizer=Sgd(1e-4), regularizers=(R.GaussianBlur(1.0),))
    done = steps[0].reached
    assert done.sum() == 1
    for step in steps[1:]:
        np.testing.assert_array_equal(step.image[done], start[done])
        assert (step.image[~done] != steps[0].image[~done]).any()


def test_bounds_come_last():
    """The mean, 0.25 to 0.75, is no value of such an image."""
    image = run(regularizers=(R.SmallNorms(100),), bounds=(0.8, 0.9))[-1].image
    assert image.min() == np.float32(0.8)
    near = run(regularizers=(R.GaussianBlur(3.0),), start=0.5, projection=LInfBall(1e-3))[-1].image
    assert np.abs(near - 0.5).max() <= 1e-3 * 1.001


def test_the_share_of_pixels_that_shows_nothing():
    for way in (R.SmallNorms(40), R.SmallContributions(40)):
        image = run(regularizers=(way,))[-1].image[0]
        is_mean = (image == np.float32(np.reshape(MEAN, (3, 1, 1)))).all(axis=0)
        assert abs(is_mean.mean() - 0.4) <= 1 / 99


@pytest.mark.parametrize(
    ("row", "decay", "regularizers", "steps"),
    [
        (2, 0.3, (R.SmallNorms(20),), 750),
        (3, 0.0001, (R.GaussianBlur(1.0, 4),), 1000),
    ],
)
def test_the_presets_are_table_1(row, decay, regularizers, steps):
    preset = presets.yosinski(row)
    assert (preset["weight_decay"], preset["regularizers"], preset["steps"]) == (decay, regularizers, steps)
    assert preset["optimizer"] == Sgd(100.0)
    wide = ImageDescription(low=-1000, high=1000, std=(255.0,))
    narrow = ImageDescription(low=-1000 / 255, high=1000 / 255)
    tensors = [TensorDescription("x", "float32", ("N", 3, 9, 11), image) for image in (wide, narrow)]
    shown = [
        run(tensor, **{**presets.yosinski(row, width), "steps": 3})[-1].image
        for tensor, width in zip(tensors, (255.0, 1.0), strict=True)
    ]
    np.testing.assert_allclose(shown[0] / 255, shown[1], atol=1e-4)


def test_there_is_no_other_row():
    with pytest.raises(InvalidParameter, match="^row: expected one of 2, 3, got 5$"):
        presets.yosinski(5)
