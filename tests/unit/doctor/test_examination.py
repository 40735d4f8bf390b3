"""The doctor's own parts: the purity check, conflicts, moments, samples; and that the shipped models are healthy."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from support.examined import codes, examined
from support.gallery import GALLERY
from support.onnx_models import build, random, trained
from support.paths import MODELS
from support.small_network import CHANNELS, Network, healthy, pictures

from gradserve.checks import LayerCheck, check_gradient
from gradserve.errors import InvalidTensor
from gradserve_server import diagnose
from gradserve_server.graph.doctor import CHECKS
from gradserve_server.runtime.doctor.moments import Moments
from gradserve_server.runtime.doctor.statistics import CONFLICT, conflict
from gradserve_server.runtime.model import Model
from gradserve_server.runtime.session import newest_opset


def test_a_prediction_that_gradients_changed_is_found(tmp_path, monkeypatch):
    predict, plan, polluted = Model.predict, Model.plan, []

    def differentiate(self, key):
        polluted.extend(key.wrt)
        return plan(self, key)

    def predict_otherwise(self, feeds, outputs, *rest):
        offset = np.float32(1e-3) if polluted else np.float32(0)
        return {name: array + offset for name, array in predict(self, feeds, outputs, *rest).items()}

    monkeypatch.setattr(Model, "plan", differentiate)
    monkeypatch.setattr(Model, "predict", predict_otherwise)
    assert [(one.code, one.detail) for one in examined(healthy(), tmp_path).findings] == [("impure", "predictions: y")]


def test_weights_that_gradients_changed_are_found(tmp_path, monkeypatch):
    hashes = iter("ab")
    monkeypatch.setattr(Model, "weights_sha256", lambda _: next(hashes))
    diagnosis = examined(healthy(), tmp_path)
    assert [(one.code, one.detail) for one in diagnosis.findings] == [("impure", "the weights' hash")]


def test_tangents_that_are_not_adjoint_to_gradients_are_found(tmp_path, monkeypatch):
    def check(*arguments, **options):
        return [replace(one, adjoint=0.05) for one in check_gradient(*arguments, **options)]

    monkeypatch.setattr("gradserve_server.runtime.doctor.gradients.check_gradient", check)
    assert codes(examined(healthy(), tmp_path)) == {"gradient-disagrees"}


def test_gradients_of_what_is_drawn_anew_are_not_compared_with_differences(tmp_path, monkeypatch):
    """The noise of two predictions is no difference, however sure it looks."""
    sure = LayerCheck("y", difference=1.0, doubt=0.0, adjoint=0.0)
    monkeypatch.setattr("gradserve_server.runtime.doctor.gradients.check_gradient", lambda *_, **__: [sure])
    drawn = next(entry for entry in GALLERY if entry.name == "RandomNormalLike")
    assert "gradient-disagrees" not in codes(examined(drawn.model, tmp_path))
    assert codes(examined(healthy(), tmp_path)) == {"gradient-disagrees"}


@pytest.mark.parametrize("name", ["digits", "digits_batchnorm", "scenario_a"])
def test_the_shipped_models_have_no_errors(name):
    diagnosis = diagnose(MODELS / name)
    assert not diagnosis.has_errors
    assert diagnosis.samples


@pytest.mark.parametrize("shape", [(7, 3, 4, 5), (9, 3), (5, 3, 6)])
def test_streamed_moments_are_those_of_everything_at_once(shape):
    values = random(*shape).astype(np.float64) * 3 + np.arange(3).reshape(1, 3, *[1] * (len(shape) - 2)) * 1e6
    moments = Moments(np.zeros(3))
    for part in np.array_split(values, 4):
        moments.add(part)
    axes = tuple(axis for axis in range(values.ndim) if axis != 1)
    np.testing.assert_allclose(moments.mean, values.mean(axes), rtol=1e-12)
    np.testing.assert_allclose(moments.variance, values.var(axes), rtol=1e-6)
    assert moments.count == values.size // 3


def test_moments_of_every_position():
    values = random(6, 2, 3).astype(np.float64)
    moments = Moments(np.zeros((2, 3)))
    for part in (values[:1], values[1:]):
        moments.add(part)
    np.testing.assert_allclose(moments.mean, values.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.variance, values.var(0), rtol=1e-12)


def test_a_conflict_is_measured_in_deviations_and_logarithms():
    zero, one = np.zeros(4), np.ones(4)
    assert conflict(zero, one, zero, one, 0.0) == 0
    assert conflict(zero, one, one * 2, one, 0.0) == pytest.approx(2)
    assert conflict(zero, one, zero, np.exp(2) * one, 0.0) == pytest.approx(1)
    assert conflict(zero, -one, zero, one, 1e-5) == np.inf
    assert CONFLICT == 1.0


def test_a_model_of_fixed_batch_takes_any_number_of_samples(tmp_path):
    model = Network(inputs="float[4,3,8,8] x", outputs="float[4,4] y").make()
    assert examined(model, tmp_path, pictures(6)).samples == 8


def test_a_model_without_a_batch_is_run_as_it_is(tmp_path):
    model = build("y = Add(x, z)", inputs="float[3] x, float[1] z", outputs="float[3] y")
    diagnosis = examined(model, tmp_path)
    assert diagnosis.samples == 1
    assert not diagnosis.has_errors


def test_half_precision_is_examined(tmp_path):
    model = build(
        "y = MatMul(x, w)",
        inputs="float16[N,3] x",
        outputs="float16[N,2] y",
        weights={"w": random(3, 2, dtype="float16")},
    )
    assert codes(examined(model, tmp_path)) == set()


def test_what_is_measured_of_relus(tmp_path):
    bias = random(8, seed=1) / np.float32(5)
    bias[:7] = -100
    diagnosis = examined(Network(weights={"b": bias}).make(), tmp_path)
    (relu,) = diagnosis.activity
    assert (relu.node, relu.units, relu.dead) == ("r", 8, 0.875)
    assert relu.dead < relu.zero < 1
    assert "relu-dead" not in codes(diagnosis), "which 9 in 10 are"


def test_codes_are_words_with_dashes():
    assert all(code == code.lower() and " " not in code for code in CHECKS)


@pytest.mark.parametrize(
    ("array", "said"),
    [(np.full((2, 3, 8, 8), np.nan, np.float32), "384 NaN"), (np.zeros((0, 3, 8, 8), np.float32), "expected samples")],
    ids=["NaN", "none"],
)
def test_data_that_is_none_is_refused(array, said, tmp_path):
    with pytest.raises(InvalidTensor, match=said):
        examined(healthy(), tmp_path, {"x": array})


def test_a_model_of_float64_is_differentiated_too(tmp_path):
    model = build(
        "h = MatMul(x, w) y = Tanh(h)",
        inputs="double[N,5] x",
        outputs="double[N,8] y",
        weights={"w": random(5, 8, dtype="float64")},
    )
    assert examined(model, tmp_path).findings == ()


def test_a_difference_from_zero_is_told_without_per_cent(tmp_path):
    body = "m = ReduceMean<axes=[0], keepdims=1>(x) y = Sub(x, m)"
    found = examined(build(body, inputs="float[N,5] x", outputs="float[N,5] y"), tmp_path)
    (one,) = [finding for finding in found.findings if finding.code == "batch-dependent"]
    assert one.detail.endswith("where the other is 0")


def test_a_too_new_opset_keeps_nothing_from_being_measured(tmp_path):
    norm = "s, m1, v1 = BatchNormalization<training_mode=1>(r, gain, offset, mean, variance)"
    model = Network(norm, weights=trained(CHANNELS), opset=onnx.defs.onnx_opset_version(), ir_version=10).make()
    if newest_opset() >= onnx.defs.onnx_opset_version():
        pytest.skip("this onnxruntime loads every opset that there is")
    found = examined(model, tmp_path, pictures(8))
    assert {"opset-too-new", "batchnorm-training-form", "forms-disagree", "batch-dependent"} <= codes(found)
    assert found.notes == ()
    assert found.statistics
    assert found.activity


def test_a_batch_is_not_fixed_where_only_a_parameter_is(tmp_path):
    inputs = "float[N,3,8,8] x, float[1,8] style"
    model = Network(tail="z = MatMul(style, q) y = Add(l, z)", inputs=inputs, weights={"q": random(8, 4)}).make()
    assert examined(model, tmp_path).findings == ()


@pytest.mark.parametrize("body", ["h = Mul(x, x) y = Sin(h)", "y = Mul(x, w)"], ids=["a square", "a whole model"])
def test_arithmetic_that_normalizes_nothing(body, tmp_path):
    model = build(body, inputs="float[N,5] x", outputs="float[N,5] y", weights={"w": random(5)})
    assert examined(model, tmp_path).findings == ()


@pytest.mark.parametrize(("axes", "found"), [("T,N", set()), ("N,L", {"batch-dependent"})])
def test_the_batch_is_where_it_is_called_so(axes, found, tmp_path):
    body = """
        h, last, cell = LSTM<hidden_size=4, direction="bidirectional">(x, w, r)
        t = Transpose<perm=[0, 2, 1, 3]>(h)
        y = Reshape(t, shape)
    """
    weights = {"w": random(2, 16, 5), "r": random(2, 16, 4), "shape": np.array([0, 0, 8])}
    model = build(body, inputs=f"float[{axes},5] x", outputs=f"float[{axes},8] y", weights=weights)
    assert codes(examined(model, tmp_path)) == found
