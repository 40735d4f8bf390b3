"""Ascents with terms across a batch, scales that change and penalties: in process, served, interrupted; and as a file."""

import threading

import numpy as np
import pytest
from support import golden
from support.jobs import Crowd
from support.paths import MODELS
from support.reference import relative_error
from support.tolerances import TOLERANCE
from support.waiting import WAIT

from gradserve import Checkpoint, Sgd, StopReason
from gradserve import objectives as O
from gradserve.errors import InvalidAscent
from gradserve.numbers import Linear
from gradserve_server import Engine, gradient_graph
from gradserve_server.runtime.batch import Batch

IMAGE = {"image": golden.digits()}
MEAN, STD = 0.2268, 0.33
"""Of the digits model's pixels."""


@pytest.fixture(scope="module")
def targets():
    with Engine(MODELS / "digits") as engine:
        return engine.activations("digits", {"image": golden.digits()[:1]}, ["relu3", "relu6"])


def objectives(targets):
    """One that is across the batch, and one of everything."""
    across = O.channel("relu6", 20) - 2 * O.diversity("relu3") + Linear(0, 1) * O.alignment("relu6")
    each = (
        O.direction("relu6", np.arange(48, dtype=np.float32) / 48, 2)
        + O.caricature("relu6", targets["relu6"], 1)
        + 10 * O.matching("relu3", targets["relu3"])
        + Linear(5, 1) * O.style("relu3", targets["relu3"])
        + O.channel_interpolate("relu6", 3, "relu6", 4)
        - Linear(0.001, 0.01) * O.total_variation()
        - 0.01 * O.l2()
    )
    return {"across": across, "each": each}


def climb(verbs, objective, **settings):
    settings = {"steps": 6, "seed": 1, "count": 3, "optimizer": Sgd(0.05), "image_every": 1, **settings}
    return list(verbs.ascend("digits", objective, **settings))


def facts(steps):
    return [(step.index, step.values.tobytes(), step.gradient_norms.tobytes(), step.image.tobytes()) for step in steps]


@pytest.mark.parametrize("name", ["across", "each"])
def test_same_bytes_in_process_served_and_interrupted(engine, client, targets, name):
    objective = objectives(targets)[name]
    whole = climb(engine, objective, checkpoint_every=1)
    assert whole[-1].stop_reason is StopReason.FINISHED
    assert whole[-1].image.tobytes() != whole[0].image.tobytes()
    assert facts(climb(client, objective)) == facts(whole)
    checkpoint = Checkpoint.from_bytes(whole[4].checkpoint.to_bytes())
    assert facts(climb(engine, objective, resume=checkpoint)) == facts(whole[4:])


def test_an_ascent_across_its_batch_runs_alone(targets, monkeypatch):
    """Its bytes do not depend on company, and it sees its own images only."""
    joined = []
    run = Batch.run
    monkeypatch.setattr(Batch, "run", lambda self, runs: joined.append(len(runs)) or run(self, runs))
    objective = objectives(targets)["across"]
    with Engine(MODELS) as engine:
        alone = [climb(engine, objective, seed=seed) for seed in range(3)]
        barrier = threading.Barrier(3)

        def at_once(seed):
            reports = engine.ascend("digits", objective, steps=6, seed=seed, count=3, optimizer=Sgd(0.05), image_every=1)
            return [report for report in reports if barrier.wait(WAIT) >= 0]

        with Crowd(engine._scheduler) as crowd:
            answers = [crowd.join(lambda seed=seed: at_once(seed)) for seed in range(3)]
            crowd.let_go()
            together = [answer.result(WAIT) for answer in answers]
    assert joined == []
    assert [facts(steps) for steps in together] == [facts(steps) for steps in alone]


def test_gradients_on_targets_of_their_own_run_together(monkeypatch):
    joined = []
    run = Batch.run
    monkeypatch.setattr(Batch, "run", lambda self, runs: joined.append(len(runs)) or run(self, runs))
    random = np.random.default_rng(0)
    calls = [
        (
            O.direction("relu6", random.normal(size=48), power)
            + O.style("relu6", random.normal(size=(1, 48, 5, 5)))
            + O.caricature("relu6", random.normal(size=(1 + power % 2, 48, 7, 7)), power),
            golden.digits()[power : power + 1 + power % 2],
        )
        for power in (1, 2)
    ]
    with Engine(MODELS) as engine:
        alone = [engine.gradient("digits", {"image": images}, objective) for objective, images in calls]
        for _ in range(2):  # the first batch of a plan is run one by one as well
            with Crowd(engine._scheduler) as crowd:
                answers = [
                    crowd.join(lambda call=call: engine.gradient("digits", {"image": call[1]}, call[0])) for call in calls
                ]
                crowd.let_go()
                together = [answer.result(WAIT) for answer in answers]
    assert joined == [2, 2]
    for expected, got in zip(alone, together, strict=True):
        assert relative_error(got.values, expected.values) < TOLERANCE["another batch size"]
        assert relative_error(got.gradients["image"], expected.gradients["image"]) < TOLERANCE["another batch size"]


def test_a_scale_changes_from_the_first_step_to_the_last(engine):
    """The image stands still: 0 first, then as much as the plain objective, in equal steps."""
    start = (golden.digits()[:1] * STD + MEAN).clip(0, 1)[0]
    settings = {"start": start, "count": 1, "steps": 5, "optimizer": Sgd(1e-30)}
    plain = climb(engine, O.unit("logits", 7), **settings)[0].value
    steps = climb(engine, Linear(0, 1) * O.unit("logits", 7) - Linear(0, 1) * O.l1(), **settings)
    norm = float(np.abs(start).sum())
    assert [step.value for step in steps] == pytest.approx(
        [(plain - norm) * share for share in (0, 0.25, 0.5, 0.75, 1, 1)], rel=1e-4, abs=1e-4
    )


def test_steps_decide_where_a_scale_changes(engine):
    """How far a scale has come depends on them, so a checkpoint cannot go on to others."""
    objective = Linear(0, 1) * O.unit("logits", 7)
    checkpoint = climb(engine, objective, checkpoint_every=2)[2].checkpoint
    with pytest.raises(InvalidAscent, match="steps was 6, is 7"):
        climb(engine, objective, steps=7, resume=checkpoint)
    for other in (Linear(0, 2) * O.unit("logits", 7), O.unit("logits", 7), objective - O.l1()):
        with pytest.raises(InvalidAscent, match="resume: .* objective was"):
            climb(engine, other, resume=checkpoint)


@pytest.mark.parametrize("verbs", ["engine", "client"])
def test_a_penalty_in_a_gradient_is_of_the_pixels(verbs, request):
    """x = (p - mean) / std: d f / d x = std d f / d p."""
    verbs = request.getfixturevalue(verbs)
    pixels = golden.digits().astype(np.float64) * STD + MEAN
    plain = verbs.gradient("digits", IMAGE, O.unit("logits", 7))
    got = verbs.gradient("digits", IMAGE, O.unit("logits", 7) - 3 * O.l2(0.5))
    norms = np.sqrt(1e-6 + ((pixels - 0.5) ** 2).sum((1, 2, 3)))
    assert relative_error(got.values, plain.values - 3 * norms) < TOLERANCE["float32 network"]
    expected = plain.gradients["image"] - 3 * STD * (pixels - 0.5) / norms.reshape(-1, 1, 1, 1)
    assert relative_error(got.gradients["image"], expected) < TOLERANCE["float32 network"]


def test_as_a_file(targets):
    """Powers and targets are constants of it, and a batch is as large as it likes."""
    import onnxruntime

    objective = (
        O.direction("relu6", np.arange(48, dtype=np.float32), 2)
        + O.caricature("relu6", targets["relu6"], 1)
        + O.style("relu3", targets["relu3"])
        - O.diversity("relu3")
        + O.alignment("relu6")
        + O.matching("relu3", targets["relu3"])
    )
    proto = gradient_graph(MODELS / "digits" / "1" / "model.onnx", objective)
    assert {node.domain for node in proto.graph.node} <= {"", "ai.onnx"}
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    values, gradient = session.run(["objective/value", "grad/image"], IMAGE)
    with Engine(MODELS / "digits") as engine:
        expected = engine.gradient("digits", IMAGE, objective)
    assert relative_error(values, expected.values) < TOLERANCE["float32 network"]
    assert relative_error(gradient, expected.gradients["image"]) < TOLERANCE["float32 network"]


def test_what_a_file_cannot_hold():
    file = MODELS / "digits" / "1" / "model.onnx"
    for objective, message in (
        (O.unit("logits", 7) - O.l2(), "objective, L2: expected terms on layers only in a file, got one of the image"),
        (Linear(0, 1) * O.unit("logits", 7), "objective, Unit: expected a scale that is a number outside an ascent"),
        (O.channel_interpolate("relu6", 1, "relu6", 2), "layer 'relu6': expected sizes known from the file, got"),
    ):
        with pytest.raises(Exception, match=message):
            gradient_graph(file, objective)
    fixed = gradient_graph(file, O.channel_interpolate("relu6", 1, "relu6", 2), shapes={"image": [3, 1, 28, 28]})
    assert [out.name for out in fixed.graph.output] == ["objective/value", "grad/image"]
