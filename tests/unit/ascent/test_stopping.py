"""When images are done, which are delivered, and which are dead: on functions, and on the digits model."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from support.steps import again_and_again

from gradserve import Checkpoint, ImageDescription, Noise, Objective, StopReason, TensorDescription
from gradserve import objectives as O
from gradserve import transforms as T
from gradserve.errors import InvalidAscent, UnknownLayer
from gradserve.numbers import Linear
from gradserve.optimizers import Adam, Momentum, Sgd
from gradserve.parameterizations import Alpha, Fourier
from gradserve.projections import L2Ball
from gradserve.stopping import Keep, Probability, Value
from gradserve_server import EngineConfig
from gradserve_server.ascent.canvases import canvas_of
from gradserve_server.ascent.loop import ascend
from gradserve_server.ascent.spec import resolve

IMAGE = TensorDescription("x", "float32", ("N", 1, 6, 7), ImageDescription())
COUNT = 3
STEPS = 30


def mean(batch, values, gradient):
    """The mean of the pixels, which grows by as much as they do."""
    gradient.fill(1 / batch[0].size)
    values[:] = batch.mean(axis=(1, 2, 3))


def run(model=mean, tensor=IMAGE, **settings):
    start = np.array([0.1, 0.3, 0.2], np.float32).reshape(3, 1, 1, 1) * np.ones((3, 1, 6, 7), np.float32)
    common = {"steps": STEPS, "count": COUNT, "start": start, "optimizer": Sgd(0.42), "bounds": (-5.0, 5.0)}
    spec = resolve({**common, **settings}, [tensor], ["x"], EngineConfig())
    batch = spec.feeds["x"]
    values, gradient = np.empty(spec.count, np.float32), np.empty_like(batch)
    runs = again_and_again(lambda: model(batch, values, gradient))
    return list(ascend(spec, runs, canvas_of(spec, batch, gradient), values, identity=lambda: {"m": "m"}))


def facts(step):
    arrays = (step.values, step.gradient_norms, step.image, step.reached, step.measured, step.dead, step.image_indices)
    return (step.index, step.stop_reason, *(None if array is None else array.tobytes() for array in arrays))


# ---- done ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [Sgd(0.42), Momentum(0.1), Adam(0.01)])
@pytest.mark.parametrize(
    "more", [{}, {"jitter": 2}, {"transforms": (T.Flip(),)}, {"projection": L2Ball(3.0)}, {"weight_decay": 0.001}]
)
def test_each_image_stays_where_it_is_done(optimizer, more):
    steps = run(stop_at=Value(0.35), optimizer=optimizer, image_every=1, **more)
    done_at = {n: next(step.index for step in steps if step.values[n] >= 0.35) for n in range(COUNT)}
    assert len(set(done_at.values())) == COUNT
    for step in steps:
        np.testing.assert_array_equal(step.reached, [step.index >= done_at[n] for n in range(COUNT)])
        np.testing.assert_allclose(step.measured, step.values, rtol=0, atol=1e-6)
        assert np.isfinite(step.gradient_norms).all()
        assert (step.gradient_norms > 0).all()
    for n, at in done_at.items():
        assert len({step.image[n].tobytes() for step in steps if step.index >= at}) == 1
        assert len({step.image[n].tobytes() for step in steps if step.index <= at}) == at + 1
    last = steps[-1]
    assert (last.stop_reason, last.index) == (StopReason.REACHED, max(done_at.values()))
    assert last.values.min() >= 0.35


@pytest.mark.parametrize("more", [{}, {"transforms": (T.Blur(1.0, 1),), "optimizer": Adam(0.01)}])
def test_an_image_is_done_alone_as_in_company(more):
    start = np.full((3, 1, 6, 7), 0.1, np.float32)
    start[1:] += np.random.default_rng(0).uniform(0, 0.2, (2, 1, 6, 7)).astype(np.float32)
    alone = run(stop_at=Value(0.35), start=start[:1], count=1, **more)[-1]
    together = run(stop_at=Value(0.35), start=start, **more)[-1]
    assert together.image[:1].tobytes() == alone.image.tobytes()


@pytest.mark.parametrize("every", [1, 4, 100])
@pytest.mark.parametrize("more", [{}, {"jitter": 1}])
def test_it_is_measured_every_so_many_steps_and_at_the_end(every, more):
    steps = run(stop_at=Value(0.349, every), **more)
    measured = [step.index for step in steps if step.measured is not None]
    last = steps[-1].index
    assert measured == sorted({*range(0, last + 1, every), last})
    assert last == {1: 25, 4: 28, 100: STEPS}[every]
    assert steps[-1].stop_reason is StopReason.REACHED


def test_with_transforms_the_image_is_measured_as_it_is():
    """The transform darkens what the model sees: no step's own value reaches the goal, and the picture does."""
    darker = (T.Affine(right=3.0, fill=0.0),)
    steps = run(stop_at=Value(0.35), transforms=darker, steps=90)
    assert steps[-1].stop_reason is StopReason.REACHED
    assert steps[-1].values.min() >= 0.35
    assert max(step.values.max() for step in steps[:-1]) < 0.35


def test_what_is_never_reached():
    last = run(stop_at=Value(99.0))[-1]
    assert (last.stop_reason, last.index, last.reached.any()) == (StopReason.FINISHED, STEPS, False)
    assert run()[-1].reached is None


def test_a_start_that_is_done_is_delivered_as_it_is():
    (only,) = run(stop_at=Value(0.05))
    assert (only.index, only.stop_reason) == (0, StopReason.REACHED)
    np.testing.assert_array_equal(only.image[:, 0, 0, 0], np.float32([0.1, 0.3, 0.2]))


def test_images_that_are_done_and_images_that_broke():
    def breaks(batch, values, gradient):
        mean(batch, values, gradient)
        values[0] = np.nan

    last = run(breaks, stop_at=Value(0.35), optimizer=Sgd(0.42))[-1]
    assert last.stop_reason is StopReason.NON_FINITE
    np.testing.assert_array_equal(last.reached, [False, True, True])
    assert last.index < STEPS


# ---- best ------------------------------------------------------------------------------------------------------------


def hill(batch, values, gradient):
    """Highest where all pixels are 0.5; its gradient leads on, past the top."""
    gradient.fill(1 / batch[0].size)
    values[:] = 1 - np.abs(batch.mean(axis=(1, 2, 3)) - 0.5)


@pytest.mark.parametrize("optimizer", [Sgd(0.63), Adam(0.02)])
def test_the_best_is_delivered(optimizer):
    steps = run(hill, keep="best", image_every=1, optimizer=optimizer)
    every = run(hill, image_every=1, optimizer=optimizer)
    values = np.array([step.values for step in every])
    best = values.argmax(axis=0)
    last = steps[-1]
    assert last.index == STEPS
    assert (best < STEPS).all()
    np.testing.assert_array_equal(last.image_indices, best)
    np.testing.assert_array_equal(last.values, values.max(axis=0))
    for n, index in enumerate(best):
        np.testing.assert_array_equal(last.image[n], every[index].image[n])
        assert last.gradient_norms[n] == every[index].gradient_norms[n]
    assert [facts(step) for step in steps[:-1]] == [facts(step) for step in every[:-1]]


def test_the_last_is_the_best_where_values_only_grow():
    *_, best = run(keep=Keep.BEST)
    *_, last = run()
    assert best.image.tobytes() == last.image.tobytes()
    assert (best.image_indices == STEPS).all()


def test_with_transforms_the_values_are_those_of_the_pictures():
    settings = {"transforms": (T.Noisy(0.2),), "optimizer": Sgd(0.63)}
    *_, best = run(hill, keep="best", **settings)
    *_, last = run(hill, **settings)
    np.testing.assert_allclose(best.values, 1 - np.abs(best.image.mean(axis=(1, 2, 3)) - 0.5), rtol=0, atol=1e-6)
    assert (best.values >= last.values).all()
    assert (best.values > last.values).any()
    assert (best.image_indices < STEPS).any()


def test_a_best_image_before_all_broke():
    calls = itertools.count()

    def breaks(batch, values, gradient):
        mean(batch, values, gradient)
        if next(calls) >= 5:
            values[:] = np.nan

    last = run(breaks, keep="best")[-1]
    assert last.stop_reason is StopReason.NON_FINITE
    np.testing.assert_array_equal(last.image_indices, 4)
    assert np.isfinite(last.values).all()


SMALL = {"steps": 24, "count": 3, "optimizer": Adam(0.1), "seed": 5}


def test_a_lucky_background_is_no_better_picture(engine):
    """Transparent images are compared over one background, that of the last step."""
    settings = dict(SMALL)
    settings |= {"alpha": Alpha(standard_deviation=3.0), "parameterization": Fourier(colours=()), "optimizer": Adam(3.0)}
    *every, last = engine.ascend("digits", O.unit("logits", 7), **settings, image_every=1)
    *_, best = engine.ascend("digits", O.unit("logits", 7), **settings, keep="best")
    assert (best.values >= last.values).all()
    early = best.image_indices < last.index
    assert early.any()
    for n in np.flatnonzero(early):
        seen = every[best.image_indices[n]]
        np.testing.assert_array_equal(best.alpha[n], seen.alpha[n])
        assert best.values[n] != seen.values[n]


FALLING = [Linear(5.0, 1.0) * O.unit("logits", 7), O.unit("logits", 7) - Linear(0.0, 0.1) * O.l1()]


@pytest.mark.parametrize("falling", FALLING)
def test_a_scale_that_falls_makes_no_early_image_the_best(engine, falling):
    """Values are compared by the scales of the last step."""
    *_, last = engine.ascend("digits", falling, **SMALL)
    *_, best = engine.ascend("digits", falling, **SMALL, keep="best")
    assert (best.values >= last.values).all()
    constant = Objective(tuple((getattr(scale, "end", scale), term) for scale, term in falling.terms))
    first, *_ = engine.ascend("digits", constant, **SMALL | {"start": best.image, "steps": 1})
    np.testing.assert_allclose(best.values, first.values, rtol=1e-5)


def test_the_best_of_terms_across_a_batch_is_refused(engine):
    """Images of several steps never were a batch, and have no values."""
    with pytest.raises(InvalidAscent, match="^keep: expected last, because diversity on 'relu5' is of all images"):
        engine.ascend("digits", O.unit("logits", 7) - O.diversity("relu5"), count=2, keep="best")


def test_a_best_image_whose_gradient_broke_goes_on():
    def breaks(batch, values, gradient):
        hill(batch, values, gradient)
        gradient[0] = np.nan

    *_, checkpointed, last = run(breaks, keep="best", checkpoint_every=1)
    assert run(breaks, keep="best", resume=checkpointed.checkpoint)[-1].image.tobytes() == last.image.tobytes()


def test_what_is_done_is_delivered_though_others_were_better():
    """Reached by another measure, an image need not have the largest value."""
    *_, last = run(hill, keep="best", stop_at=Value(0.95), optimizer=Sgd(0.63))
    assert last.stop_reason is StopReason.REACHED
    assert (last.values >= 0.95).all()


# ---- checkpoints -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize(
    "more", [{}, {"jitter": 1}, {"transforms": (T.Noisy(0.1),)}, {"parameterization": Fourier(colours=())}]
)
def test_it_goes_on_with_the_same_bytes(every, more):
    settings = {
        "stop_at": Value(0.95, every),
        "keep": "best",
        "optimizer": Adam(0.03),
        "image_every": 1,
        "bounds": (0.0, 1.0),
        **more,
    }
    whole = run(hill, checkpoint_every=1, **settings)
    assert {*whole[-1].checkpoint.arrays} >= {
        "reached",
        "moved",
        "best: images",
        "best: values",
        "best: norms",
        "best: indices",
    }
    for step in whole:
        checkpoint = Checkpoint.from_bytes(step.checkpoint.to_bytes())
        again = run(hill, resume=checkpoint, **settings)
        assert [facts(one) for one in again] == [facts(one) for one in whole[step.index :]]


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("best: images", 7.0, "expected values from -5 to 5, got others"),
        ("best: indices", -1, "expected values from 0 to 30, got others"),
        ("best: indices", STEPS + 1, "expected values from 0 to 30, got others"),
        ("best: values", np.nan, "expected numbers, got NaN"),
    ],
)
def test_forged_best_images_are_refused(name, value, error):
    checkpoint = run(keep="best", checkpoint_every=5)[5].checkpoint
    checkpoint.arrays[name].reshape(-1)[0] = value
    with pytest.raises(InvalidAscent, match=f"^resume: '{name}': {error}$"):
        run(keep="best", resume=checkpoint)


# ---- dead ------------------------------------------------------------------------------------------------------------


def flat(_, values, gradient):
    """No image has a gradient."""
    gradient.fill(0)
    values.fill(0)


def test_a_dead_objective_says_so():
    last = run(flat)[-1]
    assert (last.stop_reason, last.dead.all(), last.index) == (StopReason.DEAD, True, STEPS)
    assert run()[-1].stop_reason is StopReason.FINISHED
    assert not run()[-1].dead.any()
    assert run()[0].dead is None


def test_one_dead_image_of_several():
    def half(batch, values, gradient):
        mean(batch, values, gradient)
        gradient[1] = 0

    last = run(half)[-1]
    assert last.stop_reason is StopReason.FINISHED
    np.testing.assert_array_equal(last.dead, [False, True, False])


@pytest.mark.parametrize(
    ("penalty", "more"),
    [(0.01 * O.total_variation(), {}), (0.0, {"alpha": Alpha(penalty=0.5), "parameterization": Fourier(colours=())})],
)
def test_a_penalty_does_not_wake_a_unit(penalty, more):
    """It moves the image, but the unit has nothing to say of it."""
    images = TensorDescription("x", "float32", ("N", 1, 6, 7), ImageDescription())
    common = {"steps": 4, "count": 2, "start": Noise(0.1), "optimizer": Sgd(0.1)}
    spec = resolve({**common, **more}, [images], ["x"], EngineConfig())
    spec = replace(spec, penalties=tuple((-scale, term) for scale, term in getattr(penalty, "terms", ())))
    batch, values = spec.feeds["x"], np.empty(2, np.float32)
    gradient = np.empty_like(batch)
    first, *_, last = ascend(
        spec, again_and_again(lambda: flat(batch, values, gradient)), canvas_of(spec, batch, gradient), values
    )
    assert (first.gradient_norms > 0).all()
    assert (last.stop_reason, last.dead.all()) == (StopReason.DEAD, True)


def test_one_step_with_a_gradient_is_life_also_after_a_checkpoint():
    calls = itertools.count()

    def once(batch, values, gradient):
        flat(batch, values, gradient)
        gradient[next(calls) == 3] = 1e-30

    whole = run(once, checkpoint_every=1)
    assert whole[-1].stop_reason is StopReason.FINISHED
    assert run(flat, resume=whole[10].checkpoint)[-1].stop_reason is StopReason.FINISHED
    assert run(flat, resume=whole[2].checkpoint)[-1].stop_reason is StopReason.DEAD


# ---- the digits model ------------------------------------------------------------------------------------------------


def shares(engine, images, index):
    logits = engine.infer("digits", {"image": (images - np.float32(0.2268)) / np.float32(0.33)})["logits"].astype(np.float64)
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return (powers / powers.sum(1, keepdims=True))[:, index]


SETTINGS = [{}, {"jitter": 1}, {"parameterization": Fourier(colours=()), "transforms": (T.Jitter(2),)}]


@pytest.mark.parametrize("verbs", ["engine", "client"])
@pytest.mark.parametrize("settings", SETTINGS)
def test_until_the_model_is_sure(request, verbs, settings):
    common = {"stop_at": Probability(0.98), "steps": 256, "count": 2, "start": Noise(0.05), **settings}
    *_, last = request.getfixturevalue(verbs).ascend("digits", O.unit("logits", 3), **common)
    engine = request.getfixturevalue("engine")
    assert last.stop_reason is StopReason.REACHED
    assert last.reached.all()
    np.testing.assert_allclose(last.measured, shares(engine, last.image, 3), rtol=1e-5)
    assert last.measured.min() >= 0.98
    assert last.index < 256


def test_a_probability_of_a_layer_that_is_named(engine):
    objective = O.unit("logits", 3) - 0.1 * O.unit("logits", 5)
    *_, last = engine.ascend("digits", objective, stop_at=Probability(0.9, "logits", 3), steps=256)
    assert last.stop_reason is StopReason.REACHED
    *_, last = engine.ascend("digits", O.unit("logits", 3), stop_at=Probability(1.0, "logits", 3, softmax=False), steps=256)
    assert last.measured[0] >= 1.0


@pytest.mark.parametrize(
    ("stop_at", "error", "text"),
    [
        (
            Probability(),
            InvalidAscent,
            "^stop_at: expected the layer of the probability, because the objective",
        ),
        (Probability(layer="logits", index=10), InvalidAscent, r"^stop_at: expected a unit of a layer \[N, K\], got 10 of"),
        (
            Probability(layer="relu1"),
            InvalidAscent,
            "^stop_at: expected a unit of .* got 0 of layer 'relu1' ",
        ),
        (Probability(layer="logit"), UnknownLayer, "logit"),
    ],
)
def test_a_probability_of_nothing(engine, stop_at, error, text):
    with pytest.raises(error, match=text):
        engine.ascend("digits", O.layer("relu1"), stop_at=stop_at)
