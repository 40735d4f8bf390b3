"""Models of several inputs, with one set of BatchNorm statistics for all: the doctor, gradients, ascents."""

import numpy as np
import onnx
import pytest
from support.examined import codes, examined
from support.onnx_models import save, trained, untrained
from support.siamese import CHANNELS, pairs, siamese
from support.tolerances import TOLERANCE

from gradserve import objectives as O
from gradserve_server import Engine, repair


def test_it_is_said_that_statistics_are_shared(tmp_path):
    diagnosis = examined(siamese(), tmp_path)
    assert codes(diagnosis) == {"batchnorm-shared", "batchnorm-foldable"}
    assert len(diagnosis.statistics) == 2


def test_training_form_is_found_in_both_branches(tmp_path):
    diagnosis = examined(siamese(training=True), tmp_path)
    nodes = {finding.node for finding in diagnosis.findings if finding.code == "batchnorm-training-form"}
    assert nodes == {"n1", "n2"}
    assert {"forms-disagree", "batch-dependent"} <= codes(diagnosis)


def test_statistics_are_measured_over_both_branches(tmp_path):
    path, out, data = save(siamese(untrained(CHANNELS)), tmp_path / "model.onnx"), tmp_path / "out.onnx", pairs()
    treatment = repair(path, out, ["recalibrate"], inputs=data)
    assert [step.repair for step in treatment.repairs] == ["recalibrate"]
    convolved = _activations(path, data, ["c1", "c2"])
    both = np.concatenate([convolved["c1"], convolved["c2"]]).astype(np.float64)
    found = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(out).graph.initializer}
    np.testing.assert_allclose(found["mean"], both.mean((0, 2, 3)), rtol=TOLERANCE["float32 operator"], atol=1e-6)
    np.testing.assert_allclose(found["variance"], both.var((0, 2, 3)), rtol=TOLERANCE["float32 operator"])
    assert "batchnorm-statistics-conflict" not in codes(treatment.after)


def test_both_inputs_have_gradients_and_each_can_be_climbed(tmp_path):
    path, data = save(siamese(), tmp_path / "model.onnx"), pairs(2)
    with Engine(path) as engine:
        result = engine.gradient("model", data, O.unit("distance", 0))
        step, direction = 1e-2, {name: np.sign(array) for name, array in result.gradients.items()}
        ahead, behind = (
            engine.infer("model", {name: data[name] + np.float32(sign * step) * direction[name] for name in data})[
                "distance"
            ]
            for sign in (1, -1)
        )
        expected = sum(np.abs(array).sum() for array in result.gradients.values())
        assert (ahead - behind).sum() / (2 * step) == pytest.approx(expected, rel=TOLERANCE["float32 finite differences"])
        for climbed, fixed in (("left", "right"), ("right", "left")):
            steps = list(
                engine.ascend(
                    "model", O.unit("distance", 0), input=climbed, inputs={fixed: data[fixed][:1]}, steps=20, seed=0
                )
            )
            assert steps[-1].value > steps[0].value


def test_data_of_one_input_alone_is_refused(tmp_path):
    from gradserve.errors import InvalidTensor

    with pytest.raises(InvalidTensor, match="right"):
        examined(siamese(), tmp_path, {"left": pairs()["left"]})


def test_statistics_of_one_branch_only_are_in_conflict_with_the_other(tmp_path):
    data = pairs(32)
    path = save(siamese(), tmp_path / "first.onnx")
    left = _activations(path, data, ["c1"])["c1"].astype(np.float64)
    data["right"] = data["right"] * 6 + 8
    own = {"mean": left.mean((0, 2, 3)).astype(np.float32), "variance": left.var((0, 2, 3)).astype(np.float32)}
    diagnosis = examined(siamese(trained(CHANNELS) | own), tmp_path, data)
    nodes = [finding.node for finding in diagnosis.findings if finding.code == "batchnorm-statistics-conflict"]
    assert nodes == ["n2"]


def _activations(path, data, layers):
    """What goes into the nodes; folding takes the convolutions' own values away, so onnx's evaluator says it."""
    model = onnx.load(path)
    for layer in layers:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(layer))
    evaluator = onnx.reference.ReferenceEvaluator(model)
    return dict(zip(layers, evaluator.run(layers, data), strict=True))
