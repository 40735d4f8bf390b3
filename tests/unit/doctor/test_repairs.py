"""Each repair does what it says, and changes no more."""

import numpy as np
import onnx
import pytest
from support.examined import codes
from support.gallery import GALLERY
from support.onnx_models import build, random, save, trained, untrained
from support.small_network import CHANNELS, Network, healthy, pictures
from support.tolerances import TOLERANCE

from gradserve.errors import InvalidParameter
from gradserve_server import Engine, diagnose, repair
from gradserve_server.runtime.doctor.repair import REPAIRS
from gradserve_server.runtime.session import newest_opset

INFERENCE = "s = BatchNormalization(r, gain, offset, mean, variance)"
REPAIRABLE = [
    entry
    for entry in GALLERY
    if entry.code in {"batchnorm-training-form", "batchnorm-extra-outputs", "dropout-training-form", "batch-fixed"}
    or entry.code.startswith(("opset-", "ir-"))
]
NEEDS_DATA = "training form, never written back"


def predict(path, data):
    with Engine(path) as engine:
        return engine.infer(path.stem, data)


@pytest.mark.parametrize("entry", [e for e in REPAIRABLE if e.name != NEEDS_DATA], ids=lambda entry: entry.name)
def test_what_is_found_is_repaired_without_being_asked(entry, tmp_path):
    if entry.code == "opset-too-new" and newest_opset() >= onnx.defs.onnx_opset_version():
        pytest.skip("this onnxruntime loads every opset that there is")
    treatment = repair(save(entry.model, tmp_path / "model.onnx"), tmp_path / "out.onnx")
    assert entry.code in codes(treatment.before)
    assert treatment.after.findings == ()
    assert treatment.repairs
    assert not any(step.problem for step in treatment.repairs)


@pytest.mark.parametrize("name", ["batchnorm in training form, opset 6", "batchnorm in training form, opset 15"])
def test_a_switched_model_predicts_as_the_same_network_in_inference_form(name, tmp_path):
    (entry,) = [entry for entry in GALLERY if entry.name == name]
    source = save(entry.model, tmp_path / "model.onnx")
    repair(source, tmp_path / "out.onnx")
    same = save(Network(INFERENCE, weights=trained(CHANNELS)).make(), tmp_path / "same.onnx")
    got, expected = (predict(path, pictures(4))["y"] for path in (tmp_path / "out.onnx", same))
    np.testing.assert_allclose(got, expected, atol=TOLERANCE["rewritten float32"] * np.abs(expected).max())


def test_untrained_statistics_in_training_form_need_data(tmp_path):
    (entry,) = [entry for entry in GALLERY if entry.name == NEEDS_DATA]
    source, out = save(entry.model, tmp_path / "model.onnx"), tmp_path / "out.onnx"
    (step,) = repair(source, out).repairs
    assert step.done == ()
    assert "untrained" in step.problem
    treatment = repair(source, out, ["recalibrate"], inputs=pictures(64))
    assert [step.repair for step in treatment.repairs] == ["switch", "recalibrate"]
    assert treatment.after.findings == ()


def test_the_change_of_a_repair_is_measured(tmp_path):
    (entry,) = [entry for entry in GALLERY if entry.name == "batchnorm in training form, opset 15"]
    (step,) = repair(save(entry.model, tmp_path / "model.onnx"), tmp_path / "out.onnx", inputs=pictures(4)).repairs
    original = onnx.reference.ReferenceEvaluator(entry.model).run(["y"], pictures(4))[0]
    served = predict(tmp_path / "out.onnx", pictures(4))["y"]
    assert step.change == pytest.approx(np.abs(original - served).max(), rel=TOLERANCE["float32 operator"])


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Sigmoid"])
def test_what_is_cut_off_gives_the_logits(op, tmp_path):
    source = save(Network(tail=f"k = {op}(l) y = Identity(k)").make(), tmp_path / "model.onnx")
    treatment = repair(source, tmp_path / "out.onnx", ["cut-softmax"])
    assert treatment.after.findings == ()
    logits = save(healthy(), tmp_path / "logits.onnx")
    np.testing.assert_array_equal(predict(tmp_path / "out.onnx", pictures(4))["y"], predict(logits, pictures(4))["y"])


def test_what_is_read_elsewhere_too_is_not_cut(tmp_path):
    model = Network(tail="y = Softmax(l) z = Neg(y)", outputs="float[N,4] y, float[N,4] z").make()
    (step,) = repair(save(model, tmp_path / "model.onnx"), tmp_path / "out.onnx", ["cut-softmax"]).repairs
    assert "something else reads" in step.problem


def test_folding_leaves_no_batchnorm_and_the_same_predictions(tmp_path):
    (entry,) = [entry for entry in GALLERY if entry.code == "batchnorm-foldable"]
    source = save(entry.model, tmp_path / "model.onnx")
    treatment = repair(source, tmp_path / "out.onnx", ["fold"])
    (step,) = treatment.repairs
    assert step.relative < TOLERANCE["rewritten float32"]
    assert "BatchNormalization" not in {node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node}


def test_a_description_in_the_file_is_what_ascents_work_by(tmp_path):
    source = save(Network(metadata={}).make(), tmp_path / "model.onnx")
    description = {"x.mean": "0.4 0.5 0.6", "x.std": "0.2", "x.channels": "BGR"}
    treatment = repair(source, tmp_path / "out.onnx", description=description)
    assert codes(treatment.before) == {"normalization-undescribed"}
    assert treatment.after.findings == ()
    with Engine(tmp_path / "out.onnx") as engine:
        image = engine.inspect("out").input("x").image
    assert image is not None
    assert (image.mean, image.std, image.channels) == ((0.4, 0.5, 0.6), (0.2,), "BGR")


@pytest.mark.parametrize(
    ("description", "text"),
    [({"x.mean": "one"}, "numbers"), ({"x.colour": "red"}, "one of the keys"), ({"z.mean": "1"}, "expected one of x")],
)
def test_a_description_that_is_none_is_not_written(description, text, tmp_path):
    source = save(Network(metadata={}).make(), tmp_path / "model.onnx")
    with pytest.raises(InvalidParameter, match=text):
        repair(source, tmp_path / "out.onnx", description=description)
    assert not (tmp_path / "out.onnx").exists()


def reshaping(last: str = "y = Reshape(k, back)", **weights):
    """[2, 4] by way of constants that name the batch."""
    return build(
        f"h = Reshape(x, one) k = Relu(h) {last}",
        inputs="float[2,4] x",
        outputs="float[2,4] y",
        weights={"one": np.array([2, 2, 2]), "back": np.array([2, -1]), **weights},
    )


def test_an_open_batch_is_open_in_every_reshape(tmp_path):
    treatment = repair(save(reshaping(), tmp_path / "model.onnx"), tmp_path / "out.onnx")
    assert codes(treatment.before) == {"batch-fixed"}
    assert codes(treatment.after) == set()
    x = random(5, 4)
    np.testing.assert_array_equal(predict(tmp_path / "out.onnx", {"x": x})["y"], np.maximum(x, 0))


def test_a_batch_that_means_something_is_not_opened(tmp_path):
    mixing = reshaping("m = ReduceMean<axes=[0], keepdims=1>(k) e = Sub(k, m) y = Reshape(e, back)")
    treatment = repair(save(mixing, tmp_path / "model.onnx"), tmp_path / "out.onnx")
    assert "depends on the batch" in treatment.repairs[0].problem
    assert codes(treatment.after) == {"batch-fixed"}


@pytest.mark.parametrize(
    ("body", "size"),
    [
        ("m = ReduceMean<axes=[0], keepdims=1>(x) y = Sub(x, m)", 1),
        ("p = Reshape(x, pairs) m = ReduceMean<axes=[1], keepdims=1>(p) e = Sub(p, m) y = Reshape(e, rows)", 2),
    ],
    ids=["alone as ever, not together", "together as ever, not alone"],
)
def test_a_batch_is_opened_only_for_every_size(body, size, tmp_path):
    weights = {"pairs": np.array([-1, 2, 4]), "rows": np.array([-1, 4])}
    model = build(body, inputs=f"float[{size},4] x", outputs=f"float[{size},4] y", weights=weights)
    (step,) = repair(save(model, tmp_path / "model.onnx"), tmp_path / "out.onnx").repairs
    assert (step.repair, step.done) == ("batch", ())
    assert step.problem


def test_a_model_without_findings_is_written_as_it_is(tmp_path):
    source = save(healthy(), tmp_path / "model.onnx")
    treatment = repair(source, tmp_path / "out.onnx")
    assert treatment.repairs == ()
    np.testing.assert_array_equal(predict(tmp_path / "out.onnx", pictures(2))["y"], predict(source, pictures(2))["y"])


def test_the_file_itself_is_never_written_over(tmp_path):
    source = save(healthy(), tmp_path / "model.onnx")
    with pytest.raises(InvalidParameter, match="another file"):
        repair(source, tmp_path / "." / "model.onnx")


@pytest.mark.parametrize(("repairs", "text"), [(["polish"], "expected one of switch"), (["recalibrate"], "expected data")])
def test_what_cannot_be_asked_for(repairs, text, tmp_path):
    with pytest.raises(InvalidParameter, match=text):
        repair(save(healthy(), tmp_path / "model.onnx"), tmp_path / "out.onnx", repairs)


def test_every_repair_is_tried_here():
    tried = {"switch", "drop", "opset", "recalibrate", "batch", "fold", "cut-softmax", "describe"}
    assert tried == REPAIRS.keys()


def test_the_repaired_file_is_diagnosed_as_what_it_is(tmp_path):
    (entry,) = [entry for entry in GALLERY if entry.name == "batchnorm in training form, opset 15"]
    treatment = repair(save(entry.model, tmp_path / "model.onnx"), tmp_path / "out.onnx")
    assert treatment.after.sha256 == diagnose(tmp_path / "out.onnx").sha256


def test_the_change_is_that_of_the_same_output_wherever_it_stands(tmp_path):
    weights = trained(3)
    model = build(
        "q, rm, rv = BatchNormalization<training_mode=1>(x, gain, offset, mean, variance) y = Relu(q)",
        outputs="float[3] rm, float[3] rv, float[N,3,4,4] y",
        weights=weights,
    )
    data = {"x": random(4, 3, 4, 4)}
    source, out = save(model, tmp_path / "model.onnx"), tmp_path / "out.onnx"
    (step,) = repair(source, out, inputs=data).repairs
    original = onnx.reference.ReferenceEvaluator(model).run(["y"], data)[0]
    assert step.change == pytest.approx(np.abs(original - predict(out, data)["y"]).max(), rel=TOLERANCE["rewritten float32"])


def test_nothing_known_is_not_no_change(tmp_path):
    broken = trained(CHANNELS) | {"variance": -trained(CHANNELS)["variance"]}
    source = save(Network(INFERENCE, weights=broken).make(), tmp_path / "model.onnx")
    (step,) = repair(source, tmp_path / "out.onnx", ["recalibrate"], inputs=pictures(64)).repairs
    assert step.done
    assert np.isnan(step.change)
    assert np.isnan(step.relative)


def test_a_dropout_goes_and_what_was_refused_stays(tmp_path):
    node = "d = Dropout(r) s, m1, v1 = BatchNormalization<training_mode=1>(d, gain, offset, mean, variance)"
    source = save(Network(node, weights=untrained(CHANNELS)).make(), tmp_path / "model.onnx")
    treatment = repair(source, tmp_path / "out.onnx")
    switched, dropped = treatment.repairs
    assert "untrained" in switched.problem
    assert dropped.repair == "drop"
    assert "batchnorm-training-form" in codes(treatment.after)


def test_the_logits_have_the_outputs_name(tmp_path):
    model = build("h = Relu(x) y = Sigmoid(h)", outputs="float[N,3,4,4] y, float[N,3,4,4] h")
    (step,) = repair(save(model, tmp_path / "model.onnx"), tmp_path / "out.onnx", ["cut-softmax"]).repairs
    assert step.done[0].endswith("output 'y' gives the logits")
