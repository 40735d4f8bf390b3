"""Attention weights that the backward pass computes again: the same gradients, and no matrix of all pairs is kept."""

import numpy as np
import onnx_ir as ir
import pytest
from support.onnx_models import build, random
from support.reference import relative_error
from support.runtime import in_training
from support.tolerances import TOLERANCE
from support.tuned import OURS

from gradserve import objectives as O
from gradserve_server.gradient_graph import derive_file
from gradserve_server.graph import tuning
from gradserve_server.graph.autodiff.names import tangent_name
from gradserve_server.graph.derivatives import DEFAULT_POLICY, Product, Wanted, derive
from gradserve_server.graph.inference_form import to_inference_form
from gradserve_server.graph.tuning import tune
from gradserve_server.runtime.session import Session

HEADS, TOKENS, DEPTH = 2, 24, 4
WIDTH = HEADS * DEPTH
CONSTANTS = {
    "split": np.array([0, 0, HEADS, DEPTH]),
    "whole": np.array([0, 0, WIDTH]),
    "scale": np.array(0.5, np.float32),
    "zero": np.array(0, np.float32),
    "bias": random(1, HEADS, TOKENS, TOKENS),
}
MASKS = {
    "none": "w{0} = Softmax <axis = -1> (s{0})",
    "scaled": "m{0} = Mul(s{0}, scale) w{0} = Softmax <axis = -1> (m{0})",
    "divided": "m{0} = Div(s{0}, scale) w{0} = Softmax <axis = -1> (m{0})",
    "biased": "m{0} = Sub(s{0}, bias) w{0} = Softmax <axis = -1> (m{0})",
    "of the caller's": "m{0} = Add(s{0}, mask) w{0} = Softmax <axis = -1> (m{0})",
    "safe": "m{0} = Add(s{0}, mask) p{0} = Softmax <axis = -1> (m{0}) n{0} = IsNaN(p{0}) w{0} = Where(n{0}, zero, p{0})",
}
"""What lies between the two products."""
OPERATORS = {"Add", "Div", "IsNaN", "Mul", "Softmax", "Sub", "Where"}


def attention(k, x, mask):
    parts = [
        f"{name}h{k} = MatMul({x}, {name.upper()}{k}) {name}r{k} = Reshape({name}h{k}, split)"
        f" {name}{k} = Transpose <perm = [{order}]> ({name}r{k})"
        for name, order in (("q", "0, 2, 1, 3"), ("k", "0, 2, 3, 1"), ("v", "0, 2, 1, 3"))
    ]
    weights = f"s{k} = MatMul(q{k}, k{k}) {MASKS[mask].format(k)} o{k} = MatMul(w{k}, v{k})"
    return f"{' '.join(parts)} {weights} t{k} = Transpose <perm = [0, 2, 1, 3]> (o{k}) a{k} = Reshape(t{k}, whole)"


def network(mask, *, layers=2, tokens=TOKENS, outputs=""):
    body = " ".join(
        f"{attention(i, f'x{i}' if i else 'x', mask)} x{i + 1} = Add(x{i}, a{i})".replace("x0", "x") for i in range(layers)
    )
    text = f"{body} y = Tanh(x{layers})"
    matrices = {
        f"{name}{i}": random(WIDTH, WIDTH, seed=10 * i + j) / 2 for i in range(layers) for j, name in enumerate("QKV")
    }
    used = {name: array for name, array in {**CONSTANTS, **matrices}.items() if name in text}
    rows = f"float[N,{tokens},{WIDTH}]"
    masks = f", float[N,1,{tokens},{tokens}] mask" if "mask" in text else ""
    return build(text, inputs=f"{rows} x{masks}", outputs=f"{rows} y{outputs}", opset=18, weights=used)


def feeds(mask, tokens=TOKENS):
    given = {"x": random(3, tokens, WIDTH)}
    if "mask" in MASKS[mask]:
        given["mask"] = np.where(random(3, 1, tokens, tokens, seed=5) > 0, 0, -np.inf).astype(np.float32)
        given["mask"][..., 0] = 0
        if "IsNaN" in MASKS[mask]:
            given["mask"][1, :, 3] = -np.inf  # nothing to attend to
    return given


def gradient_of(proto, backend="portable"):
    return derive_file(proto, O.channel_energy("y", 1), backend=backend)


def tuned(model):
    copy = model.clone()
    tune(copy, OURS)
    return copy


def second_products(model):
    """Those that make weights again."""
    return [node for node in model.graph if node.op_type == "MatMul" and (node.name or "").endswith("/again")]


@pytest.mark.parametrize("backend", [pytest.param("auto", marks=in_training), "portable"])
@pytest.mark.parametrize("mask", MASKS)
def test_gradients_are_the_same(mask, backend, monkeypatch):
    model = gradient_of(network(mask), backend)
    again = tuned(model)
    monkeypatch.setattr(tuning, "recompute_attention", lambda _: None)
    kept = tuned(model)
    assert len(second_products(again)) == 2
    assert not second_products(kept)
    given = feeds(mask)
    expected, got = (Session(graph, 2).run(given)["grad/x"] for graph in (kept, again))
    undefined = np.isnan(expected)
    assert undefined.any() == (mask == "safe")
    np.testing.assert_array_equal(np.isnan(got), undefined)
    assert relative_error(got[~undefined], expected[~undefined]) < TOLERANCE["float32 operator"]


def test_tangents_are_the_same(monkeypatch):
    """Their graph walks backward twice, and reads weights three times."""
    form = to_inference_form(ir.from_proto(network("scaled")), 18)
    model = derive(form.model, Wanted(("x",), ("y",), Product.JVP), DEFAULT_POLICY).model
    again = tuned(model)
    monkeypatch.setattr(tuning, "recompute_attention", lambda _: None)
    given = {**feeds("scaled"), tangent_name("x"): random(3, TOKENS, WIDTH, seed=7)}
    expected, got = (Session(graph, 2).run(given)[tangent_name("y")] for graph in (tuned(model), again))
    assert len(second_products(again)) == 2
    assert relative_error(got, expected) < TOLERANCE["float32 operator"]


@pytest.mark.parametrize("mask", MASKS)
def test_no_weights_live_from_forward_to_backward(mask):
    model = tuned(gradient_of(network(mask)))
    places = {node: place for place, node in enumerate(model.graph)}
    last_product = max(place for node, place in places.items() if node.outputs[0].name == "a1")
    for node, place in places.items():
        for value in node.outputs:
            shape = value.shape
            if place < last_product and isinstance(shape, ir.Shape) and shape.rank() == 4 and shape[1] == HEADS:
                weights = tuple(shape[2:]) == (TOKENS, TOKENS)
                assert not weights or max(places[user] for user in value.consumers()) <= last_product, value.name


@pytest.mark.parametrize("mask", MASKS)
def test_the_second_product_waits_for_a_cotangent(mask):
    """onnxruntime would run it right after the first one otherwise, and keep what it makes."""
    model = tuned(gradient_of(network(mask)))
    places = {node: place for place, node in enumerate(model.graph)}

    def latest(value):
        """The latest place of what must have run before a value, but for what only makes it again."""
        maker = value.producer()
        if maker is None:
            return -1
        added = (maker.name or "").endswith(("/again", "/waiting"))
        before = max((latest(read) for read in maker.inputs), default=-1) if added else -1
        return before if added else places[maker]

    (prediction,) = (place for node, place in places.items() if node.outputs[0].name == "a1")
    found = second_products(model)
    assert len(found) == 2
    for product in found:
        assert latest(product.inputs[0]) > prediction


def test_every_operator_between_the_products_has_a_case():
    assert set(tuning.attention.MADE_AGAIN) == OPERATORS
    assert all(any(f"{operator}(" in mask or f"{operator} <" in mask for mask in MASKS.values()) for operator in OPERATORS)


def test_weights_are_kept_where_queries_and_keys_are_more_numbers(monkeypatch):
    few = 2 * DEPTH
    monkeypatch.setitem(globals(), "TOKENS", few)
    assert not second_products(tuned(gradient_of(network("none", tokens=few))))
    assert second_products(tuned(gradient_of(network("none", tokens=few + 1))))


def test_weights_that_are_an_output_are_kept():
    """They are in memory until the end in any case."""
    proto = network("none", outputs=f", float[N,{HEADS},{TOKENS},{TOKENS}] w0")
    model = gradient_of(proto)
    model.graph.outputs.append(next(node.outputs[0] for node in model.graph if node.outputs[0].name == "w0"))
    assert len(second_products(tuned(model))) == 1


def test_weights_of_something_that_is_gone_are_kept():
    """Here the scores are also normed before the softmax, by an operator that is not made again."""
    text = network("none", layers=1)
    model = ir.from_proto(text)
    softmax = next(node for node in model.graph if node.op_type == "Softmax")
    scores = softmax.inputs[0]
    exp = ir.node("Erf", [scores], name="erf")
    exp.outputs[0].name, exp.outputs[0].type, exp.outputs[0].shape = "erf", scores.type, scores.shape
    model.graph.insert_before(softmax, exp)
    softmax.replace_input_with(0, exp.outputs[0])
    assert not second_products(tuned(gradient_of(ir.to_proto(model))))


def test_a_prediction_is_left_alone():
    model = ir.from_proto(network("safe"))
    before = [node.op_type for node in model.graph]
    tuning.recompute_attention(model)
    assert [node.op_type for node in model.graph] == before


def test_scores_of_two_products_are_kept():
    """As where positions have queries of their own: which of them would be waited for is not said."""
    model = ir.from_proto(network("none", layers=1))
    softmax = next(node for node in model.graph if node.op_type == "Softmax")
    product = softmax.inputs[0].producer()
    other, both = ir.node("MatMul", product.inputs), ir.node("Add", [None, None])
    both.replace_input_with(0, product.outputs[0])
    both.replace_input_with(1, other.outputs[0])
    for node, name in ((other, "other"), (both, "both")):
        out = node.outputs[0]
        out.name, out.type, out.shape = name, product.outputs[0].type, product.outputs[0].shape
    model.graph.insert_before(softmax, [other, both])
    softmax.replace_input_with(0, both.outputs[0])
    assert not second_products(tuned(gradient_of(ir.to_proto(model))))


def test_numbers_that_our_operators_do_not_take_are_left_alone():
    text = network("none", layers=1)
    model = ir.from_proto(text)
    for value in (*model.graph.inputs, *(out for node in model.graph for out in node.outputs)):
        value.type = ir.TensorType(ir.DataType.DOUBLE)
    for value in model.graph.initializers.values():
        if value.dtype is ir.DataType.FLOAT:
            array = value.const_value.numpy().astype(np.float64)
            value.const_value, value.type = ir.tensor(array, name=value.name), ir.TensorType(ir.DataType.DOUBLE)
    assert not second_products(tuned(gradient_of(ir.to_proto(model))))
