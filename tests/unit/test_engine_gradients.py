"""Gradients of the trained digits model, against two oracles: float64 autograd (golden) and finite differences."""

import numpy as np
import onnx
import pytest
from support import golden
from support.paths import MODELS
from support.reference import NETWORK_OPS, STEP, relative_error
from support.tolerances import TOLERANCE

from gradserve import objectives as O
from gradserve.errors import InvalidObjective, InvalidTensor, NotDifferentiable, UnknownInput, UnknownLayer

CASES = list(golden.cases())
MODELS_OF_DIGITS = ("digits", "digits_batchnorm")


@pytest.mark.parametrize("model", MODELS_OF_DIGITS)
def test_logits_equal_the_oracle(engine, model):
    logits = engine.infer(model, {"image": golden.digits()})["logits"]
    assert relative_error(logits, golden.logits()) < TOLERANCE["float32 network"]


@pytest.mark.parametrize("model", MODELS_OF_DIGITS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gradient_equals_float64_autograd(engine, model, case):
    result = engine.gradient(model, {"image": golden.digits()}, case.objective)
    assert relative_error(result.values, case.values) < TOLERANCE["float32 network"]
    assert relative_error(result.gradients["image"], case.gradient) < TOLERANCE["float32 network"]


def in_float64(model: str, layers: list[str]):
    """The model's layers as a float64 function, by onnx's reference evaluator."""
    from onnx.reference import ReferenceEvaluator

    proto = onnx.load(MODELS / model / "1" / "model.onnx")
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, None) for name in layers)
    del proto.graph.value_info[:]
    evaluator = ReferenceEvaluator(proto, new_ops=NETWORK_OPS)
    return lambda image: evaluator.run(None, {"image": image})


VECTOR = np.random.default_rng(1).normal(size=48).astype(np.float32)
ARRAY = np.random.default_rng(2).normal(size=(1, 48, 7, 7)).astype(np.float32)
FORMULAS = {
    "unit": (O.unit("logits", 7), "logits", lambda a: a[:, 7]),
    "neuron": (O.neuron("relu6", 20, 3, 4), "relu6", lambda a: a[:, 20, 3, 4]),
    "neuron in the centre": (O.neuron("relu6", 20), "relu6", lambda a: a[:, 20, a.shape[2] // 2, a.shape[3] // 2]),
    "channel": (O.channel("relu6", 20), "relu6", lambda a: a[:, 20].mean((1, 2))),
    "channel_energy": (O.channel_energy("relu1", 20), "relu1", lambda a: (a[:, 20] ** 2).sum((1, 2))),
    "layer": (O.layer("relu6"), "relu6", lambda a: (a**2).mean((1, 2, 3))),
    "direction": (O.direction("relu6", VECTOR), "relu6", lambda a: np.einsum("nchw,c->nhw", a, VECTOR).mean((1, 2))),
    "cotangent": (O.cotangent("relu6", ARRAY), "relu6", lambda a: (a * ARRAY).sum((1, 2, 3))),
    "sum": (
        2 * O.unit("logits", 7) - O.unit("logits", 1) + O.layer("logits"),
        "logits",
        lambda a: 2 * a[:, 7] - a[:, 1] + (a**2).mean(1),
    ),
}


@pytest.fixture(scope="module")
def differences() -> dict[str, np.ndarray]:
    """d formula / d pixel of the first digit by central differences in float64, for every formula from the same runs."""
    layers = sorted({layer for _, layer, _ in FORMULAS.values()})
    function = in_float64("digits_batchnorm", layers)
    image = golden.digits()[:1].astype(np.float64)
    found: dict[str, list[np.ndarray]] = {name: [] for name in FORMULAS}
    for pixels in np.array_split(np.eye(image.size), 8):
        step = STEP * pixels.reshape(-1, *image.shape[1:])
        ahead, behind = (dict(zip(layers, function(image + sign * step), strict=True)) for sign in (1, -1))
        for name, (_, layer, formula) in FORMULAS.items():
            found[name].append((formula(ahead[layer]) - formula(behind[layer])) / (2 * STEP))
    return {name: np.concatenate(parts).reshape(image.shape) for name, parts in found.items()}


@pytest.mark.parametrize("name", FORMULAS)
def test_gradient_equals_finite_differences(engine, differences, name):
    result = engine.gradient("digits_batchnorm", {"image": golden.digits()[:1]}, FORMULAS[name][0])
    assert relative_error(result.gradients["image"], differences[name]) < TOLERANCE["float32 network"]


def test_objectives_over_several_layers_add(engine):
    first, second = O.channel("relu1", 3), O.layer("relu6")
    image = {"image": golden.digits()}
    both = engine.gradient("digits", image, first + 0.5 * second)
    one, two = (engine.gradient("digits", image, objective) for objective in (first, second))
    assert relative_error(both.values, one.values + 0.5 * two.values) < TOLERANCE["float32 network"]
    expected = one.gradients["image"] + 0.5 * two.gradients["image"]
    assert relative_error(both.gradients["image"], expected) < TOLERANCE["float32 network"]


@pytest.mark.parametrize("batch", [1, 2, 3, 8, 33])
def test_samples_of_a_batch_do_not_see_one_another(engine, batch):
    images = np.random.default_rng(batch).normal(size=(batch, 1, 28, 28)).astype(np.float32)
    together = engine.gradient("digits", {"image": images}, O.channel_energy("relu6", 20))
    alone = [engine.gradient("digits", {"image": image[np.newaxis]}, O.channel_energy("relu6", 20)) for image in images]
    assert together.values.shape == (batch,)
    expected = np.concatenate([result.gradients["image"] for result in alone])
    assert relative_error(together.gradients["image"], expected) < TOLERANCE["another batch size"]


def test_vjp_is_linear_and_equals_the_unit_gradients(engine):
    image, weights = {"image": golden.digits()}, np.random.default_rng(0).normal(size=(4, 10)).astype(np.float32)
    outputs, gradients = engine.vjp("digits", image, {"logits": weights})
    assert relative_error(outputs["logits"], golden.logits()) < TOLERANCE["float32 network"]
    units = [engine.gradient("digits", image, O.unit("logits", k)).gradients["image"] for k in range(10)]
    expected = sum(weights[:, k, None, None, None] * units[k] for k in range(10))
    assert relative_error(gradients["image"], expected) < TOLERANCE["float32 network"]


def test_one_plan_serves_every_index(engine):
    model = engine.model("digits")
    engine.gradient("digits", {"image": golden.digits()}, O.unit("logits", 0))
    before = len(model._plans.kept)
    for index in range(1, 10):
        engine.gradient("digits", {"image": golden.digits()}, O.unit("logits", index))
    assert len(model._plans.kept) == before


def test_activations_equal_the_oracle(engine):
    layers = ["relu1", "relu6", "logits"]
    got = engine.activations("digits", {"image": golden.digits()}, layers)
    expected = in_float64("digits_batchnorm", layers)(golden.digits().astype(np.float64))
    assert list(got) == layers
    for name, array in zip(layers, expected, strict=True):
        assert relative_error(got[name], array) < TOLERANCE["float32 network"]


IMAGE = {"image": golden.digits()}
MISTAKES = {
    "unit outside": (
        lambda e: e.gradient("digits", IMAGE, O.unit("logits", 10)),
        InvalidObjective,
        "index from 0 to 9, got 10",
    ),
    "channel outside": (lambda e: e.gradient("digits", IMAGE, O.channel("relu6", 999)), InvalidObjective, "got 999"),
    "position outside": (lambda e: e.gradient("digits", IMAGE, O.neuron("relu6", 0, 99, 0)), InvalidObjective, "y from 0"),
    "position too long": (lambda e: e.gradient("digits", IMAGE, O.neuron("relu6", 0, 1)), InvalidObjective, "2 numbers"),
    "direction of another length": (
        lambda e: e.gradient("digits", IMAGE, O.direction("relu6", np.ones(3))),
        InvalidObjective,
        "direction of shape",
    ),
    "cotangent of another shape": (
        lambda e: e.gradient("digits", IMAGE, O.cotangent("logits", np.ones((4, 9)))),
        InvalidObjective,
        r"cotangent of shape \[4, 10\], got \[4, 9\]",
    ),
    "unknown layer": (lambda e: e.gradient("digits", IMAGE, O.channel("relu66", 0)), UnknownLayer, "did you mean 'relu6'"),
    "unknown input": (lambda e: e.gradient("digits", IMAGE, O.layer("relu1"), wrt=["x"]), UnknownInput, "'x'"),
    "input is its own layer": (lambda e: e.gradient("digits", IMAGE, O.layer("nowhere")), UnknownLayer, "nowhere"),
    "wrong rank": (
        lambda e: e.infer("digits", {"image": golden.digits()[0]}),
        InvalidTensor,
        r"input 'image': expected float32 \[batch,1,28,28\], got float32 \[1,28,28\]",
    ),
    "vjp without cotangents": (lambda e: e.vjp("digits", IMAGE, {}), InvalidTensor, "at least one"),
    "no layers": (lambda e: e.activations("digits", IMAGE, []), InvalidTensor, "at least one"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named(engine, name):
    call, error, text = MISTAKES[name]
    with pytest.raises(error, match=text):
        call(engine)


def test_the_batchnorm_model_has_no_gradient_that_ignores_its_parameters(engine):
    """Scenario A's network has a gradient too: d y / d x = gain / sqrt(variance + epsilon)."""
    result = engine.gradient("scenario_a", {"x": np.array([[0.3], [0.4]], np.float32)}, O.unit("y", 0))
    assert relative_error(result.gradients["x"], np.full((2, 1), 1 / np.sqrt(1.001))) < TOLERANCE["float32 operator"]


def test_integer_inputs_are_refused(tmp_path):
    path = tmp_path / "cast.onnx"
    onnx.save(
        onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> g (int64[N] x) => (float[N] y) { y = Cast<to = 1>(x) }'
        ),
        path,
    )
    from gradserve_server import Engine

    with Engine(path) as one, pytest.raises(NotDifferentiable):
        one.gradient("cast", {"x": np.ones(3, np.int64)}, O.unit("y", 0), wrt=["x"])
