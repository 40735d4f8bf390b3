"""What the element-wise and reduction rules do at kinks, at ties and at zeros, as their docstrings say."""

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from support.runtime import MAX_OPSET

from gradserve_server.graph.autodiff.judge import PortableJudge
from gradserve_server.graph.autodiff.names import cotangent_name, gradient_name, hvp_name, tangent_name
from gradserve_server.graph.autodiff.path import check
from gradserve_server.graph.autodiff.portable import build_hvp, build_vjp
from gradserve_server.graph.inference_form import to_inference_form
from gradserve_server.runtime.session import Session

ARRAYS = {np.dtype(np.float32): "float", np.dtype(np.float64): "double", np.dtype(np.float16): "float16"}


def served(body, inputs, opset=18, wrt=None):
    """The model with these inputs and the output Y."""
    shapes = ", ".join(
        f"{ARRAYS.get(array.dtype, array.dtype.name)}[{', '.join(map(str, array.shape))}] {name}".replace("[] ", " ")
        for name, array in inputs.items()
    )
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> g ({shapes}) => () {{ {body} }}')
    kind = onnx.helper.np_dtype_to_tensor_dtype(next(iter(inputs.values())).dtype)
    model.graph.output.append(onnx.helper.make_tensor_value_info("Y", kind, None))
    made = to_inference_form(ir.from_proto(model)).model
    check(made, wrt or list(inputs), ["Y"], PortableJudge(made, opset))
    return made


def gradient(body, opset=18, wrt=None, **inputs):
    """Of the sum of Y with respect to each input."""
    inputs = {name: np.asarray(x, getattr(x, "dtype", np.float32)) for name, x in inputs.items()}
    wrt = wrt or list(inputs)
    model = served(body, inputs, opset, wrt)
    forward = Session(model, 1).run(inputs)["Y"]
    results = Session(build_vjp(model, wrt), 1).run(inputs | {cotangent_name("Y"): np.ones_like(forward)})
    return [results[gradient_name(name)].tolist() for name in wrt]


def curvature(body, direction, **inputs):
    """d/dt of the gradient of the sum of Y, of the one input X, along a direction."""
    inputs = {name: np.asarray(x, np.float32) for name, x in inputs.items()}
    model = served(body, inputs)
    forward = Session(model, 1).run(inputs)["Y"]
    twice = build_hvp(build_vjp(model, ["X"]), ["X"])
    given = inputs | {cotangent_name("Y"): np.ones_like(forward), tangent_name("X"): np.asarray(direction, np.float32)}
    names = {value.name for value in twice.graph.inputs}
    return Session(twice, 1).run({name: x for name, x in given.items() if name in names})[hvp_name("X")].tolist()


@pytest.mark.parametrize(
    ("body", "x", "expected"),
    [
        ("Relu(X)", [-1, 0, 1], [0, 0, 1]),
        ("Abs(X)", [-1, 0, 1], [-1, 0, 1]),
        ("LeakyRelu<alpha = 0.25>(X)", [-1, 0, 1], [0.25, 0.25, 1]),
        ("ThresholdedRelu<alpha = 1.5>(X)", [1.4999999, 1.5, 1.5000001], [0, 0, 1]),
        ("ThresholdedRelu<alpha = 1e-30>(X)", [0, 1e-30, 2e-30], [0, 0, 1]),  # too small for a steep slope
        ("Shrink<lambd = 0.5>(X)", [-0.50000006, -0.5, 0.5, 0.50000006], [1, 0, 0, 1]),
        ("Shrink<lambd = -1.0>(X)", [-2, 0.5, 2], [1, 1, 1]),
        ("HardSigmoid<alpha = 0.5, beta = 0.5>(X)", [-1, 0, 1], [0, 0.5, 0]),
        ("HardSwish(X)", [-3, 3], [0, 1]),
        ("Elu<alpha = 0.25>(X)", [0], [0.25]),
        ("Selu<alpha = 0.25, gamma = 2.0>(X)", [0], [0.5]),
        ("Celu(X)", [0], [1]),
        ("Softsign(X)", [0], [1]),
        ("Erf(X)", [20, -20], [0, 0]),
        ("Mish(X)", [-200, 200], [0, 1]),
        ("Gelu(X)", [-200, 200], [0, 1]),
        ("Softplus(X)", [-200, 200], [0, 1]),
        ("Elu(X)", [-200, 200], [0, 1]),
    ],
)
def test_of_one_value(body, x, expected):
    opset = 20 if body.startswith("Gelu") else 18
    assert gradient(f"Y = {body}", opset, X=x) == [expected]


def test_largest_and_smallest_share_equally():
    assert gradient("Y = Max(A, B)", A=[1, 2, 3], B=[2, 2, 2]) == [[0, 0.5, 1], [1, 0.5, 0]]
    assert gradient("Y = Min(A, B)", A=[1, 2, 3], B=[2, 2, 2]) == [[1, 0.5, 0], [0, 0.5, 1]]
    assert gradient("Y = Max(A, B, C, D)", A=[1], B=[2], C=[2], D=[0]) == [[0], [0.5], [0.5], [0]]
    assert gradient("Y = Max(A, A)", A=[1]) == [[1]]
    assert gradient("Y = Max(A, B)", A=[1, 2], B=2.0) == [[0, 0.5], 1.5]


def test_clip_passes_at_its_bounds():
    body = "Y = Clip(X, L, H)"
    assert gradient(body, X=[-2, -1, 0, 1, 2], L=-1.0, H=1.0) == [[0, 1, 1, 1, 0], 1, 1]
    assert gradient(body, X=[-2, 0, 2], L=1.0, H=-1.0) == [[0, 0, 0], 0, 3], "low above high"


def test_prelu_has_its_slope_at_zero():
    assert gradient("Y = PRelu(X, S)", X=[-2, 0, 2], S=[0.25]) == [[0.25, 0.25, 1], [-2]]


def test_power_at_zero():
    assert gradient("Y = Pow(X, E)", X=[0, 0, 0, 0], E=[0, 1, 2, 0.5]) == [[0, 1, 0, np.inf], [0, 0, 0, 0]]
    for exponent, slope in ((0.0, 0), (1.0, 1), (2.0, 0), (3.0, 0)):
        assert gradient(f"E = Constant<value_float = {exponent}>() Y = Pow(X, E)", X=[0]) == [[slope]]
    integers = np.array([0, 1, 2])
    assert gradient("Y = Pow(X, E)", X=[0, 0, 0], E=integers, wrt=["X"]) == [[0, 1, 0]]


def test_extreme_reductions_share_equally():
    x = [[1, 3, 3], [2, 2, 2]]
    third = np.float32(1) / np.float32(3)
    assert gradient("A = Constant<value_ints = [1]>() Y = ReduceMax(X, A)", X=x) == [[[0, 0.5, 0.5], [third] * 3]]
    assert gradient("Y = ReduceMin(X)", X=x) == [[[1, 0, 0], [0, 0, 0]]]


def test_reduced_norms_at_zero():
    axes = "A = Constant<value_ints = [1]>() "
    assert gradient(axes + "Y = ReduceL1(X, A)", X=[[0, -2], [0, 0]]) == [[[0, -1], [0, 0]]]
    assert gradient(axes + "Y = ReduceL2(X, A)", X=[[3, -4], [0, 0]]) == [[pytest.approx([0.6, -0.8]), [0, 0]]]
    assert gradient("Y = LpNormalization(X)", X=[[0, 0]]) == [[[0, 0]]]
    assert gradient("Y = LpNormalization<p = 1>(X)", X=[[0, 0]]) == [[[0, 0]]]


@pytest.mark.parametrize(
    ("x", "slopes", "along", "turns"),
    [
        ([2, 3, 5], [15, 10, 6], [1, 0, 0], [0, 5, 3]),
        ([0, 3, 5], [15, 0, 0], [1, 0, 0], [0, 5, 3]),
        ([0, 3, 5], [15, 0, 0], [0, 1, 0], [5, 0, 0]),
        ([0, 0, 5], [0, 0, 0], [1, 0, 0], [0, 5, 0]),
        ([0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]),
    ],
)
def test_products_with_zeros(x, slopes, along, turns):
    """Both derivatives, by hand."""
    assert gradient("Y = ReduceProd(X)", X=x) == [pytest.approx(slopes)]
    assert curvature("Y = ReduceProd(X)", along, X=x) == pytest.approx(turns, abs=1e-5)


def test_running_products_with_zeros():
    if MAX_OPSET < 26:
        pytest.skip("CumProd came with opset 26")
    assert gradient("A = Constant<value_int = 0>() Y = CumProd(X, A)", 26, X=[2, 0, 3]) == [[1, 8, 0]]


def test_determinant_of_a_singular_matrix():
    assert gradient("Y = Det(X)", X=[[1, 2], [2, 4]]) == [[[4, -2], [-2, 1]]]


def test_rounding_to_integers_ends_the_path():
    assert gradient("I = Cast<to = 7>(X) F = Cast<to = 1>(I) Y = Mul(F, X)", X=[1.5, 2.5]) == [[1, 2]]


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
@pytest.mark.parametrize("body", ["Relu(X)", "Abs(X)", "Min(X, X)", "Max(X, X)", "Tanh(X)", "Softmax(X)", "Cast<to = 1>(X)"])
def test_other_float_types(body, dtype):
    """The masks are right in any float type."""
    cast = "Z" if body.startswith("Cast") else "Y"
    kind = int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    text = f"{cast} = {body}" + (f" Y = Cast<to = {kind}>(Z)" if cast == "Z" else "")
    x = np.array([-1.5, -0.5, 0.5, 1.5])
    (got,) = gradient(text, X=x.astype(dtype))
    (expected,) = gradient(text, X=x.astype(np.float32)) if cast == "Y" else ([1.0] * 4,)
    np.testing.assert_allclose(got, expected, atol=2e-3)
