"""Inference form: what has no part in predictions goes, and its name finds what is left."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from support.inference_form import ANY, IMAGE, W, assert_same_predictions, ops, rewrite, run
from support.onnx_models import build, random

from gradserve_server.graph.inference_form import to_inference_form

IDENTITIES = {
    "y = Relu(x)": (["Relu"], {}),
    "a = Identity(x) b = Identity(a) y = Relu(b)": (["Relu"], {"a": "x", "b": "x"}),
    "a = Relu(x) b = Identity(a) y = Identity(b)": (["Relu"], {"a": "y", "b": "y"}),
    "a = Relu(x) b = Identity(a) c = Identity(b) y = Neg(c)": (["Relu", "Neg"], {"b": "a", "c": "a"}),
    "a = Relu(x) y = Identity(a) b = Neg(a) z = Identity(b)": (["Relu", "Neg"], {"a": "y", "b": "z"}),
    "a = Relu(x) y = Identity(a) z = Identity(a)": (["Relu", "Identity"], {"a": "y"}),
    "a = Relu(x) b = Identity(a) y = Neg(a) z = Neg(b)": (["Relu", "Neg", "Neg"], {"b": "a"}),
    "y = Relu(x) z = Identity(y)": (["Relu", "Identity"], {}),
    "y = Identity(x)": (["Identity"], {}),
    "a = Identity(x) y = Identity(a)": (["Identity"], {"a": "x"}),
    "y = Identity(w)": (["Identity"], {}),
    "a = Identity(w) y = Add(x, a)": (["Add"], {"a": "w"}),
}


@pytest.mark.parametrize("body", IDENTITIES)
def test_identities_go_and_their_names_find_the_value(body):
    kept, same = IDENTITIES[body]
    outputs = "float[] y, float[] z" if "z =" in body else "float[] y"
    model = build(body, inputs="float[2,3] x", outputs=outputs, weights={"w": random(2, 3, seed=9)})
    form, served = rewrite(model)
    assert ops(served) == kept
    assert form.renames.same == same
    assert form.renames.folded == {}
    assert_same_predictions(served, model)


def test_a_value_that_a_branch_reads_is_found_under_its_new_name():
    body = (
        "a = Relu(x) b = Identity(a) z = Identity(b) "
        "y = If(c) <then_branch = t () => (float[] p) { p = Neg(b) }, else_branch = e () => (float[] q) { q = Exp(a) }>"
    )
    model = build(body, inputs="float[2,3] x, bool c", outputs="float[] y, float[] z")
    _, served = rewrite(model)
    x = random(2, 3)
    for c in (np.array(True), np.array(False)):
        for got, expected in zip(run(served, {"x": x, "c": c}), run(model, {"x": x, "c": c}), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_what_is_in_inference_form_already_is_left_alone():
    model = build("h = Conv(x, W) y = Relu(h)", inputs=IMAGE, outputs=ANY, opset=18, weights={"W": W})
    form, served = rewrite(model)
    assert form.rewrites == ()
    assert ops(served) == ["Conv", "Relu"]


def test_another_domain_is_none_of_our_business():
    model = build("h = Relu(x) y = Identity(h)", inputs=IMAGE, outputs=ANY)
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    model.graph.node[1].domain = "com.example"
    form = to_inference_form(ir.from_proto(model))
    assert [node.domain for node in form.model.graph] == ["", "com.example"]
