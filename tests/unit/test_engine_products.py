"""J^T v, J t, H t and their backends through the verbs, in process and on a server."""

import numpy as np
import onnx
import pytest
from support import golden
from support.reference import relative_error
from support.runtime import in_training
from support.tolerances import TOLERANCE

from gradserve import objectives as O
from gradserve.errors import InvalidModel, InvalidTensor, NotDifferentiable, UnknownInput, UnsupportedGradient
from gradserve_server import Engine, EngineConfig
from gradserve_server.graph.autodiff import ort_training

RANDOM = np.random.default_rng(0)
TEXT = """<ir_version: 8, opset_import: ["" : 18]> g (int64[N,S] ids, float[N,4] bias) => (float[N,4] y) {
    hidden = Gather(table, ids)
    axes = Constant<value_ints = [1]>()
    mean = ReduceMean<keepdims = 0>(hidden, axes)
    bent = Tanh(mean)
    y = Mul(bent, bias)
}"""
SMOOTH = """<ir_version: 8, opset_import: ["" : 18]> g (float[N,3] x) => (float[N,4] y) {
    h = MatMul(x, w)
    y = Tanh(h)
}"""


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """One for each backend, on the same two small models beside the digits."""
    folder = tmp_path_factory.mktemp("models")
    for name, text, weights in (("text", TEXT, {"table": (5, 4)}), ("smooth", SMOOTH, {"w": (3, 4)})):
        model = onnx.parser.parse_model(text)
        for weight, shape in weights.items():
            array = np.random.default_rng(3).normal(size=shape).astype(np.float32)
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, weight))
        (folder / name / "1").mkdir(parents=True)
        onnx.save(model, folder / name / "1" / "model.onnx")
    made = {backend: Engine(folder, config=EngineConfig(backend=backend)) for backend in ("auto", "portable")}
    yield made
    for engine in made.values():
        engine.close()


@pytest.fixture(scope="module")
def portable_digits():
    from support.paths import MODELS

    with Engine(MODELS, config=EngineConfig(backend="portable")) as engine:
        yield engine


@pytest.mark.parametrize("model", ["digits", "digits_batchnorm"])
@pytest.mark.parametrize("case", list(golden.cases()), ids=lambda case: case.name)
def test_the_portable_backend_equals_float64_autograd(portable_digits, model, case):
    result = portable_digits.gradient(model, {"image": golden.digits()}, case.objective)
    assert relative_error(result.values, case.values) < TOLERANCE["float32 network"]
    assert relative_error(result.gradients["image"], case.gradient) < TOLERANCE["float32 network"]


@pytest.mark.parametrize("verbs", ["engine", "client"])
def test_forward_and_backward_are_adjoint(verbs, request):
    """<v, J t> = <J^T v, t> for every layer of the digits model."""
    verbs = request.getfixturevalue(verbs)
    image = golden.digits()
    tangent = RANDOM.normal(size=image.shape).astype(np.float32)
    for layer in ("logits", "relu3", "pool1"):
        outputs, tangents = verbs.jvp("digits", {"image": image}, {"image": tangent}, outputs=[layer])
        cotangent = RANDOM.normal(size=outputs[layer].shape).astype(np.float32)
        values, pulled = verbs.vjp("digits", {"image": image}, {layer: cotangent})
        assert outputs.keys() == tangents.keys() == {layer}
        assert tangents[layer].shape == values[layer].shape
        forwards, backwards = (cotangent * tangents[layer]).sum(), (pulled["image"] * tangent).sum()
        assert abs(forwards - backwards) < TOLERANCE["float32 network"] * np.linalg.norm(cotangent) * np.linalg.norm(
            tangents[layer]
        )


def test_every_output_moves_by_default(engine):
    outputs, tangents = engine.jvp("digits", {"image": golden.digits()}, {"image": golden.digits()})
    assert list(outputs) == list(tangents) == ["logits"]


@pytest.mark.parametrize("verbs", ["engine", "client"])
def test_hessian_of_the_energy_is_known(verbs, request):
    """f = sum (A x)^2 in a linear piece: H t = 2 A^T A t, by J and J^T alone."""
    verbs = request.getfixturevalue(verbs)
    image = golden.digits()
    tangent = RANDOM.normal(size=image.shape).astype(np.float32)
    result = verbs.hvp("digits", {"image": image}, O.channel_energy("bn2", 3), {"image": tangent})
    _, moved = verbs.jvp("digits", {"image": image}, {"image": tangent}, outputs=["bn2"])
    cotangent = np.zeros_like(moved["bn2"])
    cotangent[:, 3] = 2 * moved["bn2"][:, 3]
    _, expected = verbs.vjp("digits", {"image": image}, {"bn2": cotangent})
    plain = verbs.gradient("digits", {"image": image}, O.channel_energy("bn2", 3))
    assert relative_error(result.products["image"], expected["image"]) < TOLERANCE["float32 network"]
    assert relative_error(result.gradients["image"], plain.gradients["image"]) < TOLERANCE["float32 network"]
    assert relative_error(result.values, plain.values) < TOLERANCE["float32 network"]


def test_hessian_of_a_smooth_function(engines):
    """f = tanh(x w)_1: H t = -2 y (1 - y^2) w_1 (w_1 . t)."""
    engine = engines["auto"]
    x, t = RANDOM.normal(size=(2, 5, 3)).astype(np.float32)
    w = np.random.default_rng(3).normal(size=(3, 4)).astype(np.float32).astype(np.float64)[:, 1]
    y = np.tanh(x @ w)
    expected = (-2 * y * (1 - y**2) * (t @ w))[:, None] * w
    result = engine.hvp("smooth", {"x": x}, O.unit("y", 1), {"x": t})
    assert relative_error(result.products["x"], expected) < TOLERANCE["float32 network"]


def test_hessian_of_what_is_linear_is_zero(engines):
    x = RANDOM.normal(size=(2, 3)).astype(np.float32)
    result = engines["auto"].hvp("smooth", {"x": x}, O.unit("h", 1), {"x": x})
    assert result.products["x"].shape == x.shape
    assert not result.products["x"].any()


# ---- layers as starting points ---------------------------------------------------------------------------------------


def test_an_embedding_is_where_a_text_model_is_differentiated(engines):
    engine = engines["auto"]
    ids, bias = np.array([[0, 3, 3], [1, 2, 4]]), RANDOM.normal(size=(2, 4)).astype(np.float32)
    result = engine.gradient("text", {"ids": ids, "bias": bias}, O.unit("y", 2), wrt=["hidden", "bias"])
    hidden = engine.activations("text", {"ids": ids, "bias": bias}, ["hidden"])["hidden"]
    bent = np.tanh(hidden.astype(np.float64).mean(1))
    expected = np.zeros((2, 3, 4))
    expected[:, :, 2] = ((1 - bent[:, 2] ** 2) * bias[:, 2] / 3)[:, None]
    assert relative_error(result.gradients["hidden"], expected) < TOLERANCE["float32 network"]
    assert relative_error(result.gradients["bias"][:, 2], bent[:, 2]) < TOLERANCE["float32 network"]


def test_without_a_name_the_float_inputs_are_meant(engines):
    ids, bias = np.array([[0, 3]]), np.ones((1, 4), np.float32)
    assert list(engines["auto"].gradient("text", {"ids": ids, "bias": bias}, O.unit("y", 2)).gradients) == ["bias"]


def test_an_integer_input_is_refused_and_the_embedding_named(engines):
    ids, bias = np.array([[0, 3]]), np.ones((1, 4), np.float32)
    engine = engines["auto"]
    with pytest.raises(NotDifferentiable, match="'ids': expected a float type"):
        engine.gradient("text", {"ids": ids, "bias": bias}, O.unit("y", 2), wrt=["ids"])
    with pytest.raises(NotDifferentiable, match="does not depend on a float input.*such as 'hidden'"):
        engine.gradient("text", {"ids": ids, "bias": bias}, O.unit("bent", 2))
    with pytest.raises(UnknownInput, match="input 'q': expected one of 'bias', 'ids', or a layer"):
        engine.gradient("text", {"ids": ids, "bias": bias}, O.unit("y", 2), wrt=["q"])


def test_a_layer_moves_too(engines):
    engine = engines["auto"]
    feeds = {"ids": np.array([[0, 3]]), "bias": np.ones((1, 4), np.float32)}
    tangent = RANDOM.normal(size=(1, 2, 4)).astype(np.float32)
    _, tangents = engine.jvp("text", feeds, {"hidden": tangent}, outputs=["mean"])
    np.testing.assert_allclose(tangents["mean"], tangent.mean(1), rtol=1e-6)


# ---- what is wrong with a request ------------------------------------------------------------------------------------


def test_tangents_are_checked(engine):
    image = golden.digits()
    with pytest.raises(InvalidTensor, match="tangents: expected at least one, got none"):
        engine.jvp("digits", {"image": image}, {})
    with pytest.raises(InvalidTensor, match=r"tangent 'image': expected float32 \[4, 1, 28, 28\], got \[1, 1, 28, 28\]"):
        engine.jvp("digits", {"image": image}, {"image": image[:1]})
    with pytest.raises(InvalidTensor, match="tangent 'image': .*got something that is not numbers"):
        engine.hvp("digits", {"image": image}, O.unit("logits", 7), {"image": "moved"})


# ---- backends --------------------------------------------------------------------------------------------------------


def test_layers_say_which_backend_and_why(engines):
    layers = {layer.name: layer for layer in engines["auto"].layers("smooth")}
    if ort_training.available():
        assert layers["y"].backend == "training"
        assert "verified" in layers["y"].backend_reason
    else:
        assert layers["y"].backend == "portable"
        assert "not installed" in layers["y"].backend_reason
    assert {layer.backend for layer in engines["portable"].layers("smooth")} == {"portable"}


@in_training
def test_the_training_backend_alone_refuses_what_it_cannot(tmp_path):
    text = SMOOTH.replace("Tanh", "HardSwish")
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.eye(3, 4, dtype=np.float32), "w"))
    onnx.save(model, tmp_path / "hard.onnx")
    x = np.ones((1, 3), np.float32)
    with Engine(tmp_path / "hard.onnx", config=EngineConfig(backend="training")) as engine:
        with pytest.raises(UnsupportedGradient, match=r"training backend.*HardSwish, opset 18\): not verified"):
            engine.gradient("hard", {"x": x}, O.unit("y", 1))
        with pytest.raises(UnsupportedGradient, match="makes no jvp"):
            engine.jvp("hard", {"x": x}, {"x": x})
        assert [layer.differentiable for layer in engine.layers("hard")] == [True, False]
    with Engine(tmp_path / "hard.onnx") as engine:
        (last,) = [layer for layer in engine.layers("hard") if layer.name == "y"]
        assert (last.backend, last.differentiable) == ("portable", True)
        assert "HardSwish" in last.backend_reason


def test_an_unknown_backend_is_refused():
    from support.paths import MODELS

    with pytest.raises(ValueError, match="'magic' is not a valid Backend"):
        Engine(MODELS, config=EngineConfig(backend="magic"))


def test_a_model_without_an_operator_set_is_refused():
    from gradserve_server import gradient_graph

    with pytest.raises(InvalidModel, match="without an operator set"):
        gradient_graph(onnx.ModelProto(ir_version=8, graph=onnx.GraphProto(name="g")), "y")
