"""Requests of different callers that run as one batch: each gets the answer that it would get alone."""

import threading

import numpy as np
import pytest
from support import golden
from support.jobs import Crowd
from support.onnx_models import build, random, save
from support.paths import MODELS
from support.reference import relative_error
from support.tolerances import TOLERANCE
from support.waiting import WAIT, wait_for

from gradserve import Sgd, StopReason
from gradserve import objectives as O
from gradserve.errors import DeadlineExceeded, InvalidObjective, LimitExceeded, ServerUnavailable
from gradserve_server import Caller, Engine, EngineConfig
from gradserve_server.runtime.batch import Batch

IMAGES = golden.digits()


@pytest.fixture
def engine():
    with Engine(MODELS) as engine:
        yield engine


@pytest.fixture
def crowd(engine):
    with Crowd(engine._scheduler) as crowd:
        yield crowd


@pytest.fixture
def sizes(monkeypatch):
    """How many runs each batch had."""
    seen = []
    run = Batch.run

    def spy(self, runs):
        seen.append(len(runs))
        return run(self, runs)

    monkeypatch.setattr(Batch, "run", spy)
    return seen


def together(engine, calls):
    """The results of calls that wait for the device at the same time."""
    with Crowd(engine._scheduler) as crowd:
        answers = [crowd.join(call) for call in calls]
        crowd.let_go()
        return [answer.result(WAIT) for answer in answers]


OBJECTIVES = {
    "unit": [O.unit("logits", index) for index in range(4)],
    "channel": [O.channel("relu6", index) for index in range(4)],
    "energy": [O.channel_energy("relu1", index) for index in range(4)],
    "cotangent": [O.cotangent("logits", np.eye(10, dtype=np.float32)[[index]]) for index in range(4)],
    "sum": [O.unit("logits", index) + (index + 1) * O.layer("relu6") for index in range(4)],
}


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_gradients_equal_those_alone(engine, sizes, kind):
    def call(index):
        return lambda: engine.gradient("digits", {"image": IMAGES[index : index + 1 + index % 2]}, OBJECTIVES[kind][index])

    calls = [call(index) for index in range(4)]
    alone = [call() for call in calls]
    for _ in range(2):  # the first batch of a plan is run one by one as well
        for expected, got in zip(alone, together(engine, calls), strict=True):
            assert relative_error(got.values, expected.values) < TOLERANCE["another batch size"]
            assert relative_error(got.gradients["image"], expected.gradients["image"]) < TOLERANCE["another batch size"]
    assert sizes == [4, 4]


@pytest.mark.parametrize("verb", ["vjp", "jvp", "hvp"])
def test_products_equal_those_alone(engine, sizes, verb):
    tangent = np.ones((1, 1, 28, 28), np.float32)
    arguments = {
        "vjp": ({"logits": np.ones((1, 10), np.float32)},),
        "jvp": ({"image": tangent},),
        "hvp": (O.layer("logits"), {"image": tangent}),
    }[verb]

    def call(index):
        return lambda: getattr(engine, verb)("digits", {"image": IMAGES[index : index + 1]}, *arguments)

    def arrays(result):
        parts = (result.values, result.gradients, result.products) if verb == "hvp" else result
        return [array for part in parts for array in (part.values() if isinstance(part, dict) else [part])]

    calls = [call(index) for index in range(4)]
    alone = [arrays(call()) for call in calls]
    for _ in range(2):
        for expected, got in zip(alone, together(engine, calls), strict=True):
            for before, after in zip(expected, arrays(got), strict=True):
                assert relative_error(after, before) < TOLERANCE["another batch size"]
    assert sizes == [4, 4]


def test_predictions_and_activations_keep_their_bytes(engine, sizes):
    calls = [
        call
        for index in range(3)
        for image in [{"image": IMAGES[index : index + 1]}]
        for call in (
            lambda image=image: engine.infer("digits", image)["logits"],
            lambda image=image: engine.activations("digits", image, ["relu6"])["relu6"],
            lambda image=image: engine.gradient("digits", image, O.unit("logits", 1)).values,
        )
    ]
    alone = [call() for call in calls]
    for _ in range(2):
        for index, (expected, got) in enumerate(zip(alone, together(engine, calls), strict=True)):
            if index % 3 < 2:
                np.testing.assert_array_equal(got, expected)
    assert sizes == [3, 3]


def test_a_batch_of_one_turns_batching_off(sizes):
    with Engine(MODELS, config=EngineConfig(max_batch=1)) as engine:
        call = lambda: engine.gradient("digits", {"image": IMAGES[:1]}, O.unit("logits", 1))  # noqa: E731
        results = together(engine, [call] * 3)
    assert sizes == []
    for result in results:
        np.testing.assert_array_equal(result.gradients["image"], results[0].gradients["image"])


def test_nan_of_one_caller_is_nobody_elses(engine):
    def call(image):
        return lambda: engine.gradient("digits", {"image": image}, O.unit("logits", 1))

    calls = [call(IMAGES[:1]), call(IMAGES[1:2])]
    together(engine, calls)
    good, bad = together(engine, [calls[0], call(np.full_like(IMAGES[:1], np.nan))])
    assert np.isnan(bad.values).all()
    expected = calls[0]()
    assert relative_error(good.gradients["image"], expected.gradients["image"]) < TOLERANCE["another batch size"]


# ---- ascents ---------------------------------------------------------------------------------------------------------


def ascent(engine, seed, steps=8, **settings):
    # Plain steps: Adam's first ones follow the sign of a gradient, however small.
    return engine.ascend(
        "digits", O.unit("logits", seed), steps=steps, seed=seed, jitter=1, optimizer=Sgd(0.5), bounds=(0, 1), **settings
    )


def test_ascents_step_together_and_equal_those_alone(engine, sizes):
    alone = [[*ascent(engine, seed)] for seed in range(4)]
    barrier = threading.Barrier(4)

    def climb(seed):
        return [report for report in ascent(engine, seed) if barrier.wait(WAIT) >= 0]

    for expected, got in zip(alone, together(engine, [lambda seed=seed: climb(seed) for seed in range(4)]), strict=True):
        assert [step.index for step in got] == [step.index for step in expected]
        assert got[-1].stop_reason is StopReason.FINISHED
        assert relative_error(got[-1].image, expected[-1].image) < TOLERANCE["steps with another batch size"]
        for before, after in zip(expected, got, strict=True):
            assert relative_error(after.values, before.values) < TOLERANCE["steps with another batch size"]
    assert sizes[0] == 4


@pytest.fixture(params=["digits", "larger"])
def any_engine(request, tmp_path):
    """Of a network whose ascents are advanced by whoever ran them, and of one whose callers do so themselves."""
    if request.param == "digits":
        with Engine(MODELS / "digits" / "1" / "model.onnx") as engine:
            yield engine, "logits", {}
        return
    weights = {"v": random(32, 3, 3, 3) / 5, "w": random(64, 32, 3, 3) / 17, "u": random(64, 10)}
    halves = "<pads = [1, 1, 1, 1], strides = [2, 2]>"
    body = f"a = Conv{halves}(x, v) b = Relu(a) c = Conv{halves}(b, w) d = Relu(c) p = GlobalAveragePool(d)"
    model = build(
        f"{body} f = Flatten(p) y = MatMul(f, u)", inputs="float[N,3,112,112] x", outputs="float[N,10] y", weights=weights
    )
    with Engine(save(model, tmp_path / "net.onnx")) as engine:
        yield engine, "y", {"jitter": 3}


@pytest.mark.parametrize("report_every", [1, 4, 100])
def test_ascents_that_join_and_leave_equal_those_alone(any_engine, sizes, report_every):
    engine, output, settings = any_engine
    (name,) = [model.name for model in engine.versions]

    def climb(index):
        return list(
            engine.ascend(
                name,
                O.unit(output, index),
                steps=(12, 3, 7, 12, 9)[index],
                seed=index,
                count=1 + index % 2,
                optimizer=Sgd(0.5),
                report_every=report_every,
                **settings,
            )
        )

    alone = [climb(index) for index in range(5)]
    assert sizes == []
    for expected, got in zip(alone, together(engine, [lambda index=index: climb(index) for index in range(5)]), strict=True):
        assert [step.index for step in got] == [step.index for step in expected]
        assert relative_error(got[-1].image, expected[-1].image) < TOLERANCE["steps with another batch size"]
        for before, after in zip(expected, got, strict=True):
            assert relative_error(after.values, before.values) < TOLERANCE["steps with another batch size"]
    assert len(set(sizes)) > 1


def test_gradients_ride_along_with_steps(engine, sizes):
    def first(seed):
        return next(ascent(engine, seed)).values

    def gradient():
        return engine.gradient("digits", {"image": IMAGES[:1]}, O.unit("logits", 1)).values

    expected = [first(0), first(1), gradient()]
    for _ in range(2):
        got = together(engine, [lambda: first(0), lambda: first(1), gradient])
        for before, after in zip(expected, got, strict=True):
            assert relative_error(after, before) < TOLERANCE["another batch size"]
    assert sizes == [3, 3]


def test_an_ascent_whose_caller_goes_while_it_waits_ends(engine, crowd):
    gone = threading.Event()
    ascents = crowd.join(lambda: [*ascent(engine, 0, should_stop=gone.is_set)])
    gone.set()
    crowd.let_go()
    assert ascents.result(WAIT) == []


def test_closing_ends_what_waits(engine, crowd):
    ascents = crowd.join(lambda: [*ascent(engine, 0)])
    gradient = crowd.join(engine.gradient, "digits", {"image": IMAGES[:1]}, O.unit("logits", 1))
    engine.close()
    assert ascents.result(WAIT) == []
    with pytest.raises(ServerUnavailable):
        gradient.result(WAIT)


# ---- limits ----------------------------------------------------------------------------------------------------------


def test_a_full_queue(sizes):
    with Engine(MODELS, config=EngineConfig(max_queue=1)) as engine, Crowd(engine._scheduler) as crowd:
        waits = crowd.join(engine.gradient, "digits", {"image": IMAGES[:1]}, O.unit("logits", 1))
        for refused in (lambda: engine.infer("digits", {"image": IMAGES[:1]}), lambda: next(ascent(engine, 1))):
            with pytest.raises(LimitExceeded, match="at most 1 "):
                refused()
        crowd.let_go()
        assert waits.result(WAIT).values.shape == (1,)
    assert sizes == []


def test_a_deadline_in_the_queue(engine, crowd):
    with pytest.raises(DeadlineExceeded):
        engine.gradient("digits", {"image": IMAGES[:1]}, O.unit("logits", 1), caller=Caller(deadline=0.0))
    wait_for(lambda: crowd.scheduler.waiting == 0)


def test_a_wrong_request_fails_before_it_waits(engine, crowd):
    with pytest.raises(InvalidObjective):
        engine.gradient("digits", {"image": IMAGES[:1]}, O.unit("logits", 10))
    assert crowd.scheduler.waiting == 0
