"""Ascents whose images stay on a device are those of the processor. Here the device is the processor, too: what differs on
another one is where the tensors lie (tests/unit/runtime/test_device.py)."""

import gc
import math
import weakref
from contextlib import nullcontext

import numpy as np
import pytest
from support.paths import MODELS
from support.reference import relative_error
from support.tolerances import TOLERANCE

from gradserve import Checkpoint, GradientNormalization, StopReason
from gradserve import objectives as O
from gradserve import parameterizations as P
from gradserve import regularizers as R
from gradserve import transforms as T
from gradserve.errors import CallCancelled, InvalidAscent, RunFailed
from gradserve.numbers import Linear
from gradserve.optimizers import Adam, AdamW, Momentum, NAdam, RmsProp, Sgd
from gradserve.projections import L2Ball, LInfBall
from gradserve.stopping import Probability, Value
from gradserve_server import Engine
from gradserve_server.ascent import canvases
from gradserve_server.ascent.canvas import is_plain
from gradserve_server.ascent.canvases import stays
from gradserve_server.ascent.resident_canvas import ResidentCanvas
from gradserve_server.runtime.device import Device
from gradserve_server.runtime.runs import Steps
from gradserve_server.runtime.session import Session
from gradserve_server.runtime.tensors import Tensor

OBJECTIVE = O.unit("logits", 7)
LINF = {"projection": LInfBall(0.1), "optimizer": Sgd(0.02), "gradient_normalization": GradientNormalization.SIGN}
CASES = {
    "the defaults": {},
    "rolled": {"jitter": 3, "count": 2},
    "rolled one by one": {"jitter": 3, "count": 2, "bounds": (np.full((1, 28, 28), -0.2, np.float32), 0.3)},
    "attack": {**LINF, "count": 2, "bounds": (0.0, 1.0)},
    "attack from a random start": {**LINF, "projection": LInfBall(0.1, random_start=True), "count": 2},
    "Euclidean": {"projection": L2Ball(0.5), "optimizer": Sgd(0.2), "gradient_normalization": GradientNormalization.L2},
    "decay": {"gradient_normalization": GradientNormalization.STD, "optimizer": NAdam(0.05), "weight_decay": 0.01},
    "rate that falls": {"optimizer": AdamW(Linear(0.05, 0.01)), "count": 3},
    "the best": {"keep": "best", "optimizer": Momentum(5.0, nesterov=True), "count": 3, "jitter": 2},
    "the best of a fall": {"keep": "best", "optimizer": Sgd(500.0), "count": 3},
    "until a value": {"stop_at": Value(1.0), "count": 4, "optimizer": Adam(0.05)},
    "until a value, rolled": {"stop_at": Value(1.0, every=2), "count": 4, "jitter": 1, "optimizer": RmsProp(0.02)},
    "until a value, one after another": {
        "stop_at": Value(0.3),
        "count": 3,
        "steps": 13,
        "optimizer": Adam(0.05),
        "start": np.random.default_rng(0).normal(size=(3, 1, 28, 28)) * np.array([0.05, 0.3, 0.6]).reshape(-1, 1, 1, 1),
    },
    "until a probability": {"stop_at": Probability(0.5), "count": 3, "steps": 40},
    "redirected": {"redirect_relu_steps": 3},
    "falling weight": {"objective": Linear(2, 0.5) * OBJECTIVE},
}


def ascend(engine, objective=OBJECTIVE, **settings):
    return list(engine.ascend("digits", objective, **{"steps": 9, "seed": 1, "image_every": 1, **settings}))


@pytest.fixture(scope="module")
def engine():
    with Engine(MODELS) as engine:
        yield engine


@pytest.fixture
def resident(engine, monkeypatch):
    """The same engine, with images that stay on the device."""
    monkeypatch.setattr(canvases, "stays", lambda spec, _: is_plain(spec))
    return engine


@pytest.fixture
def both(engine, monkeypatch):
    """What settings lead to, with images on this side and on the device."""

    def run(settings):
        here = ascend(engine, **settings)
        with monkeypatch.context() as patch:
            patch.setattr(canvases, "stays", lambda spec, _: is_plain(spec))
            return here, ascend(engine, **settings)

    return run


def close(got, expected):
    assert len(got) == len(expected)
    for step, other in zip(got, expected, strict=True):
        assert (step.index, step.stop_reason) == (other.index, other.stop_reason)
        assert relative_error(step.image, other.image) < TOLERANCE["float32 network"]
        assert relative_error(step.gradient_norms, other.gradient_norms) < TOLERANCE["float32 network"]
        np.testing.assert_allclose(step.values, other.values, rtol=0, atol=TOLERANCE["float32 network"])
        for name in ("reached", "dead", "image_indices"):
            np.testing.assert_array_equal(getattr(step, name), getattr(other, name))


@pytest.mark.parametrize("name", CASES)
def test_an_ascent_is_that_of_the_processor(name, both):
    here, there = both(CASES[name])
    assert len({step.image.tobytes() for step in here}) > 2
    close(there, here)


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_same_twice(name, resident):
    first, second = (ascend(resident, **CASES[name]) for _ in range(2))
    for step, again in zip(first, second, strict=True):
        np.testing.assert_array_equal(step.image, again.image)
        np.testing.assert_array_equal(step.values, again.values)


@pytest.mark.parametrize("name", CASES)
def test_it_goes_on_with_the_same_bytes_from_a_checkpoint(name, resident):
    settings = CASES[name] | {"checkpoint_every": 2}
    whole = ascend(resident, **settings)
    middle = next(step for step in whole if step.index == 2)
    rest = ascend(resident, **settings, resume=Checkpoint.from_bytes(middle.checkpoint.to_bytes()))
    for step, again in zip(whole[whole.index(middle) :], rest, strict=True):
        np.testing.assert_array_equal(step.image, again.image)
        np.testing.assert_array_equal(step.gradient_norms, again.gradient_norms)


def test_a_checkpoint_of_the_processor_goes_on_on_the_device_and_back(engine, both):
    settings = {"checkpoint_every": 4, "count": 2, "jitter": 2}
    for_each = both(settings)
    checkpoints = [next(step.checkpoint for step in steps if step.index == 4) for steps in for_each]
    assert checkpoints[0].arrays.keys() == checkpoints[1].arrays.keys()
    from_here, from_there = (
        both({**settings, "resume": checkpoints[0]})[1],
        ascend(engine, **settings, resume=checkpoints[1]),
    )
    close(from_here, for_each[0][4:])
    close(from_there, for_each[0][4:])


def test_a_checkpoint_whose_image_is_out_of_bounds_is_refused(resident):
    first = ascend(resident, checkpoint_every=1)[0].checkpoint
    first.arrays["image"][0, 0, 0, 0] = 1e6
    with pytest.raises(InvalidAscent, match="resume: 'image': expected values from"):
        ascend(resident, resume=first)


@pytest.mark.parametrize("first", [True, False])
def test_an_image_that_breaks_stays_as_it_is(first, both):
    """Its logits are infinite."""
    start = np.zeros((2, 1, 28, 28), np.float32)
    start[0 if first else 1] = 1e38
    here, there = both({"start": start, "count": 2, "bounds": (-3e38, 3e38)})
    assert here[-1].stop_reason is there[-1].stop_reason is StopReason.NON_FINITE
    for step, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(np.isfinite(step.gradient_norms), np.isfinite(other.gradient_norms))
    broken = 0 if first else 1
    np.testing.assert_array_equal(there[-1].image[broken], start[broken])


def test_an_ascent_that_is_interrupted_before_its_turn_has_a_checkpoint(resident):
    steps = ascend(resident, should_interrupt=lambda: True)
    assert steps[-1].stop_reason is StopReason.INTERRUPTED
    assert len(ascend(resident, resume=steps[-1].checkpoint)) == 10


def test_a_run_that_never_came_leaves_no_numbers(both, monkeypatch):
    """Those of the run before it are of another image."""
    come = Steps.__call__

    def call(self, advance):
        if advance.__self__._state.index == 2:
            msg = "gone"
            raise CallCancelled(msg)
        come(self, advance)

    monkeypatch.setattr(Steps, "__call__", call)
    for steps in both({}):
        assert [step.index for step in steps] == [0, 1, 2]
        assert steps[-1].stop_reason is StopReason.INTERRUPTED
        assert np.isfinite(steps[1].gradient_norms).all()
        assert np.isnan(steps[-1].gradient_norms).all()
        assert np.isnan(steps[-1].values).all()


def test_the_last_run_changes_nothing(resident):
    """The state that it wrote beside the one that it read is not taken."""
    *_, last = ascend(resident, checkpoint_every=9)
    np.testing.assert_array_equal(last.checkpoint.arrays["image"], last.image)


def test_images_and_moments_stay_where_they_are(resident, monkeypatch):
    """In a step, what comes from this side and goes there are numbers of steps, and of rows and columns, not of pixels."""
    crossed = []
    bind = Session.bind

    def watched(self, feeds, results):
        crossed.extend(array.size for array in (*feeds.values(), *results.values()) if isinstance(array, np.ndarray))
        return bind(self, feeds, results)

    monkeypatch.setattr(Session, "bind", watched)
    steps = ascend(resident, steps=20, count=2, jitter=2, image_every=0)
    assert len(steps) == 21
    assert max(crossed) <= 2 * 28


@pytest.mark.parametrize("how", ["ends", "is abandoned", "breaks off"])
def test_what_an_ascent_has_on_the_device_is_let_go_with_it(how, resident, monkeypatch):
    """Not when Python next looks for cycles: nothing tells it how full a device is."""
    canvas, broken = [], how == "breaks off"
    made, after = ResidentCanvas.__init__, ResidentCanvas._run_after

    def watched(self, *args):
        made(self, *args)
        canvas.append(weakref.ref(self))

    def failing(self):
        after(self)
        if broken and self.optimizer.steps == 2:
            msg = "out of memory"
            raise RunFailed(msg)

    monkeypatch.setattr(ResidentCanvas, "__init__", watched)
    monkeypatch.setattr(ResidentCanvas, "_run_after", failing)
    gc.collect()
    gc.disable()
    try:
        steps = resident.ascend("digits", OBJECTIVE, steps=4, redirect_relu_steps=1, stop_at=Probability(0.99))
        with pytest.raises(RunFailed) if broken else nullcontext():
            for _ in steps:
                if how == "is abandoned":
                    break
        del steps
        assert canvas[0]() is None
    finally:
        gc.enable()


def test_images_come_to_this_side_only_where_they_are_better(resident, monkeypatch):
    fetched = []
    numpy = Tensor.numpy
    monkeypatch.setattr(Tensor, "numpy", lambda self: fetched.append(1) or numpy(self))
    steps = ascend(resident, keep="best", optimizer=Sgd(500.0), image_every=0)
    values = [step.values[0] for step in steps[:-1]]
    better = sum(value > max(values[:index], default=-math.inf) for index, value in enumerate(values))
    assert better < len(values)
    assert len(fetched) <= better + 1  # and the last one, to be delivered


@pytest.mark.parametrize(
    "settings",
    [
        {"parameterization": P.Fourier(colours=())},
        {"transforms": (T.Rotate(5.0),)},
        {"regularizers": (R.GaussianBlur(1.0, 1),)},
        {"image_size": (20, 20)},
    ],
    ids=["numbers", "transforms", "regularizers", "size"],
)
def test_others_have_their_arithmetic_on_the_processor(settings, engine, monkeypatch):
    made = []
    monkeypatch.setattr(canvases, "ResidentCanvas", lambda *_: made.append(1))
    monkeypatch.setattr(canvases, "stays", lambda spec, _: stays(spec, Device.CUDA))
    assert len(ascend(engine, steps=1, **settings)) == 2
    assert not made


def test_on_the_processor_nothing_is_resident(engine, monkeypatch):
    monkeypatch.setattr(ResidentCanvas, "__init__", lambda *_: pytest.fail("a resident canvas"))
    ascend(engine, steps=1)
