"""Training form becomes inference form where that is what the file was trained for, and is refused where it is not."""

import numpy as np
import onnx_ir as ir
import pytest
from support.inference_form import (
    ANY,
    EPSILON,
    IMAGE,
    W,
    assert_close,
    assert_same_predictions,
    by_hand,
    feeds_of,
    ops,
    rewrite,
    run,
)
from support.onnx_models import BATCHNORM, build, random, trained, untrained

from gradserve.errors import InvalidModel
from gradserve_server.graph.inference_form import to_inference_form

# ---- training form ---------------------------------------------------------------------------------------------------

TRAINING_FORMS = [
    (7, "y, m, v, sm, sv = BatchNormalization(h, gain, offset, mean, variance)"),
    (8, "y, m, v = BatchNormalization(h, gain, offset, mean, variance)"),
    (9, "y, m, v, sm, sv = BatchNormalization(h, gain, offset, mean, variance)"),
    (13, "y, m = BatchNormalization(h, gain, offset, mean, variance)"),
    (14, "y, m, v = BatchNormalization<training_mode = 1>(h, gain, offset, mean, variance)"),
    (15, "y, m, v = BatchNormalization<training_mode = 1>(h, gain, offset, mean, variance)"),
    (17, "y = BatchNormalization<training_mode = 1>(h, gain, offset, mean, variance)"),
]


@pytest.mark.parametrize(("opset", "bn"), TRAINING_FORMS)
def test_trained_statistics_are_used(opset, bn):
    model = build(f"h = Neg(x) {bn}", inputs=IMAGE, outputs=ANY, opset=opset, weights=trained(4))
    form, served = rewrite(model)
    assert any("switched node 'making y' (BatchNormalization" in line for line in form.rewrites)
    x = feeds_of(model)["x"]
    assert_close(run(served, {"x": x})[0], by_hand(-x, trained(4)))


@pytest.mark.parametrize(("opset", "bn"), TRAINING_FORMS)
def test_trained_statistics_are_folded(opset, bn):
    model = build(f"h = Conv(x, W) {bn}", inputs=IMAGE, outputs=ANY, opset=opset, weights={"W": W, **trained(6)})
    _, served = rewrite(model)
    assert ops(served) == ["Conv"]


@pytest.mark.parametrize("shared", [False, True])
def test_a_standardized_weight_is_computed(shared):
    """As torch's TorchScript exporter writes NFNet's convolutions: BatchNormalization in training form, of the weight."""
    flat = W.reshape(1, 6, -1)
    alias = "K = Identity(V)" if shared else ""
    body = f"""{alias} m0 = ReduceMean<axes = [0, 2], keepdims = 0>(V) v0 = ReduceMean<axes = [0, 2], keepdims = 0>(V)
    k, m, v = BatchNormalization<training_mode = 1, epsilon = 0.01>({"K" if shared else "V"}, gain, offset, m0, v0)
    w = Reshape(k, shape) y = Conv(x, w)"""
    parameters = {name: array for name, array in trained(6).items() if name in ("gain", "offset")}
    weights = {"V": flat, "shape": np.array(W.shape), **parameters}
    model = build(body, inputs=IMAGE, outputs=ANY, opset=17, weights=weights)
    form, served = rewrite(model)
    assert any("which normalizes a constant" in line for line in form.rewrites)
    centred = W - W.mean((1, 2, 3), keepdims=True)
    standard = centred / np.sqrt(W.var((1, 2, 3), keepdims=True) + 0.01)
    weight = standard * parameters["gain"][:, None, None, None] + parameters["offset"][:, None, None, None]
    plain = build("y = Conv(x, W)", inputs=IMAGE, outputs=ANY, opset=17, weights={"W": weight.astype(np.float32)})
    x = feeds_of(model)["x"]
    assert_close(run(served, {"x": x})[0], run(plain, {"x": x})[0])


@pytest.mark.parametrize("name", ["", "encoder/bn1"])
@pytest.mark.parametrize(("opset", "bn"), TRAINING_FORMS)
def test_untrained_statistics_are_refused_with_the_nodes_name(opset, bn, name):
    model = build(f"h = Neg(x) {bn}", inputs=IMAGE, outputs=ANY, opset=opset, weights=untrained(4))
    model.graph.node[1].name = name
    with pytest.raises(
        InvalidModel, match=rf"^node '{name or 'making y'}' \(BatchNormalization, opset {opset}\): .*untrained"
    ):
        to_inference_form(ir.from_proto(model))


@pytest.mark.parametrize("missing", ["mean", "variance"])
@pytest.mark.parametrize(("opset", "bn"), TRAINING_FORMS)
def test_statistics_that_are_no_constants_are_refused(opset, bn, missing):
    weights = {name: array for name, array in trained(4).items() if name != missing}
    x = f"{IMAGE}, float[4] {missing}_in"
    model = build(f"{missing} = Abs({missing}_in) h = Neg(x) {bn}", inputs=x, outputs=ANY, opset=opset, weights=weights)
    with pytest.raises(InvalidModel, match=r"^node 'making y' \(BatchNormalization, opset \d+\): .*not constants"):
        to_inference_form(ir.from_proto(model))


@pytest.mark.parametrize(("opset", "bn"), [(9, BATCHNORM), (17, BATCHNORM), (17, EPSILON.replace("0.5", "1e-5"))])
def test_untrained_statistics_in_inference_form_are_somebodys_wish(opset, bn):
    model = build(f"h = Neg(x) y = {bn}", inputs=IMAGE, outputs=ANY, opset=opset, weights=untrained(4))
    form, served = rewrite(model)
    assert not any("switched" in line for line in form.rewrites)
    assert_same_predictions(served, model)


@pytest.mark.parametrize(("opset", "mode"), [(9, ""), (13, ""), (14, "<training_mode = 1>"), (15, "<training_mode = 1>")])
def test_running_statistics_that_are_read_pass_through(opset, mode):
    body = f"h = Conv(x, W) y, m, v = BatchNormalization{mode}(h, gain, offset, mean, variance) n = Neg(m)"
    outputs = "float[] y, float[] m, float[] v, float[] n"
    model = build(body, inputs=IMAGE, outputs=outputs, opset=opset, weights={"W": W, **trained(6)})
    _, served = rewrite(model)
    got = run(served, feeds_of(model))
    for value, expected in zip(got[1:], (trained(6)["mean"], trained(6)["variance"], -trained(6)["mean"]), strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("reader", ["output", "node"])
@pytest.mark.parametrize("saved", ["sm", "sv"])
def test_batch_statistics_that_are_read_are_refused(reader, saved):
    body = "y, m, v, sm, sv = BatchNormalization(x, gain, offset, mean, variance)"
    extra = f"float {saved}" if reader == "output" else "float[] z"
    body = body if reader == "output" else f"{body} z = Neg({saved})"
    model = build(body, inputs=IMAGE, outputs=f"float[] y, {extra}", opset=9, weights=trained(4))
    with pytest.raises(InvalidModel, match=r"^node 'making y' \(BatchNormalization, opset 9\): .*batch statistics"):
        to_inference_form(ir.from_proto(model))


# ---- Dropout ---------------------------------------------------------------------------------------------------------

DROPOUTS = [
    (7, "h = Dropout<ratio = 0.9>(r)", False),
    (10, "h, mask = Dropout(r)", False),
    (12, "h = Dropout(r)", False),
    (12, "h = Dropout(r, ratio)", False),
    (13, "h, mask = Dropout(r, ratio, no)", False),
    (13, "h, mask = Dropout(r, ratio, yes)", True),
    (17, "h = Dropout(r, ratio, mode)", True),
    (21, "h = Dropout(r, ratio, yes)", True),
]
MODES = {"ratio": np.array(0.5, np.float32), "yes": np.array(True), "no": np.array(False)}


@pytest.mark.parametrize(("opset", "dropout", "trains"), DROPOUTS)
def test_dropout_goes(opset, dropout, trains):
    inputs = f"{IMAGE}, bool mode" if "mode" in dropout else IMAGE
    model = build(f"r = Relu(x) {dropout} y = Neg(h)", inputs=inputs, outputs=ANY, opset=opset, weights=MODES)
    form, served = rewrite(model)
    assert ops(served) == ["Relu", "Neg"]
    assert form.renames.same == {"h": "r"}
    assert any("switched off node 'making h' (Dropout" in line for line in form.rewrites) == trains
    x = feeds_of(build("y = Neg(x)", inputs=IMAGE, outputs=ANY))
    extra = {"mode": np.array(True)} if "mode" in dropout else {}
    np.testing.assert_array_equal(run(served, x | extra)[0], -np.maximum(x["x"], 0))


@pytest.mark.parametrize("reader", ["", "z = Cast<to = 1>(mask)"])
@pytest.mark.parametrize(
    ("opset", "dropout"),
    [(7, "Dropout(x)"), (10, "Dropout(x)"), (13, "Dropout(x, ratio, yes)")],
)
def test_a_mask_that_is_used_is_refused(opset, dropout, reader):
    extra = "float[] z" if reader else f"{'float' if opset < 10 else 'bool'}[] mask"
    body = f"y, mask = {dropout} {reader}"
    model = build(body, inputs=IMAGE, outputs=f"float[] y, {extra}", opset=opset, weights=MODES)
    with pytest.raises(InvalidModel, match=rf"^node 'making y' \(Dropout, opset {opset}\): .*mask"):
        to_inference_form(ir.from_proto(model))


def test_dropout_as_the_output_keeps_the_outputs_name():
    model = build("r = Relu(x) y = Dropout(r)", inputs=IMAGE, outputs=ANY)
    form, served = rewrite(model)
    assert ops(served) == ["Relu"]
    assert form.renames.same == {"r": "y"}
    assert_same_predictions(served, model)


@pytest.mark.parametrize("statistics", [trained, untrained])
def test_training_form_inside_a_branch(statistics):
    then = "d = Dropout(x, ratio, yes) z = BatchNormalization<training_mode = 1>(d, gain, offset, mean, variance)"
    body = f"y = If(c) <then_branch = t () => (float[] z) {{ {then} }}, else_branch = e () => (float[] w) {{ w = Neg(x) }}>"
    weights = {**MODES, **statistics(4)}
    model = build(body, inputs=f"{IMAGE}, bool c", outputs=ANY, weights=weights)
    if statistics is untrained:
        with pytest.raises(InvalidModel, match="^node 'making z'"):
            to_inference_form(ir.from_proto(model))
        return
    _, served = rewrite(model)
    x = random(2, 4, 6, 5)
    got = run(served, {"x": x, "c": np.array(True)})[0]
    assert_close(got, by_hand(x, weights))
