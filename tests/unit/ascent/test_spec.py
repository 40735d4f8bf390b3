"""What an ascent was asked to do: defaults, ranges, starts, and streams of random numbers."""

import itertools
import math

import numpy as np
import pytest
from support.steps import again_and_again
from support.tolerances import TOLERANCE

from gradserve import (
    Adam,
    AscentSettings,
    Checkpoint,
    GradientNormalization,
    ImageDescription,
    Noise,
    Sgd,
    StopReason,
    TensorDescription,
)
from gradserve.errors import InvalidAscent, NotDifferentiable, TooLarge, UnknownInput
from gradserve.numbers import Choice, Linear, Normal
from gradserve.optimizers import AdamW, Momentum
from gradserve.parameterizations import Alpha, Fourier, Laplacian, Pixels, Shared
from gradserve.projections import LInfBall
from gradserve.regularizers import GaussianBlur, SmallContributions, SmallNorms
from gradserve.stopping import Keep, Probability, Value
from gradserve.transforms import Blur, Crop, Flip, Pad, Rotate, Scale
from gradserve_server.ascent.canvases import canvas_of
from gradserve_server.ascent.loop import ascend
from gradserve_server.ascent.ranges import LARGEST_COUNT
from gradserve_server.ascent.spec import resolve
from gradserve_server.config import EngineConfig

RANGE = ImageDescription(low=-1.0, high=3.0)
IMAGE = TensorDescription("x", "float32", ("N", 3, 4, 5), RANGE)
FREE = TensorDescription("x", "float32", ("N", 3, 4, 5))
OPEN = TensorDescription("x", "float32", ("N", 3, "H", None))
FIXED = TensorDescription("x", "float32", (4, 3, 4, 5))
ROWS = TensorDescription("x", "float32", ("N", 7))
NHWC = TensorDescription("x", "float32", ("N", 4, 5, 3), ImageDescription(layout="NHWC"))
BATCHED = TensorDescription("b", "int64", ("N", 2))
WHOLE = TensorDescription("w", "float64", (2,))
LIMITS = EngineConfig()


def spec(tensor=IMAGE, others=(), limits=LIMITS, **settings):
    return resolve(settings, [tensor, *others], [tensor.name], limits)


# ---- defaults --------------------------------------------------------------------------------------------------------


def test_defaults():
    got = spec()
    assert (got.input, got.steps, got.count, got.report_every, got.image_every) == ("x", 256, 1, 1, 0)
    assert next(got.offsets()) is None
    assert got.optimizer == Adam(0.05, 0.9, 0.999, 1e-8)
    assert got.gradient_normalization is GradientNormalization.NONE
    assert (got.weight_decay, got.bounds) == (0.0, (-1.0, 3.0))
    assert {name: feed.shape for name, feed in got.feeds.items()} == {"x": (1, 3, 4, 5)}
    assert got.start.shape == (1, 3, 4, 5)


@pytest.mark.parametrize(
    ("setting", "default"), [("seed", 0), ("start", Noise(0.01)), ("shape", ()), ("inputs", {}), ("bounds", None)]
)
def test_defaults_that_leave_no_trace(setting, default):
    np.testing.assert_array_equal(spec(**{setting: default}).start, spec().start)


def test_free_pixels_have_no_bounds():
    assert spec(FREE).bounds == (-math.inf, math.inf)


def test_zero_means_the_default_as_on_the_wire():
    got = spec(count=0, report_every=0)
    assert (got.count, got.report_every) == (1, 1)


@pytest.mark.parametrize(
    "name",
    sorted(AscentSettings.__annotations__.keys() - {"version", "input", "inputs", "shape", "seed", "start", "image_size"}),
)
def test_a_setting_arrives(name):
    values = {
        "optimizer": Sgd(2.0),
        "gradient_normalization": GradientNormalization.L2,
        "weight_decay": 0.25,
        "bounds": (0.0, 1.0),
        "jitter": 2,
        "resume": Checkpoint(0, {}, {}),
        "parameterization": Laplacian(2, colours=()),
        "projection": LInfBall(0.1),
        "stop_at": Value(3.0, 2),
        "keep": Keep.BEST,
        "regularizers": (SmallNorms(50.0), GaussianBlur(0.5, 4)),
        "shared": (Shared(1, 4),),
        "alpha": Alpha(0.5),
        "transforms": (Flip(),),
        "resample_each": True,
    }
    value = values.get(name, 3)
    got = spec(**{name: value})
    assert getattr(got, name) == value


def test_the_size_of_the_image_is_not_the_models():
    got = spec(image_size=(7, 9))
    assert got.start.shape == (1, 3, 7, 9)
    assert got.feeds["x"].shape == (1, 3, 4, 5)


def test_a_setting_that_does_not_exist_is_refused():
    with pytest.raises((TypeError, InvalidAscent), match="stepz"):
        spec(stepz=3)


# ---- ranges ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("steps", 1, LARGEST_COUNT),
        ("seed", 0, 2**64 - 1),
        ("count", 1, LARGEST_COUNT),
        ("jitter", 0, 2**15),
        ("redirect_relu_steps", 0, LARGEST_COUNT),
        ("report_every", 1, LARGEST_COUNT),
        ("image_every", 0, LARGEST_COUNT),
        ("checkpoint_every", 0, LARGEST_COUNT),
    ],
)
def test_whole_numbers(name, low, high):
    for value in (-1, high + 1, 1.5, "3", math.nan):
        with pytest.raises(InvalidAscent, match=f"^{name}: expected a whole number from {low} to {high}, got "):
            spec(**{name: value})
    assert spec(**{name: np.int64(max(low, 1)), **({} if name == "steps" else {"steps": 1})})
    if name not in ("count", "steps"):
        spec(**{name: high, "steps": 1})


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"steps": 0}, "^steps: expected a whole number from 1 "),
        ({"weight_decay": -0.1}, "^weight_decay: expected a finite number from 0.0 to 1.0, got -0.1$"),
        ({"weight_decay": 1.1}, "^weight_decay: "),
        ({"weight_decay": math.nan}, "^weight_decay: "),
        ({"bounds": (1.0, 1.0)}, "^bounds: expected the smaller first, got 1.0 and 1.0$"),
        ({"bounds": (1.0, 0.0)}, "^bounds: "),
        ({"bounds": (math.nan, 0.0)}, "^bounds: "),
        ({"bounds": (1.0,)}, "^bounds: "),
        ({"bounds": (1e39, 1e40)}, "^bounds: "),
        ({"bounds": ("a", "b")}, "^bounds: "),
        ({"optimizer": "adam"}, "^optimizer: expected one of Sgd, Momentum, RmsProp, Adam, AdamW, NAdam, got str$"),
        ({"optimizer": None}, "^optimizer: "),
        ({"optimizer": Sgd(0.0)}, "^learning_rate: expected a number above 0, got 0.0$"),
        ({"optimizer": Sgd(-1.0)}, "^learning_rate: "),
        ({"optimizer": Sgd(math.inf)}, "^learning_rate: "),
        ({"optimizer": Sgd("fast")}, "^learning_rate: "),
        ({"optimizer": Adam(math.nan)}, "^learning_rate: "),
        ({"optimizer": Adam(1.0, 1.0)}, "^beta1: "),
        ({"optimizer": Adam(1.0, 0.5, -0.1)}, "^beta2: "),
        ({"optimizer": Adam(1.0, 0.5, 0.5, 0.0)}, "^epsilon: "),
        ({"optimizer": Adam(1.0, 0.5, 0.5, 1e-60)}, "^epsilon: "),
        ({"optimizer": Momentum(1.0, 1.0)}, "^momentum: "),
        ({"optimizer": Sgd(Linear(0.0, 0.0))}, "^learning_rate: "),
        ({"optimizer": Sgd(Linear(1.0, -0.5))}, "^learning_rate: "),
        ({"optimizer": AdamW(), "weight_decay": 0.5}, "^weight_decay: expected 0, because AdamW has its own, got 0.5$"),
        ({"parameterization": "fourier"}, "^parameterization: expected one of Pixels, Fourier, Laplacian, Phases, got str$"),
        ({"parameterization": Pixels("cut")}, "^squash: expected one of clip, sigmoid, tanh, got 'cut'$"),
        ({"image_size": (0, 4)}, "^image_size: "),
        ({"image_size": (4, 2**20)}, "^image_size: "),
        ({"transforms": ["pad"]}, "^transforms: expected each to be one of Pad, .*, got str$"),
        ({"transforms": [Flip()] * 65}, "^transforms: expected at most 64, got 65$"),
        ({"transforms": [Pad(-1)]}, r"^transforms: Pad.size: expected a whole number from 0 to 16384, got -1$"),
        ({"transforms": [Pad(1.5)]}, "^transforms: Pad.size: "),
        (
            {"transforms": [Pad(1, "mirror")]},
            "^transforms: Pad.border: expected one of fill, wrap, edge, reflect, got",
        ),
        ({"transforms": [Pad(1, fill=math.nan)]}, "^transforms: Pad.fill: expected a finite number, got nan$"),
        ({"transforms": [Flip(-0.5)]}, "^transforms: Flip.probability: expected a finite number of 0 or more, got -0.5$"),
        (
            {"transforms": [Scale(Choice(()))]},
            "^transforms: Scale.factor: expected finite numbers, at least one",
        ),
        ({"transforms": [Scale("big")]}, "^transforms: Scale.factor: expected finite numbers, at least one, got 'big'$"),
        ({"transforms": [Rotate(Normal(Linear(0.0, math.inf), 1.0))]}, "^transforms: Rotate.degrees: "),
        ({"transforms": [Crop(0, 3)]}, "^transforms: Crop.height: expected a whole number from 1 to 16384, got 0$"),
        ({"transforms": [Blur(1.0, 300)]}, "^transforms: Blur.radius: expected a whole number from 0 to 256, got 300$"),
        ({"stop_at": 0.5}, "^stop_at: expected one of Value, Probability, got float$"),
        ({"stop_at": Value(math.nan)}, "^stop_at: at_least: expected a finite number"),
        ({"stop_at": Value(1.0, 0)}, "^stop_at: every: expected a whole number from 1 to"),
        ({"stop_at": Probability(0.0)}, "^stop_at: at_least: expected a finite number from"),
        ({"stop_at": Probability(1.5)}, "^stop_at: at_least: "),
        ({"regularizers": SmallNorms(50)}, "^regularizers: expected a sequence of at most 16 of GaussianBlur, SmallNorms, "),
        ({"regularizers": (0.5,)}, "^regularizers: expected a sequence of at most 16 of"),
        ({"regularizers": (SmallNorms(1.0),) * 17}, "^regularizers: expected a sequence of at most 16 of"),
        ({"regularizers": (GaussianBlur(0.0),)}, "^regularizers: GaussianBlur.radius: expected a finite number from"),
        ({"regularizers": (GaussianBlur(65.0),)}, "^regularizers: GaussianBlur.radius: expected .* to 64.0, got 65.0$"),
        ({"regularizers": (GaussianBlur(1.0, 0),)}, "^regularizers: GaussianBlur.every: expected a whole number from 1 to"),
        ({"regularizers": (SmallNorms(math.nan),)}, "^regularizers: SmallNorms.percentile: expected a finite number from 0"),
        (
            {"regularizers": (SmallContributions(101),)},
            "^regularizers: SmallContributions.percentile: .* to 100.0, got 101$",
        ),
        (
            {"regularizers": (SmallNorms(1),), "alpha": Alpha()},
            r"^regularizers: expected .* Pixels\(\) alone, .* got alpha$",
        ),
        ({"regularizers": (SmallNorms(1),), "shared": (Shared(),)}, "^regularizers: expected .* alone, .* got shared$"),
        ({"regularizers": (SmallNorms(1),), "parameterization": Fourier()}, "^regularizers: expected .* got Fourier"),
        ({"alpha": True}, "^alpha: expected an Alpha, got bool$"),
        ({"alpha": Alpha(math.nan)}, "^alpha: background: expected a finite number"),
        ({"alpha": Alpha(standard_deviation=-1.0)}, "^alpha: standard_deviation: expected a finite number"),
        ({"alpha": Alpha(), "projection": LInfBall(0.1)}, "^alpha: expected none with a projection, got"),
        ({"keep": "first"}, "^keep: expected one of last, best, got 'first'$"),
        ({"gradient_normalization": "softmax"}, "^gradient_normalization: expected one of none, .*, got 'softmax'$"),
        ({"start": Noise(-1.0)}, "^start: standard deviation: "),
        ({"start": Noise(math.inf)}, "^start: standard deviation: "),
        ({"start": Noise(1e39)}, "^start: "),
        ({"start": math.nan}, "^start: expected a finite number"),
        ({"start": 1e39, "bounds": (-math.inf, math.inf)}, "^start: "),
        ({"start": "noise"}, "^start: expected a finite number"),
        ({"start": np.full((3, 4, 5), np.nan)}, "^start: expected finite values"),
        ({"start": np.full((3, 4, 5), "a", object)}, "^start: "),
        (
            {"start": np.zeros((4, 5))},
            r"^start: expected an image of shape \[3, 4, 5\], or \[1, 3, 4, 5\] for one each, got \[4, 5\]$",
        ),
        ({"start": np.zeros((2, 3, 4, 5)), "count": 3}, "^start: expected an image of shape"),
        ({"inputs": {"x": np.zeros((1, 3, 4, 5))}}, "^inputs: expected every input but 'x', which changes"),
    ],
)
def test_a_setting_out_of_range(settings, error):
    with pytest.raises(InvalidAscent, match=error):
        spec(**settings)


# ---- inputs and shapes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tensor", "shape", "planar"),
    [
        (OPEN, (3, 8, 9), (3, 8, 9)),
        (OPEN, [3, 1, 1], (3, 1, 1)),
        (IMAGE, (3, 4, 5), (3, 4, 5)),
        (NHWC, (), (3, 4, 5)),
        (ROWS, (), (1, 1, 7)),
        (TensorDescription("x", "float32", ("N",)), (), (1, 1, 1)),
    ],
)
def test_shapes(tensor, shape, planar):
    got = spec(tensor, shape=shape, count=2)
    assert got.pixels.planar_shape == planar
    assert got.start.shape == (2, *planar)
    assert got.feeds["x"].shape == (2, *(shape or tensor.shape[1:]))


@pytest.mark.parametrize(
    ("tensor", "shape", "expected"),
    [
        (OPEN, (), r"\[3,\?,\?\]"),
        (OPEN, (3, 8), r"\[3,\?,\?\]"),
        (OPEN, (1, 8, 8), r"\[3,\?,\?\]"),
        (OPEN, (3, 0, 8), r"\[3,\?,\?\]"),
        (OPEN, (3, -1, 8), r"\[3,\?,\?\]"),
        (OPEN, (3, 8.5, 8), r"\[3,\?,\?\]"),
        (OPEN, (3, "H", 8), r"\[3,\?,\?\]"),
        (IMAGE, (3, 4, 6), r"\[3,4,5\]"),
    ],
)
def test_a_shape_that_does_not_fit(tensor, shape, expected):
    with pytest.raises(InvalidAscent, match=rf"^shape: expected {expected} with every size given, for input 'x', got \["):
        spec(tensor, shape=shape)


def test_a_shape_that_no_memory_holds():
    with pytest.raises(TooLarge, match="shape"):
        spec(OPEN, shape=(3, 2**31, 2**31))


# 2**18 float32 are one MiB.
@pytest.mark.parametrize(
    ("limit", "most", "more", "text"),
    [
        ("max_steps", {"steps": 10}, {"steps": 11}, r"^steps: expected at most 10 \(max_steps\) in an ascent, got 11$"),
        ("max_images", {"count": 10}, {"count": 11}, r"^count: expected at most 10 \(max_images\) in an ascent, got 11$"),
        (
            "max_ascent_mib",
            {"count": 10, "shape": (1, 2**9, 2**9)},
            {"count": 10, "shape": (1, 2**9, 2**9 + 1)},
            "max_ascent",
        ),
    ],
)
def test_limits(limit, most, more, text):
    tensor = TensorDescription("x", "float32", ("N", None, None, None))
    limits = EngineConfig(**{limit: 10})
    assert spec(tensor, limits=limits, **{"shape": (1, 1, 1), **most})
    with pytest.raises(TooLarge, match=text):
        spec(tensor, limits=limits, **{"shape": (1, 1, 1), **more})


def test_a_fixed_batch_is_the_count():
    assert spec(FIXED, count=4).count == 4
    with pytest.raises(InvalidAscent, match="^count: expected 4, because input 'x' has a fixed batch, got 1$"):
        spec(FIXED)


@pytest.mark.parametrize("float_inputs", [[], ["x", "w"]])
def test_an_input_must_be_named_where_there_is_not_just_one(float_inputs):
    with pytest.raises(InvalidAscent, match="^input: expected one of .*, got none$"):
        resolve({}, [IMAGE, WHOLE], float_inputs, LIMITS)


def test_the_input_is_the_only_float_one_or_the_one_named():
    assert resolve({}, [BATCHED, IMAGE], ["x"], LIMITS).input == "x"
    assert resolve({"input": "x"}, [WHOLE, IMAGE], ["w", "x"], LIMITS).input == "x"


@pytest.mark.parametrize(("name", "error"), [("b", NotDifferentiable), ("w", NotDifferentiable), ("z", UnknownInput)])
def test_an_input_that_cannot_change(name, error):
    with pytest.raises(error, match=f"^input '{name}': expected "):
        resolve({"input": name}, [IMAGE, BATCHED, WHOLE], ["x", "w"], LIMITS)


def test_other_inputs_are_repeated_for_each_image():
    feeds = spec(others=[BATCHED, WHOLE], count=3, inputs={"b": [[1, 2]], "w": [0.5, 1.5]}).feeds
    np.testing.assert_array_equal(feeds["b"], [[1, 2]] * 3)
    np.testing.assert_array_equal(feeds["w"], [0.5, 1.5])


def test_other_inputs_may_differ_from_image_to_image():
    given = np.arange(6).reshape(3, 2)
    np.testing.assert_array_equal(spec(others=[BATCHED], count=3, inputs={"b": given}).feeds["b"], given)


# ---- the start -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tensor", "middle", "width"), [(IMAGE, 1.0, 4.0), (FREE, 0.0, 1.0)])
def test_noise_lies_around_the_middle_in_units_of_the_range(tensor, middle, width):
    start = spec(tensor, start=Noise(0.05), count=64).start
    assert abs(start.mean() - middle) < TOLERANCE["mean of 3840 normal numbers"] * 0.05 * width
    assert abs(start.std() / (0.05 * width) - 1) < TOLERANCE["deviation of 3840 normal numbers"]


def test_a_start_is_within_the_bounds():
    start = spec(start=Noise(5.0), bounds=(0.0, 0.5)).start
    assert start.min() == 0.0
    assert start.max() == 0.5
    assert (spec(start=9.0).start == 3.0).all()


def test_no_noise_is_the_middle():
    assert (spec(start=Noise(0.0)).start == 1.0).all()


@pytest.mark.parametrize("value", [0.5, 1, np.float64(0.5), np.array(0.5)])
def test_a_constant(value):
    assert (spec(start=value, count=2).start == np.float32(value)).all()


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("tensor", [IMAGE, NHWC, ROWS])
def test_an_image(tensor, batched):
    shape = (2, *tensor.shape[1:]) if batched else tensor.shape[1:]
    given = np.random.default_rng(0).uniform(0, 1, shape)
    got = spec(tensor, start=given, count=2)
    expected = np.broadcast_to(given, (2, *tensor.shape[1:])).astype(np.float32)
    np.testing.assert_array_equal(got.pixels.from_planar(got.start), expected)


def test_the_callers_image_is_never_written_to():
    given = np.zeros((1, 3, 4, 5), np.float32)
    got = spec(start=given)
    run_once(got)
    assert (given == 0).all()


# ---- random numbers --------------------------------------------------------------------------------------------------


def taken(got, steps):
    return np.stack(list(itertools.islice(got.offsets(), steps)))


def drawn(**settings):
    got = spec(FREE, jitter=3, steps=20, **settings)
    return got.start, taken(got, 100).swapaxes(0, 1)


def test_the_same_seed_gives_the_same_bytes():
    for a, b in zip(drawn(seed=5, count=3), drawn(seed=5, count=3), strict=True):
        assert a.tobytes() == b.tobytes()


def test_other_settings_do_not_change_the_start():
    assert spec(FREE, seed=5).start.tobytes() == spec(FREE, seed=5, jitter=3, steps=7, optimizer=Sgd(1.0)).start.tobytes()


def test_an_image_is_the_same_alone_and_in_company():
    few, many = drawn(seed=5, count=2), drawn(seed=5, count=5)
    for a, b in zip(few, many, strict=True):
        assert a.tobytes() == b[:2].tobytes()


@pytest.mark.parametrize("seed", [1, 2**32, 2**63, 2**64 - 1])
def test_another_seed_gives_other_images_at_every_index(seed):
    """2**32 and above: a seed of two words must not be taken for a seed and an index."""
    every = [image.tobytes() for s in (0, seed) for image in drawn(seed=s, count=4)[0]]
    assert len(set(every)) == len(every)
    every = [offsets.tobytes() for s in (0, seed) for offsets in drawn(seed=s, count=4)[1]]
    assert len(set(every)) == len(every)


def test_seeds_that_share_a_low_word_differ():
    assert drawn(seed=5, count=2)[0][1].tobytes() != drawn(seed=5 + 2**32)[0][0].tobytes()


@pytest.mark.parametrize("jitter", [1, 3])
def test_jitter_takes_every_shift_both_ways(jitter):
    offsets = taken(spec(jitter=jitter), 500)
    assert offsets.shape == (500, 1, 2)
    assert offsets.dtype == np.int32
    assert set(np.unique(offsets)) == set(range(-jitter, jitter + 1))
    assert not np.array_equal(offsets[..., 0], offsets[..., 1])


# ---- through the loop ------------------------------------------------------------------------------------------------


def run_once(got):
    """An ascent on a model whose gradient is 1 everywhere."""
    batch = got.feeds[got.input]
    values, gradient = np.zeros(got.count, np.float32), np.ones_like(batch)
    return list(ascend(got, again_and_again(lambda: None), canvas_of(got, batch, gradient), values))


def test_adam_arrives_at_the_kernels_as_adam():
    """Its first update is the learning rate, whatever the gradient's size."""
    got = spec(FREE, optimizer=Adam(0.125), steps=1, start=0.0)
    got.feeds["x"][...] = 0
    batch, gradient = got.feeds["x"], np.full((1, 3, 4, 5), 1000, np.float32)
    *_, last = ascend(got, again_and_again(lambda: None), canvas_of(got, batch, gradient), np.zeros(1, np.float32))
    np.testing.assert_allclose(last.image, 0.125, rtol=TOLERANCE["float32 operator"])


@pytest.mark.parametrize(("steps", "every", "expected"), [(3, 1, [0, 1, 2, 3]), (5, 2, [0, 2, 4, 5]), (2, 10, [0, 2])])
def test_reports(steps, every, expected):
    reports = run_once(spec(steps=steps, report_every=every))
    assert [report.index for report in reports] == expected
    assert [report.stop_reason for report in reports] == [None] * (len(expected) - 1) + [StopReason.FINISHED]
    assert [report.image is not None for report in reports] == [False] * (len(expected) - 1) + [True]
