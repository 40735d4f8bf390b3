"""What config.pbtxt says of scheduling: understood as in Triton, or refused, or ignored with a reason."""

import logging
import math

import numpy as np
import pytest
from support.jobs import Crowd
from support.onnx_models import build, random, save
from support.waiting import WAIT

from gradserve.errors import InvalidModel
from gradserve_server import Caller, Engine
from gradserve_server.runtime.dynamic_batching import ALONE, IGNORED, MAX_LEVELS, REFUSED

X = random(8, 3)


def engine_of(tmp_path, config, *, body="y = Relu(x)", inputs="float[N,3] x", outputs="float[N,3] y"):
    save(build(body, inputs=inputs, outputs=outputs), tmp_path / "m" / "1" / "model.onnx")
    (tmp_path / "m" / "config.pbtxt").write_text(config)
    return Engine(tmp_path)


def batching(tmp_path, config, **model):
    with engine_of(tmp_path, config, **model) as engine:
        return engine.model("m")._batching


# ---- what it says ------------------------------------------------------------------------------------------------------


def test_nothing_said_is_nothing_done(tmp_path):
    assert batching(tmp_path, "max_batch_size: 8") is ALONE


def test_the_defaults(tmp_path):
    told = batching(tmp_path, "max_batch_size: 8 dynamic_batching {}")
    assert (told.company.most, told.company.preferred, told.company.delay) == (8, (), 0.0)
    queue = told.queue(0)
    assert (queue.rank, queue.limit, queue.timeout, queue.shortened, queue.delays) == (0, 0, math.inf, False, False)
    assert told.queue(7) is queue


def test_every_field(tmp_path):
    told = batching(
        tmp_path,
        """max_batch_size: 8
        dynamic_batching {
            preferred_batch_size: [8, 4] max_queue_delay_microseconds: 250 preserve_ordering: true
            priority_levels: 3 default_priority_level: 2
            default_queue_policy { default_timeout_microseconds: 1000 allow_timeout_override: true max_queue_size: 5 }
            priority_queue_policy { key: 3 value { timeout_action: DELAY default_timeout_microseconds: 7 } }
        }""",
    )
    assert (told.company.preferred, told.company.delay) == ((4, 8), pytest.approx(250e-6))
    assert [told.queue(level).rank for level in (1, 2, 3)] == [-1, 0, 1]
    assert told.queue(0) is told.queue(2) is told.queue(4)
    assert (told.queue(1).limit, told.queue(1).shortened, told.queue(1).delays) == (5, True, False)
    assert (told.queue(3).limit, told.queue(3).delays, told.queue(3).timeout) == (0, True, pytest.approx(7e-6))
    # A caller may want to wait less, and not more.
    assert [told.queue(1).patience(Caller(timeout=seconds)) for seconds in (0, 5e-4, 5)] == pytest.approx([1e-3, 5e-4, 1e-3])
    assert told.queue(3).patience(Caller(timeout=1e-6)) == pytest.approx(7e-6)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            "max_batch_size: 8 dynamic_batching { preferred_batch_size: 9 }",
            r"sizes from 1 to max_batch_size \(8\), got \[9\]",
        ),
        ("max_batch_size: 8 dynamic_batching { preferred_batch_size: [0, 2] }", r"got \[0, 2\]"),
        ("dynamic_batching { preferred_batch_size: 2 }", r"max_batch_size \(0\)"),
        (
            "dynamic_batching { priority_levels: 2 }",
            r"default_priority_level: expected a level from 1 to priority_levels \(2\), got 0",
        ),
        ("dynamic_batching { priority_levels: 2 default_priority_level: 3 }", "got 3"),
        (
            "dynamic_batching { priority_levels: 2 default_priority_level: 1 priority_queue_policy { key: 3 value {} } }",
            "priority_queue_policy: expected a level from 1 .* got 3",
        ),
        (
            f"dynamic_batching {{ priority_levels: {MAX_LEVELS + 1} default_priority_level: 1 }}",
            f"at most {MAX_LEVELS}, got {MAX_LEVELS + 1}",
        ),
    ],
)
def test_contradictions(tmp_path, config, text):
    with pytest.raises(InvalidModel, match=text) as error:
        batching(tmp_path, config)
    assert str(error.value).startswith("model 'm': config.pbtxt: dynamic_batching: ")


@pytest.mark.parametrize(
    "model",
    [
        {"outputs": "float[M,3] y"},
        {"body": "y = Transpose<perm = [1, 0]>(x)", "outputs": "float[3,N] y"},
    ],
)
def test_a_graph_without_a_batch_axis_runs_one_by_one_and_says_why(tmp_path, caplog, model):
    with caplog.at_level(logging.WARNING):
        try:
            told = batching(tmp_path, "max_batch_size: 8 dynamic_batching {}", **model)
        except InvalidModel as error:  # the axis of an output is of fixed size
            assert "first axis" in str(error)  # noqa: PT017
            return
    assert told.batch is None
    assert "run one by one: expected one open size along axis 0" in caplog.text


CASES = {
    "sequence_batching": "sequence_batching {}",
    "ensemble_scheduling": "ensemble_scheduling {}",
    "allow_ragged_batch": 'input { name: "x" allow_ragged_batch: true }',
    "batch_input": 'batch_input { kind: BATCH_ELEMENT_COUNT target_name: "z" data_type: TYPE_FP32 source_input: "x" }',
    "batch_output": 'batch_output { target_name: "y" source_input: "x" }',
    "model_transaction_policy.decoupled": "model_transaction_policy { decoupled: true }",
    "instance_group": "instance_group { count: 2 }",
    "optimization.priority": "optimization { priority: PRIORITY_MAX }",
    "response_cache": "response_cache { enable: true }",
}


def test_every_case_is_tried():
    assert set(CASES) == {other.what for other in (*REFUSED, *IGNORED)}


@pytest.mark.parametrize("other", REFUSED, ids=lambda other: other.what)
def test_what_would_change_answers_is_refused(tmp_path, other):
    with pytest.raises(InvalidModel, match=other.what) as error:
        batching(tmp_path, CASES[other.what])
    assert str(error.value).endswith(other.why)


@pytest.mark.parametrize("other", IGNORED, ids=lambda other: other.what)
def test_what_changes_no_answer_is_ignored_with_a_reason(tmp_path, caplog, other):
    with caplog.at_level(logging.WARNING):
        batching(tmp_path, CASES[other.what])
    assert f"{other.what}: ignored: {other.why}" in caplog.text


@pytest.mark.parametrize("group", ["count: 1", "kind: KIND_CPU"])
def test_an_instance_like_ours_needs_no_word(tmp_path, caplog, group):
    with caplog.at_level(logging.WARNING):
        batching(tmp_path, f"instance_group {{ {group} }}")
    assert caplog.text == ""


# ---- and what comes of it ----------------------------------------------------------------------------------------------


def predict_together(engine, calls):
    """The results and the size of the run of each of some predictions that wait at the same time."""
    sizes = []
    with Crowd(engine._scheduler) as crowd:
        answers = [
            crowd.join(
                engine.infer,
                "m",
                {"x": x},
                outputs=outputs,
                caller=Caller(ran=lambda size, counts: sizes.append((size, counts))),
            )
            for x, outputs in calls
        ]
        crowd.let_go()
        return [answer.result(WAIT) for answer in answers], sizes


def test_predictions_run_together_where_it_is_asked_for(tmp_path):
    with engine_of(tmp_path, "max_batch_size: 8 dynamic_batching {}") as engine:
        calls = [(X[:1], ()), (X[1:4], ("y",)), (X[4:], ())]
        predict_together(engine, calls)  # the first time they run one by one as well
        results, sizes = predict_together(engine, calls)
        for (x, _), result in zip(calls, results, strict=True):
            np.testing.assert_array_equal(result["y"], np.maximum(x, 0))
        assert sizes == [(8, True), (8, False), (8, False)]


def test_each_gets_the_outputs_that_it_asked_for(tmp_path):
    model = {"body": "y = Relu(x) z = Neg(x)", "outputs": "float[N,3] y, float[N,3] z"}
    with engine_of(tmp_path, "max_batch_size: 8 dynamic_batching {}", **model) as engine:
        calls = [(X[:1], ["z"]), (X[1:3], []), (X[3:4], ["y"])]
        for _ in range(2):
            results, _ = predict_together(engine, calls)
            assert [list(result) for result in results] == [["z"], ["y", "z"], ["y"]]
        np.testing.assert_array_equal(results[0]["z"], -X[:1])


@pytest.mark.parametrize("config", ["max_batch_size: 8", "max_batch_size: 1 dynamic_batching {}", "dynamic_batching {}"])
def test_elsewhere_they_run_alone(tmp_path, config):
    with engine_of(tmp_path, config) as engine:
        for _ in range(2):
            assert predict_together(engine, [(X[:1], ()), (X[1:2], ())])[1] == []


def test_other_shapes_do_not_join(tmp_path):
    with engine_of(
        tmp_path, "max_batch_size: 8 dynamic_batching {}", inputs="float[N,K] x", outputs="float[N,K] y"
    ) as engine:
        for _ in range(2):
            _, sizes = predict_together(engine, [(X[:1], ()), (X[1:2, :2], ()), (X[2:3], ())])
        assert sizes == [(2, True), (2, False)]


def test_a_graph_whose_samples_see_one_another_runs_one_by_one(tmp_path, caplog):
    mixed = "m = ReduceMean<axes = [0]>(x) y = Sub(x, m)"
    with engine_of(tmp_path, "max_batch_size: 8 dynamic_batching {}", body=mixed) as engine:
        calls = [(X[:1], ()), (X[1:3], ())]
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                results, sizes = predict_together(engine, calls)
                assert sizes == []
                np.testing.assert_array_equal(results[0]["y"], 0 * X[:1])
        assert "samples see one another" in caplog.text


def test_whole_numbers_that_differ_are_seen(tmp_path, caplog):
    model = {"body": "m = ReduceMax<axes = [0]>(x) y = Sub(x, m)", "inputs": "int64[N,3] x", "outputs": "int64[N,3] y"}
    with engine_of(tmp_path, "max_batch_size: 8 dynamic_batching {}", **model) as engine, caplog.at_level(logging.WARNING):
        predict_together(engine, [(np.full((1, 3), value), ()) for value in (1, 2)])
    assert "samples see one another" in caplog.text


def test_who_runs_alone_waits_for_nobody(tmp_path):
    """Once it is known that nobody can join."""
    mixed = "m = ReduceMean<axes = [0]>(x) y = Sub(x, m)"
    config = "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 3600000000 preferred_batch_size: 2 }"
    with engine_of(tmp_path, config, body=mixed) as engine:
        predict_together(engine, [(X[:1], ()), (X[1:2], ())])
        np.testing.assert_array_equal(engine.infer("m", {"x": X[:1]})["y"], 0 * X[:1])


def test_results_share_no_memory(tmp_path):
    with engine_of(tmp_path, "max_batch_size: 8 dynamic_batching {}") as engine:
        for _ in range(2):
            (first, second), _ = predict_together(engine, [(X[:1], ()), (X[1:3], ())])
        assert first["y"].base is None
        assert not np.shares_memory(first["y"], second["y"])


def test_text_and_whole_numbers_join(tmp_path):
    model = {"body": "y = Identity(x)", "inputs": "string[N,2] x", "outputs": "string[N,2] y"}
    with engine_of(tmp_path, "max_batch_size: 8 dynamic_batching {}", **model) as engine:
        texts = np.array([["a", "b"], ["c", "d"], ["e", "f"]], object)
        for _ in range(2):
            results, sizes = predict_together(engine, [(texts[:1], ()), (texts[1:], ())])
            assert results[1]["y"].tolist() == texts[1:].tolist()
        assert sizes == [(3, True), (3, False)]
