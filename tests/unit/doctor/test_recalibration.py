"""Statistics that were never written back: measured on data, they are the trained ones again."""

import digits_data
import numpy as np
import onnx
import pytest
from support.examined import codes
from support.onnx_models import build, random, save, trained
from support.paths import MODELS

from gradserve_server import Engine, repair

MEAN, STD = 0.2268, 0.33
LOST = 0.6
"""What such a network has at most; test_against_torch.py has one that guesses."""


@pytest.fixture(scope="module")
def digits():
    """Training and test set, normalized."""
    return [((part.pixels - MEAN) / STD).astype(np.float32) for part in digits_data.load()], digits_data.load()[1].labels


def forgetful() -> onnx.ModelProto:
    """The digits network whose training loop never wrote BatchNorm's state back."""
    model = onnx.load(MODELS / "digits_batchnorm" / "1" / "model.onnx")
    statistics = {name: i for node in model.graph.node if node.op_type == "BatchNormalization"
                  for i, name in enumerate(node.input[3:5])}  # fmt: skip
    for tensor in model.graph.initializer:
        if tensor.name in statistics:
            like = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full_like(like, statistics[tensor.name]), tensor.name))
    return model


def accuracy(path, pixels, labels) -> float:
    with Engine(path) as engine:
        logits = engine.infer(engine.models()[0].name, {"image": pixels})["logits"]
    return float((logits.argmax(1) == labels).mean())


def test_a_network_whose_state_was_never_written_back_is_as_good_as_trained_again(digits, tmp_path):
    (train, test), labels = digits
    trained = accuracy(MODELS / "digits_batchnorm", test, labels)
    source, out = save(forgetful(), tmp_path / "model.onnx"), tmp_path / "out.onnx"
    treatment = repair(source, out, ["recalibrate"], inputs={"image": train})
    before, after = accuracy(source, test, labels), accuracy(out, test, labels)
    print(f"accuracy: trained {trained:.4f}, state lost {before:.4f}, recalibrated {after:.4f}")  # noqa: T201
    assert before < LOST
    assert abs(after - trained) <= 0.01
    assert {"batchnorm-untrained", "batchnorm-statistics-conflict"} <= codes(treatment.before)
    assert not {"batchnorm-untrained", "batchnorm-statistics-conflict"} & codes(treatment.after)


def test_statistics_are_those_of_one_batch_of_all_the_data_in_training_form(digits, tmp_path):
    """Level by level, streamed in float64, against onnx's own training form of the whole in float64."""
    pixels = digits[0][0][:64]
    source, out = save(forgetful(), tmp_path / "model.onnx"), tmp_path / "out.onnx"
    repair(source, out, ["recalibrate"], inputs={"image": pixels})
    found = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(out).graph.initializer}
    expected = _in_training_form(onnx.load(source), pixels)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=2e-4, atol=2e-5, err_msg=name)


def test_the_trained_network_is_healthy_on_its_own_data(digits):
    from gradserve_server import diagnose

    diagnosis = diagnose(MODELS / "digits_batchnorm", {"image": digits[0][1][:64]})
    assert not diagnosis.has_errors
    assert len(diagnosis.statistics) == 8
    assert max(one.conflict for one in diagnosis.statistics) < 0.5


def test_data_that_is_not_normalized_is_in_conflict(digits):
    from gradserve_server import diagnose

    raw = digits[0][1][:64] * STD + MEAN
    diagnosis = diagnose(MODELS / "digits_batchnorm", {"image": (raw * 255).astype(np.float32)})
    assert {"batchnorm-statistics-conflict", "data-outside-range"} <= codes(diagnosis)


def _in_training_form(model: onnx.ModelProto, pixels) -> dict[str, np.ndarray]:
    """The statistics of each BatchNormalization, over one batch, with momentum 0 (the new ones alone)."""
    names = {}
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            kept = [attribute for attribute in node.attribute if attribute.name == "epsilon"]
            del node.attribute[:]
            node.attribute.extend(
                [*kept, onnx.helper.make_attribute("training_mode", 1), onnx.helper.make_attribute("momentum", 0.0)]
            )
            seen = [f"seen/{name}" for name in node.input[3:5]]
            node.output.extend(seen)
            names |= dict(zip(seen, node.input[3:5], strict=True))
    for seen in names:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(seen))
    values = onnx.reference.ReferenceEvaluator(model).run(list(names), {"image": pixels})
    return dict(zip(names.values(), values, strict=True))


def test_too_little_data_changes_nothing(tmp_path):
    model = build(
        "h = MatMul(x, w) y = BatchNormalization(h, gain, offset, mean, variance)",
        inputs="float[N,5] x",
        outputs="float[N,8] y",
        weights=trained(8) | {"w": random(5, 8)},
    )
    source, out = save(model, tmp_path / "model.onnx"), tmp_path / "out.onnx"
    (step,) = repair(source, out, ["recalibrate"], inputs={"x": random(7, 5)}).repairs
    assert step.problem.endswith("expected at least 8 values of each channel, got 7: give more data")
    assert repair(source, out, ["recalibrate"], inputs={"x": random(8, 5)}).repairs[0].done


def test_what_is_in_a_subgraph_is_left_and_said(tmp_path):
    norm = "BatchNormalization(x, gain, offset, mean, variance)"
    body = f"""
        s = ReduceSum<keepdims=0>(x)
        c = Less(s, zero)
        h = If(c) <
            then_branch = then () => (float[N,3,4,4] a) {{ [inner] a = {norm} }},
            else_branch = else () => (float[N,3,4,4] b) {{ b = Identity(x) }}
        >
        y = {norm.replace("(x", "(h")}
    """
    model = build(body, weights=trained(3) | {"zero": np.float32(0)})
    source, out = save(model, tmp_path / "model.onnx"), tmp_path / "out.onnx"
    (step,) = repair(source, out, ["recalibrate"], inputs={"x": random(4, 3, 4, 4)}).repairs
    assert step.done[-1] == "left inner as it was: inside a subgraph nothing is measured"
