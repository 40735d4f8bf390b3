"""What the last report says of images that broke, were done otherwise than by their value, or that others go on with."""

import itertools

import numpy as np
import pytest
from support.steps import again_and_again

from gradserve import ImageDescription, StopReason, TensorDescription
from gradserve.optimizers import Sgd
from gradserve.stopping import Value
from gradserve.transforms import Flip
from gradserve_server import EngineConfig
from gradserve_server.ascent.canvases import canvas_of
from gradserve_server.ascent.climb import NEVER, Signals
from gradserve_server.ascent.loop import ascend
from gradserve_server.ascent.spec import resolve

IMAGE = TensorDescription("x", "float32", ("N", 1, 6, 7), ImageDescription())
STEPS = 30
STARTS = (0.1, 0.3, 0.2)


def hill(batch, values, gradient):
    """Highest where all pixels are 0.5; its gradient leads on, past the top: 0.02 with each step."""
    gradient.fill(1 / batch[0].size)
    values[:] = 1 - np.abs(batch.mean(axis=(1, 2, 3)) - 0.5)


def run(model=hill, *, measured=None, signals=NEVER, **settings):
    start = np.float32(STARTS).reshape(3, 1, 1, 1) * np.ones((3, 1, 6, 7), np.float32)
    common = {"steps": STEPS, "count": 3, "start": start, "optimizer": Sgd(0.84), "bounds": (-5.0, 5.0)}
    spec = resolve({**common, **settings}, [IMAGE], ["x"], EngineConfig())
    batch = spec.feeds["x"]
    values, gradient = np.empty(spec.count, np.float32), np.empty_like(batch)
    runs = again_and_again(lambda: model(batch, values, gradient))
    measure = None if measured is None else lambda: measured(batch)
    return list(
        ascend(
            spec,
            runs,
            canvas_of(spec, batch, gradient),
            values,
            measure=measure,
            signals=signals,
            identity=lambda: {"m": "m"},
        )
    )


def at_calls(**broken):
    """The hill, where some calls give one image NaN: `values={3: 0}` in call 3 for image 0."""
    calls = itertools.count()

    def model(batch, values, gradient):
        hill(batch, values, gradient)
        call = next(calls)
        for name, array in (("values", values), ("gradient", gradient)):
            if call in broken.get(name, {}):
                array[broken[name][call]] = np.nan

    return model


# ---- broken ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "broken",
    [
        {"gradient": {4: [0, 1, 2]}},
        {"values": {4: [0, 1, 2]}},
        {"values": {2: [0]}, "gradient": {4: [1, 2]}},
        {"gradient": {2: [0], 3: [1]}, "values": {4: [2]}},
    ],
)
def test_the_last_image_is_that_of_the_last_index(broken):
    """Whichever images moved on in the step in which the last of them broke."""
    for image_every in (0, 1):
        *_, last = run(at_calls(**broken), image_every=image_every, checkpoint_every=1)
        assert (last.index, last.stop_reason) == (4, StopReason.NON_FINITE)
        assert last.image.tobytes() == last.checkpoint.arrays["image"].tobytes()


def test_beside_the_best_images_the_last_are_those_of_the_last_index():
    """Image 0 broke, and climbs on while the others break."""
    broken = {"gradient": {2: [0], 4: [1, 2]}}
    *_, last = run(at_calls(**broken), keep="best", checkpoint_every=1)
    assert last.image_indices.tolist() == [4, 4, 4]
    assert last.image.tobytes() == last.checkpoint.arrays["image"].tobytes()


def test_an_image_that_broke_is_neither_done_nor_the_best_later():
    """Image 1 passes the top first, and is nearer to it in the end than it was before it broke."""
    settings = {"keep": "best", "stop_at": Value(0.97)}
    *_, last = run(at_calls(gradient={0: [1]}), **settings)
    assert (last.index, last.stop_reason) == (19, StopReason.NON_FINITE)
    assert last.reached.tolist() == [True, False, True]
    assert last.image_indices[1] == 19
    *_, whole = run(**settings)
    assert whole.reached.all()


def test_what_broke_at_once_is_not_dead():
    def model(batch, values, gradient):
        hill(batch, values, gradient)
        gradient[:] = 0
        gradient[0] = np.nan

    last = run(model)[-1]
    assert last.stop_reason is StopReason.NON_FINITE
    assert last.dead.tolist() == [False, True, True]


def test_an_image_of_no_step_is_never_the_best():
    """With transforms, every step's value is NaN, and only that of the last look at the best image is not."""
    calls = range(STEPS + 1)
    last = run(at_calls(values={call: [0] for call in calls}), keep="best", transforms=(Flip(),))[-1]
    assert (last.index, last.stop_reason) == (STEPS, StopReason.NON_FINITE)
    assert last.image_indices[0] == STEPS
    assert np.isnan(last.values).tolist() == [True, False, False]


# ---- done ------------------------------------------------------------------------------------------------------------


def test_what_is_done_by_another_measure_is_delivered_though_others_were_better():
    *_, last = run(measured=lambda batch: batch.mean(axis=(1, 2, 3)).astype(np.float64), stop_at=Value(0.6), keep="best")
    assert last.stop_reason is StopReason.REACHED
    assert (last.values < 0.91).all()
    np.testing.assert_allclose(last.image.mean(axis=(1, 2, 3)), 0.61, atol=0.011)


# ---- interrupted -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"transforms": (Flip(),)}])
def test_where_others_go_on_the_last_image_is_told_and_not_the_best(more):
    def interrupting():
        calls = itertools.count()
        return Signals(interrupt=lambda: next(calls) >= 28)

    part = run(signals=interrupting(), keep="best", stop_at=Value(99.0), **more)[-1]
    plain = run(signals=interrupting(), **more)[-1]
    assert part.stop_reason is StopReason.INTERRUPTED
    assert (part.index, part.image.tobytes(), part.values.tobytes()) == (
        plain.index,
        plain.image.tobytes(),
        plain.values.tobytes(),
    )
    assert part.image_indices is None
    assert (part.measured is None) == (not more)
