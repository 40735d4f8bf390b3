"""Inference form: the same predictions as the file that came, both run without onnxruntime's own rewriting."""

from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from support.onnx_models import BATCHNORM, build, random, trained, untrained
from support.tolerances import TOLERANCE

from gradserve.errors import InvalidModel
from gradserve_server.graph.inference_form import InferenceForm, to_inference_form

IMAGE, ROWS, ANY = "float[2,4,6,5] x", "float[2,4] x", "float[] y"


def rewrite(model: onnx.ModelProto) -> tuple[InferenceForm, onnx.ModelProto]:
    """The served form, which must be valid ONNX with the outputs of the original, by name and order."""
    source = ir.from_proto(model)
    form = to_inference_form(source)
    assert spelled(ir.to_proto(source)) == spelled(model), "the source was changed"
    served = ir.to_proto(form.model)
    onnx.checker.check_model(served, full_check=True)
    for side in ("input", "output"):
        assert [v.name for v in getattr(served.graph, side)] == [v.name for v in getattr(model.graph, side)]
    return form, served


def spelled(model: onnx.ModelProto) -> list[tuple]:
    graph = model.graph
    nodes = [(node.op_type, list(node.input), list(node.output), [a.name for a in node.attribute]) for node in graph.node]
    return [*nodes, *sorted((t.name, onnx.numpy_helper.to_array(t).tobytes()) for t in graph.initializer)]


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(
        None, feeds
    )


def feeds_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    sizes = {v.name: [d.dim_value or 2 for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
    dtypes = {v.name: onnx.helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type) for v in model.graph.input}
    return {name: random(*shape, seed=7, dtype=dtypes[name].name) for name, shape in sizes.items()}


def assert_same_predictions(served: onnx.ModelProto, original: onnx.ModelProto) -> None:
    feeds = feeds_of(original)
    for got, expected in zip(run(served, feeds), run(original, feeds), strict=True):
        assert_close(got, expected)


def assert_close(got: np.ndarray, expected: np.ndarray) -> None:
    assert got.dtype == expected.dtype
    atol = float(np.abs(expected).max()) * TOLERANCE[f"rewritten {expected.dtype}"]
    np.testing.assert_allclose(got, expected, rtol=0, atol=atol)


def ops(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


# ---- BatchNormalization into the operator before it ------------------------------------------------------------------


@dataclass(frozen=True)
class Fold:
    """An operator that makes h, which a BatchNormalization of `channels` reads."""

    before: str
    channels: int
    weights: dict[str, np.ndarray]
    x: str = IMAGE
    opsets: tuple[int, ...] = (17,)
    bn: str = BATCHNORM
    parameters: dict[str, np.ndarray] = field(default_factory=dict)

    def model(self, opset: int) -> onnx.ModelProto:
        weights = {**self.weights, **trained(self.channels), **self.parameters}
        return build(f"h = {self.before} y = {self.bn}", inputs=self.x, outputs=ANY, opset=opset, weights=weights)

    def __repr__(self) -> str:
        return self.before


W, B = random(6, 4, 3, 3), random(6)
EPSILON = "BatchNormalization<epsilon = 0.5>(h, gain, offset, mean, variance)"
FOLDS = [
    Fold("Conv(x, W)", 6, {"W": W}, opsets=(7, 8, 9, 13, 14, 15, 17, 21)),
    Fold("Conv(x, W, B)", 6, {"W": W, "B": B}, opsets=(7, 9, 14, 15)),
    Fold("Conv(x, W, B)", 6, {"W": W, "B": B}, bn=EPSILON),
    Fold("Conv(x, W)", 6, {"W": W}, parameters={"variance": np.zeros(6, np.float32)}, opsets=(9, 17)),
    Fold("Conv<strides = [2, 1], pads = [1, 0, 2, 1], dilations = [1, 2]>(x, W, B)", 6, {"W": W, "B": B}),
    Fold('Conv<auto_pad = "SAME_UPPER">(x, W)', 6, {"W": W}),
    Fold("Conv<group = 2>(x, W)", 6, {"W": random(6, 2, 3, 3)}),
    Fold("Conv<group = 2>(x, W, B)", 6, {"W": random(6, 2, 3, 3), "B": B}),
    Fold("Conv<group = 4>(x, W)", 4, {"W": random(4, 1, 3, 3)}),
    Fold("Conv(x, W)", 6, {"W": random(6, 4, 3)}, "float[2,4,9] x"),
    Fold("Conv<group = 2>(x, W, B)", 6, {"W": random(6, 2, 3), "B": B}, "float[2,4,9] x"),
    Fold("Conv(x, W, B)", 6, {"W": random(6, 4, 2, 3, 2), "B": B}, "float[2,4,5,4,3] x"),
    Fold("ConvTranspose(x, W)", 6, {"W": random(4, 6, 3, 3)}, opsets=(9, 17)),
    Fold("ConvTranspose<strides = [2, 2]>(x, W, B)", 6, {"W": random(4, 6, 3, 3), "B": B}),
    Fold("ConvTranspose<group = 2>(x, W)", 6, {"W": random(4, 3, 3, 3)}),
    Fold("ConvTranspose<group = 2, strides = [2, 1]>(x, W, B)", 6, {"W": random(4, 3, 3, 2), "B": B}),
    Fold("ConvTranspose<group = 4>(x, W)", 4, {"W": random(4, 1, 3, 3)}),
    Fold("ConvTranspose(x, W)", 6, {"W": random(4, 6, 3)}, "float[2,4,9] x"),
    Fold("Gemm(x, W, B)", 6, {"W": random(4, 6), "B": B}, ROWS, opsets=(7, 9, 11, 13, 17)),
    Fold("Gemm(x, W)", 6, {"W": random(4, 6)}, ROWS, opsets=(11, 17)),
    Fold("Gemm<transB = 1>(x, W)", 6, {"W": random(6, 4)}, ROWS),
    Fold("Gemm<transB = 1>(x, W, B)", 4, {"W": random(4, 4), "B": random(4)}, ROWS),
    Fold("Gemm<transA = 1>(x, W, B)", 6, {"W": random(2, 6), "B": B}, ROWS),
    Fold("Gemm<alpha = 0.5, beta = 3.0>(x, W, B)", 6, {"W": random(4, 6), "B": B}, ROWS),
    Fold("Gemm<alpha = 0.5, beta = 3.0, transB = 1>(x, W)", 6, {"W": random(6, 4)}, ROWS),
    Fold("Gemm<beta = 0.0>(x, W, B)", 6, {"W": random(4, 6), "B": B}, ROWS),
    Fold("Gemm<beta = 3.0>(x, W, B)", 6, {"W": random(4, 6), "B": random()}, ROWS),
    Fold("Gemm<beta = 3.0>(x, W, B)", 6, {"W": random(4, 6), "B": random(1)}, ROWS),
    Fold("Gemm<beta = 3.0>(x, W, B)", 6, {"W": random(4, 6), "B": random(1, 6)}, ROWS),
    Fold("Gemm<beta = 3.0>(x, W, B)", 6, {"W": random(4, 6), "B": random(2, 1)}, ROWS),
    Fold("Gemm<beta = 3.0>(x, W, B)", 6, {"W": random(4, 6), "B": random(2, 6)}, ROWS),
]


@pytest.mark.parametrize(("fold", "opset"), [(fold, opset) for fold in FOLDS for opset in fold.opsets])
def test_batchnorm_is_folded_into_the_operator_before_it(fold, opset):
    model = fold.model(opset)
    form, served = rewrite(model)
    assert ops(served) == [fold.before.split("(")[0].split("<")[0]]
    assert form.renames.folded == {"h": "y"}
    assert any("folded node 'making y'" in line for line in form.rewrites)
    assert_same_predictions(served, model)


def test_an_empty_bias_is_no_bias():
    model = FOLDS[0].model(17)
    model.graph.node[0].input.append("")
    _, served = rewrite(model)
    assert ops(served) == ["Conv"]
    assert_same_predictions(served, model)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_float_type_keeps_its_type(dtype):
    onnx_name = {"float32": "float", "float16": "float16"}[dtype]
    weights = {name: array.astype(dtype) for name, array in {"W": W, "B": B, **trained(6)}.items()}
    body = f"h = Conv(x, W, B) r = {BATCHNORM} s = Relu(r) y = BatchNormalization(s, gain, offset, mean, variance)"
    model = build(body, inputs=f"{onnx_name}[2,4,6,5] x", outputs=f"{onnx_name}[] y", weights=weights)
    _, served = rewrite(model)
    assert ops(served) == ["Conv", "Relu", "Mul", "Add"]
    assert {onnx.numpy_helper.to_array(t).dtype.name for t in served.graph.initializer} == {dtype}
    assert_same_predictions(served, model)


@pytest.mark.parametrize("epsilon", ["", "<epsilon = 1e-3>"])
def test_float64_is_folded_to_float64_accuracy(epsilon):
    """Epsilon is float32 in ONNX, its default too: it shows where a variance is nearly 0."""
    bn = BATCHNORM.replace("(", f"{epsilon}(", 1)
    weights = {
        "W": random(4, 6, dtype="float64"),
        **trained(6, dtype="float64"),
        "variance": np.array([0, 1e-9, 1e-6, 1, 2, 3]),
    }
    model = build(f"h = Gemm(x, W) y = {bn}", inputs="double[2,4] x", outputs="double[] y", weights=weights)
    _, served = rewrite(model)
    assert ops(served) == ["Gemm"]
    assert_same_predictions(served, model)


def test_parameters_of_another_type_than_the_data():
    """Mixed precision, from opset 15 on: the data may be float16 where the parameters are float32."""
    weights = trained(3, dtype="float32")
    model = build(f"h = Relu(x) y = {BATCHNORM}", inputs="float16[2,3,4,4] x", outputs="float16[] y", weights=weights)
    rewrite(model)


def test_a_shared_weight_changes_for_one_reader_only():
    body = f"h = Conv(x, W, B) y = {BATCHNORM} z = Conv(x, W, B) w = ReduceSum(W)"
    model = build(body, inputs=IMAGE, outputs="float[] y, float[] z, float[] w", weights={"W": W, "B": B, **trained(6)})
    _, served = rewrite(model)
    assert ops(served).count("Conv") == 2
    assert not {"BatchNormalization", "Mul"} & set(ops(served))
    assert_same_predictions(served, model)


def test_two_convolutions_share_weights_and_statistics():
    body = f"h = Conv(x, W) y = {BATCHNORM} k = Conv(y, W) z = BatchNormalization(k, gain, offset, mean, variance)"
    weights = {"W": random(4, 4, 3, 3), **trained(4)}
    model = build(body, inputs=IMAGE, outputs="float[] y, float[] z", weights=weights)
    _, served = rewrite(model)
    assert ops(served) == ["Conv", "Conv"]
    assert_same_predictions(served, model)


def test_folding_twice_into_one_operator_names_a_layer_that_is_left():
    body = f"h = Conv(x, W) k = {BATCHNORM} y = BatchNormalization(k, gain, offset, mean, variance)"
    model = build(body, inputs=IMAGE, outputs=ANY, weights={"W": W, **trained(6)})
    form, served = rewrite(model)
    assert ops(served) == ["Conv"]
    assert form.renames.folded == {"h": "y", "k": "y"}
    assert_same_predictions(served, model)


def test_an_identity_on_either_side_of_the_batchnorm():
    body = "c = Conv(x, W) h = Identity(c) r = BatchNormalization(h, gain, offset, mean, variance) y = Identity(r)"
    model = build(body, inputs=IMAGE, outputs=ANY, weights={"W": W, **trained(6)})
    form, served = rewrite(model)
    assert ops(served) == ["Conv"]
    assert form.renames.folded == {"c": "y"}
    assert form.renames.same == {"h": "c", "r": "y"}
    assert_same_predictions(served, model)


def test_parameters_from_constant_nodes():
    elements = ",".join(map(str, range(1, 13)))
    gain = "gain = Constant<value = float[3] {1, 2, 3}>()"
    body = f"{gain} W = Constant<value = float[3,4,1,1] {{{elements}}}>() h = Conv(x, W) y = {BATCHNORM}"
    weights = {name: array for name, array in trained(3).items() if name != "gain"}
    model = build(body, inputs=IMAGE, outputs=ANY, weights=weights)
    _, served = rewrite(model)
    assert ops(served) == ["Conv"]
    assert_same_predictions(served, model)


# ---- BatchNormalization into Mul and Add -----------------------------------------------------------------------------

REWRITES = {
    "first": ("h = Identity(x)", "float[] y"),
    "after Relu": ("h = Relu(x)", "float[] y"),
    "after Concat": ("c = Relu(x) h = Concat<axis = 1>(c)", "float[] y"),
    "read twice": ("h = Conv(x, W) z = Relu(h)", "float[] y, float[] z"),
    "an output": ("h = Conv(x, W)", "float[] y, float[] h"),
    "weight made at run time": ("V = Neg(W) h = Conv(x, V)", "float[] y"),
    "bias made at run time": ("B = ReduceSum<keepdims = 0>(W, axes) h = Conv(x, W, B)", "float[] y"),
    "after MatMul": ("h = MatMul(x, M)", "float[] y"),
}


@pytest.mark.parametrize("opset", [13, 14, 15, 17])
@pytest.mark.parametrize("what", REWRITES)
def test_batchnorm_without_such_a_neighbour_is_mul_and_add(what, opset):
    before, outputs = REWRITES[what]
    weights = {"W": random(4, 4, 3, 3), "M": random(5, 5), "axes": np.array([1, 2, 3]), **trained(4)}
    model = build(f"{before} y = {BATCHNORM}", inputs=IMAGE, outputs=outputs, opset=opset, weights=weights)
    form, served = rewrite(model)
    assert "BatchNormalization" not in ops(served)
    assert (ops(served).count("Mul"), ops(served).count("Add")) == (1, 1)
    assert any("rewrote node 'making y' (BatchNormalization" in line for line in form.rewrites)
    assert form.renames.folded == {}
    assert_same_predictions(served, model)


@pytest.mark.parametrize("x", ["float[2,4] x", "float[2,4,5] x", "float[2,4,3,2,5] x"])
def test_every_rank_is_broadcast_along_the_channels(x):
    model = build(f"h = Relu(x) y = {BATCHNORM}", inputs=x, outputs=ANY, weights=trained(4))
    _, served = rewrite(model)
    assert ops(served) == ["Relu", "Mul", "Add"]
    assert_same_predictions(served, model)


@pytest.mark.parametrize(
    ("opset", "attributes", "shape"),
    [(7, "spatial = 1", (4,)), (7, "spatial = 0", (4, 3, 5)), (8, "spatial = 0", (4, 3, 5))],
)
def test_the_spellings_before_opset_9(opset, attributes, shape):
    bn = BATCHNORM.replace("(", f"<{attributes}>(", 1)
    parameters = trained(*shape)
    model = build(f"h = Relu(x) y = {bn}", inputs="float[2,4,3,5] x", outputs=ANY, opset=opset, weights=parameters)
    _, served = rewrite(model)
    assert ops(served) == ["Relu", "Mul", "Add"]
    x = feeds_of(model)["x"]
    assert_close(run(served, {"x": x})[0], by_hand(np.maximum(x, 0), parameters))


def test_unknown_rank_is_kept():
    inputs = "float[2,12] x, int64[K] shape"
    model = build(f"h = Reshape(x, shape) y = {BATCHNORM}", inputs=inputs, outputs="float[A,B,C] y", weights=trained(4))
    form, served = rewrite(model)
    assert ops(served) == ["Reshape", "BatchNormalization"]
    assert any("kept node 'making y'" in line and "no known rank" in line for line in form.rewrites)


@pytest.mark.parametrize("missing", ["gain", "offset", "mean", "variance"])
def test_parameters_that_are_no_constants_are_kept(missing):
    weights = {name: array for name, array in trained(6).items() if name != missing}
    x = f"{IMAGE}, float[6] {missing}_in"
    body = f"{missing} = Abs({missing}_in) h = Conv(x, W) y = {BATCHNORM}"
    model = build(body, inputs=x, outputs=ANY, weights={"W": W, **weights})
    form, served = rewrite(model)
    assert ops(served) == ["Abs", "Conv", "BatchNormalization"]
    assert any("kept node 'making y'" in line and "not constants" in line for line in form.rewrites)
    assert_same_predictions(served, model)


# ---- coefficients ----------------------------------------------------------------------------------------------------


def far_from_zero() -> dict[str, np.ndarray]:
    """A large mean and a small variance: mean * scale and offset nearly cancel."""
    parameters = {"gain": random(6), "mean": 1e4 + random(6, seed=2), "variance": 1e-4 + 1e-5 * np.arange(6)}
    scale = parameters["gain"] / np.sqrt(parameters["variance"] + np.float32(1e-5))
    parameters["offset"] = parameters["mean"] * scale + random(6, seed=3)
    return {name: array.astype(np.float32) for name, array in parameters.items()}


def in_float64(parameters: dict[str, np.ndarray], bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    gain, offset, mean, variance = (parameters[k].astype(np.float64) for k in ("gain", "offset", "mean", "variance"))
    scale = gain / np.sqrt(variance + np.float32(1e-5))
    return scale, (bias - mean) * scale + offset


@pytest.mark.parametrize("before", ["Conv(x, W, B)", "Relu(x)"])
def test_coefficients_are_computed_in_float64_and_rounded_once(before):
    parameters = far_from_zero()
    bias = (1e4 + random(6, seed=4)).astype(np.float32) if "Conv" in before else np.zeros(6, np.float32)
    weights = {"W": random(6, 6, 1, 1, dtype="float32"), "B": bias, **parameters}
    model = build(f"h = {before} y = {BATCHNORM}", inputs="float[2,6,4,4] x", outputs="float[] y", weights=weights)
    _, served = rewrite(model)
    got = {t.name: onnx.numpy_helper.to_array(t) for t in served.graph.initializer}
    scale, shift = in_float64(parameters, bias.astype(np.float64))
    first = weights["W"].astype(np.float64) * scale[:, None, None, None] if "Conv" in before else scale
    for name, expected in zip(
        (n for node in served.graph.node for n in node.input if n in got), (first, shift), strict=True
    ):
        np.testing.assert_allclose(got[name].ravel(), expected.ravel(), rtol=TOLERANCE["rounded once to float32"])


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


def by_hand(x: np.ndarray, parameters: dict[str, np.ndarray]) -> np.ndarray:
    rank = x.ndim - 1
    gain, offset, mean, variance = (
        p.reshape(*p.shape, *[1] * (rank - p.ndim)) for p in (parameters[k] for k in ("gain", "offset", "mean", "variance"))
    )
    return (x - mean) / np.sqrt(variance + np.float32(1e-5)) * gain + offset


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


# ---- Identity --------------------------------------------------------------------------------------------------------

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
