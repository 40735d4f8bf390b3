"""BatchNormalization becomes part of its neighbour, or a product and a sum: the same predictions."""

from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest
from support.inference_form import (
    ANY,
    EPSILON,
    IMAGE,
    ROWS,
    B,
    W,
    assert_close,
    assert_same_predictions,
    by_hand,
    feeds_of,
    ops,
    rewrite,
    run,
)
from support.onnx_models import BATCHNORM, build, random, trained
from support.tolerances import TOLERANCE

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
