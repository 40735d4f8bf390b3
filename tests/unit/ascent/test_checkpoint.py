"""An ascent that goes on from a checkpoint is the ascent that was never interrupted; whatever else comes back is refused."""

import itertools
import typing
from dataclasses import fields, replace

import numpy as np
import pytest
from support.steps import again_and_again

from gradserve import (
    Adam,
    AscentSettings,
    Checkpoint,
    GradientNormalization,
    ImageDescription,
    Sgd,
    StopReason,
    TensorDescription,
)
from gradserve.errors import CallCancelled, GradserveError, InvalidAscent, InvalidTensor
from gradserve.numbers import Linear
from gradserve.optimizers import AdamW, Momentum, NAdam, RmsProp
from gradserve.v1 import checkpoint_pb2 as pb
from gradserve_server import EngineConfig, kernels
from gradserve_server.ascent.canvases import canvas_of
from gradserve_server.ascent.climb import Signals
from gradserve_server.ascent.loop import ascend
from gradserve_server.ascent.spec import resolve
from gradserve_server.ascent.transforms.draws import STEPS_DRAWN

MEAN, STD = (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)
LAYOUTS = {
    "NCHW": TensorDescription("x", "float32", ("N", 3, 4, 5), ImageDescription("NCHW", mean=MEAN, std=STD)),
    "NHWC": TensorDescription("x", "float32", ("N", 4, 5, 3), ImageDescription("NHWC", mean=MEAN, std=STD)),
}
OPTIMIZERS = [Sgd(0.03), Momentum(0.01), RmsProp(), Adam(0.01), AdamW(0.01), NAdam(Linear(0.01, 0.001))]
STEPS = STEPS_DRAWN + 6
IDENTITY = {"seed": "3", "model": "m"}


def curved(batch, values, gradient):
    """An objective with a gradient that is different everywhere, and nowhere 0."""
    gradient[...] = np.sin(3 * batch) + 2
    values[:] = gradient.sum(axis=(1, 2, 3))


def run(tensor=LAYOUTS["NCHW"], model=curved, signals=None, who=IDENTITY, **settings):
    """All reports of an ascent on a model that is a function."""
    spec = resolve({"steps": STEPS, "seed": 3, **settings}, [tensor], ["x"], EngineConfig())
    batch = spec.feeds["x"]
    values, gradient = np.empty(spec.count, np.float32), np.empty_like(batch)
    more = {} if signals is None else {"signals": signals}
    runs = again_and_again(lambda: model(batch, values, gradient))
    return list(ascend(spec, runs, canvas_of(spec, batch, gradient), values, identity=lambda: who, **more))


def facts(steps):
    """Everything in reports, to the bit."""
    return [
        (
            step.index,
            step.values.tobytes(),
            step.gradient_norms.tobytes(),
            step.image.tobytes() if step.image is not None else None,
            step.stop_reason,
            step.checkpoint.to_bytes() if step.checkpoint is not None else None,
        )
        for step in steps
    ]


def saved(index=5, **settings):
    """The checkpoint at a step of the usual ascent."""
    return run(checkpoint_every=1, **settings)[index].checkpoint


# ---- the same bytes --------------------------------------------------------------------------------------------------


def test_every_optimizer_is_in_this_test():
    assert {type(optimizer) for optimizer in OPTIMIZERS} == set(
        typing.get_args(typing.get_type_hints(AscentSettings)["optimizer"])
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("jitter", [0, 3])
@pytest.mark.parametrize("normalization", GradientNormalization)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: type(optimizer).__name__)
def test_it_goes_on_with_the_same_bytes(optimizer, normalization, jitter, layout):
    for count in (1, 3):
        settings = {
            "optimizer": optimizer,
            "gradient_normalization": normalization,
            "jitter": jitter,
            "count": count,
            "weight_decay": 0.0 if isinstance(optimizer, AdamW) else 0.01,
            "bounds": (-100, 100),
            "image_every": 1,
            "checkpoint_every": 1,
        }
        whole = run(LAYOUTS[layout], **settings)
        assert len({step.image.tobytes() for step in whole}) == STEPS + 1
        for index in (0, 1, 30, STEPS_DRAWN - 1, STEPS_DRAWN, STEPS_DRAWN + 1, STEPS):
            checkpoint = Checkpoint.from_bytes(whole[index].checkpoint.to_bytes())
            assert facts(run(LAYOUTS[layout], resume=checkpoint, **settings)) == facts(whole[index:])


@pytest.mark.parametrize("threads", [(1, 2), (2, 1)])
def test_with_another_number_of_threads(threads):
    tensor = TensorDescription("x", "float32", ("N", 3, 300, 300))
    settings = {"optimizer": Adam(), "jitter": 9, "steps": 4, "gradient_normalization": "l2"}
    before = kernels.num_threads()
    try:
        kernels.set_num_threads(threads[0])
        whole = run(tensor, checkpoint_every=2, **settings)
        kernels.set_num_threads(threads[1])
        resumed = run(tensor, resume=whole[2].checkpoint, **settings)
    finally:
        kernels.set_num_threads(before)
    assert resumed[-1].image.tobytes() == whole[-1].image.tobytes()


def test_what_is_no_image():
    tensor = TensorDescription("x", "float32", ("N", 7))

    def model(batch, values, gradient):
        np.sin(batch, out=gradient)
        values.fill(1)

    whole = run(tensor, model, checkpoint_every=1)
    assert facts(run(tensor, model, resume=whole[9].checkpoint, checkpoint_every=1)) == facts(whole[9:])


def test_late_steps_are_found_without_drawing_the_early_ones_again():
    """Which would take half a second for each image."""
    spec = resolve({"jitter": 3, "steps": 1_000_000, "seed": 1}, [LAYOUTS["NCHW"]], ["x"], EngineConfig())
    expected = list(itertools.islice(spec.offsets(), 990, 1100))
    np.testing.assert_array_equal(list(itertools.islice(spec.offsets(990), 110)), expected)
    assert next(spec.offsets(10**15)).shape == (1, 2)


def test_more_steps_than_there_were_to_be():
    settings = {"optimizer": Adam(), "jitter": 2}
    first = run(steps=10, checkpoint_every=100, **settings)
    assert first[-1].checkpoint.index == 10
    *_, more = run(steps=30, resume=first[-1].checkpoint, **settings)
    *_, expected = run(steps=30, **settings)
    assert more.image.tobytes() == expected.image.tobytes()


def test_an_image_that_was_not_finite_is_remembered():
    calls = itertools.count()

    def breaks(batch, values, gradient):
        curved(batch, values, gradient)
        if next(calls) == 5:
            gradient[1] = np.nan

    whole = run(model=breaks, count=2, checkpoint_every=1)
    assert whole[-1].stop_reason is StopReason.NON_FINITE
    assert run(count=2, resume=whole[5].checkpoint)[-1].stop_reason is StopReason.FINISHED
    assert run(count=2, resume=whole[6].checkpoint)[-1].stop_reason is StopReason.NON_FINITE


def test_an_optimizer_may_remember_infinity():
    def steep(_, values, gradient):
        gradient.fill(1e30)
        values.fill(1)

    checkpoint = run(model=steep, optimizer=Adam(), checkpoint_every=1)[3].checkpoint
    assert np.isinf(checkpoint.arrays["optimizer: second_moment"]).all()
    assert run(model=steep, optimizer=Adam(), resume=checkpoint)[-1].stop_reason is StopReason.FINISHED


# ---- when there is one -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "expected"), [(0, []), (1, list(range(11))), (4, [0, 4, 8, 10]), (5, [0, 5, 10]), (99, [0, 10])]
)
def test_every_so_many_steps_and_with_the_last(every, expected):
    steps = run(steps=10, report_every=99, checkpoint_every=every)
    assert [step.index for step in steps if step.checkpoint is not None] == expected
    assert [step.index for step in steps] == (expected or [0, 10])


def test_the_first_report_is_of_the_checkpoint():
    indices = [step.index for step in run(steps=10, report_every=4, resume=saved(5))]
    assert indices == [5, 8, 10]


def test_a_checkpoint_is_not_changed_by_later_steps():
    steps = run(checkpoint_every=1, optimizer=Adam(), bounds=(-100, 100))
    for name in ("image", "optimizer: first_moment", "optimizer: second_moment"):
        assert len({step.checkpoint.arrays[name].tobytes() for step in steps}) == STEPS + 1


def interrupting(after):
    calls = itertools.count()
    return Signals(interrupt=lambda: next(calls) >= after)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: type(optimizer).__name__)
@pytest.mark.parametrize("after", [0, 1, 20, STEPS - 1])
def test_interrupted(after, optimizer):
    settings = {"optimizer": optimizer, "jitter": 2, "count": 2, "image_every": 1}
    whole = run(**settings)
    part = run(signals=interrupting(after), **settings)
    *before, last = part
    assert facts(before) == facts(whole[:after])
    assert (last.index, last.stop_reason, last.checkpoint.index) == (after, StopReason.INTERRUPTED, after)
    assert last.values.tobytes() == whole[after].values.tobytes()
    assert last.image.tobytes() == whole[after].image.tobytes()
    np.testing.assert_allclose(last.gradient_norms, whole[after].gradient_norms, rtol=1e-12)
    assert facts(run(resume=last.checkpoint, **settings)) == facts(whole[after:])


def test_interrupted_after_the_last_step_it_has_finished():
    assert run(signals=interrupting(STEPS))[-1].stop_reason is StopReason.FINISHED


@pytest.mark.parametrize("at", [0, 7, STEPS])
def test_interrupted_while_it_waited_for_the_device(at):
    calls = itertools.count()
    waiting = []

    def waits(batch, values, gradient):
        curved(batch, values, gradient)
        if next(calls) == at:
            waiting.append(True)
            raise CallCancelled

    settings = {"optimizer": Adam(), "jitter": 2}
    last = run(model=waits, signals=Signals(interrupt=lambda: bool(waiting)), **settings)[-1]
    assert (last.index, last.stop_reason) == (at, StopReason.INTERRUPTED)
    assert np.isnan(last.values).all()
    assert np.isnan(last.gradient_norms).all()
    assert np.isfinite(last.image).all()
    whole = run(**settings)
    assert facts(run(resume=last.checkpoint, **settings)) == facts(whole[at:])


def test_nobody_is_told_of_one_that_is_stopped():
    steps = run(signals=Signals(stop=lambda: True, interrupt=lambda: True))
    assert steps == []


def test_nor_if_it_was_stopped_while_it_waited_for_the_device():
    stopped = []

    def waits(*_):
        stopped.append(True)
        raise CallCancelled

    assert run(model=waits, signals=Signals(stop=lambda: bool(stopped), interrupt=lambda: bool(stopped))) == []


# ---- what does not fit -----------------------------------------------------------------------------------------------


def with_array(name, value):
    return lambda checkpoint: replace(checkpoint, arrays=dict(checkpoint.arrays) | {name: value})


def without_array(name):
    return lambda checkpoint: replace(
        checkpoint, arrays={other: array for other, array in checkpoint.arrays.items() if other != name}
    )


def with_settings(**settings):
    return lambda checkpoint: replace(checkpoint, settings=dict(checkpoint.settings) | settings)


NAN = np.full((1, 3, 4, 5), np.nan, np.float32)
FORGED = {
    "another format": (lambda c: replace(c, format=2), "expected a checkpoint of format 1, got 2"),
    "no format": (lambda c: replace(c, format=0), "format 1, got 0"),
    "another seed": (with_settings(seed="4"), "but seed was 4, is 3$"),
    "two settings": (with_settings(seed="4", model="n"), "but model was n, is m; seed was 4, is 3$"),
    "a setting of a newer server": (with_settings(warp="2"), "but warp was 2, is none$"),
    "no settings": (lambda c: replace(c, settings={}), "but model was none, is m; seed was none, is 3$"),
    "long settings": (with_settings(**{"x" * 1000: "y" * 10**6}), "but x{100} was y{100}, is none$"),
    "beyond the end": (lambda c: replace(c, index=STEPS + 1), f"at most the {STEPS} steps .* checkpoint at {STEPS + 1}$"),
    "before the start": (lambda c: replace(c, index=-1), "at most"),
    "no arrays": (lambda c: replace(c, arrays={}), "expected the arrays 'finite', 'image', 'moved', .*, got none$"),
    "no image": (
        without_array("image"),
        "expected the arrays .*'image'.*, got 'finite', 'moved', 'opti",
    ),
    "no moment": (without_array("optimizer: second_moment"), "expected the arrays"),
    "one array too many": (with_array("code", np.zeros(3)), "expected the arrays"),
    "another shape": (with_array("image", np.zeros((1, 3, 5, 4), np.float32)), r"'image': expected float32 \[1, 3, 4, 5\]"),
    "more images": (with_array("image", np.zeros((2, 3, 4, 5), np.float32)), "'image': expected"),
    "a scalar": (with_array("image", np.float32(0)), "'image': expected"),
    "another type": (with_array("image", np.zeros((1, 3, 4, 5))), r"got float64 \[1, 3, 4, 5\]$"),
    "strings": (with_array("finite", np.array(["a"], object)), r"'finite': expected bool \[1\], got object \[1\]$"),
    "NaN": (with_array("image", NAN), "'image': expected numbers, got NaN$"),
    "NaN in a moment": (with_array("optimizer: first_moment", NAN), "'optimizer: first_moment': expected numbers, got NaN$"),
    "out of bounds": (with_array("image", np.full_like(NAN, 1.5)), "'image': expected values from 0 to 1, got others$"),
    "infinite": (with_array("image", np.full_like(NAN, np.inf)), "'image': expected values from 0 to 1"),
}


@pytest.mark.parametrize("name", FORGED)
def test_what_does_not_fit_is_refused(name):
    change, complaint = FORGED[name]
    with pytest.raises(InvalidAscent, match=f"^resume: .*{complaint}"):
        run(resume=change(saved()))


@pytest.mark.parametrize("value", [b"bytes", {}, 3, "file.ckpt"])
def test_what_is_no_checkpoint(value):
    with pytest.raises(InvalidAscent, match="^resume: expected a Checkpoint, got "):
        run(resume=value)


def test_another_optimizer_has_another_memory():
    with pytest.raises(InvalidAscent, match="expected the arrays 'finite', 'image', 'moved', got .*moment"):
        run(optimizer=Sgd(0.1), resume=saved())


# ---- as bytes --------------------------------------------------------------------------------------------------------


def test_bytes_and_back():
    checkpoint = saved(optimizer=Adam(), count=2)
    got = Checkpoint.from_bytes(checkpoint.to_bytes())
    assert (got.index, got.settings, got.format) == (checkpoint.index, checkpoint.settings, checkpoint.format)
    assert got.arrays.keys() == checkpoint.arrays.keys()
    for name, array in checkpoint.arrays.items():
        np.testing.assert_array_equal(got.arrays[name], array, strict=True)
    assert got.to_bytes() == checkpoint.to_bytes()
    assert {field.name for field in fields(Checkpoint)} == set(pb.Checkpoint.DESCRIPTOR.fields_by_name)


def test_truncated():
    """Cut anywhere, it is unreadable or refused, never taken for another."""
    data = saved().to_bytes()
    for length in range(len(data)):
        with pytest.raises(GradserveError):
            run(resume=Checkpoint.from_bytes(data[:length]))


def test_garbage():
    """Bytes changed anywhere: another error than ours would fail this test."""
    numbers, refused = np.random.default_rng(0), 0
    for _ in range(1000):
        data = bytearray(SAVED)
        for _ in range(numbers.integers(1, 4)):
            data[numbers.integers(len(data))] = numbers.integers(256)
        try:
            run(resume=Checkpoint.from_bytes(bytes(data)))
        except GradserveError:
            refused += 1
    assert 100 < refused < 1000


SAVED = saved().to_bytes()


@pytest.mark.parametrize(
    "tensor",
    [
        {"dtype": "float32", "shape": [2**40, 2**40], "data": b"abcd"},
        {"dtype": "float32", "shape": [-1], "data": b"abcd"},
        {"dtype": "float32", "shape": [2**62, 0], "data": b""},
        {"dtype": "float32", "shape": [1] * 1000, "data": b"abcd"},
        {"dtype": "pickle", "shape": [1], "data": b"abcd"},
        {"dtype": "bool", "shape": [1], "data": b"\x02"},
    ],
)
def test_arrays_that_cannot_be(tensor):
    message = pb.Checkpoint(format=1, arrays=[{"name": "image", "tensor": tensor}])
    with pytest.raises(InvalidTensor):
        Checkpoint.from_bytes(message.SerializeToString())


def test_one_array_twice():
    message = pb.Checkpoint.FromString(SAVED)
    message.arrays.append(message.arrays[0])
    with pytest.raises(InvalidTensor, match="expected once, got twice"):
        Checkpoint.from_bytes(message.SerializeToString())
