"""The table knows every operator of onnxruntime's own domains; what it refuses; and conventions of the fused ones."""

import re
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from gradserve.errors import UnsupportedGradient
from gradserve_server.graph.autodiff.judge import PortableJudge
from gradserve_server.graph.autodiff.names import cotangent_name, gradient_name
from gradserve_server.graph.autodiff.path import check
from gradserve_server.graph.autodiff.portable import build_vjp
from gradserve_server.graph.autodiff.rules import MICROSOFT, RUNTIME_ONLY, TABLE
from gradserve_server.graph.inference_form import to_inference_form
from gradserve_server.runtime.session import Session

OWN_DOMAINS = (MICROSOFT, "com.microsoft.nchwc", "com.ms.internal.nhwc")


# ---- completeness ----------------------------------------------------------------------------------------------------


def known_operators() -> set[tuple[str, str]]:
    """(domain, operator) of every operator that the installed onnxruntime has in domains of its own."""
    if hasattr(runtime, "get_all_operator_schema"):
        schemas = {(schema.domain, schema.name) for schema in runtime.get_all_operator_schema()}
        return {key for key in schemas if key[0] in OWN_DOMAINS}
    # The training wheel has no such list: every word in it that could be one, tried.
    words = set(re.findall(rb"(?<!\w)[A-Z]\w{2,60}(?=\x00)", Path(runtime.__file__).read_bytes()))
    return {(MICROSOFT, name) for word in words if is_operator(name := word.decode())}


def is_operator(name: str) -> bool:
    """Whether onnxruntime looks at the node at all."""
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node(name, ["x"], ["y"], domain=MICROSOFT)
    graph = onnx.helper.make_graph([node], "probe", [value], [onnx.helper.make_empty_tensor_value_info("y")])
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid(MICROSOFT, 1)]
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=opsets)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        return "is not a registered function/op" not in str(error)
    return True


def test_every_operator_of_onnxruntime_is_in_exactly_one_state():
    """`rules._register` asserts that none stands in the table twice."""
    # onnxruntime's graphs make constants in any domain.
    known = known_operators() - {(MICROSOFT, "Constant")}
    assert len(known) > 100
    assert known - {(domain, op) for domain, op, _ in TABLE} == set(), "no state"


def test_operators_that_onnxruntime_adds_to_the_default_domain():
    assert {(MICROSOFT, op, 1) for op in RUNTIME_ONLY} <= set(TABLE)
    assert not any(onnx.defs.has(op, "") for op in RUNTIME_ONLY)


def test_versions():
    assert {key[2] for key in TABLE if key[0] in OWN_DOMAINS} == {1}


# ---- what is refused -------------------------------------------------------------------------------------------------


def loaded(inputs: str, body: str, constants: dict[str, np.ndarray] | None = None) -> ir.Model:
    """In inference form; the output is Y."""
    domains = ", ".join(f'"{domain}" : 1' for domain in OWN_DOMAINS)
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18, {domains}]> g ({inputs}) => () {{ {body} }}')
    for name, array in (constants or {}).items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    model.graph.output.append(onnx.helper.make_tensor_value_info("Y", onnx.TensorProto.FLOAT, None))
    return to_inference_form(ir.from_proto(model)).model


def reason(*arguments, straight_through: bool = False, **keywords) -> str:
    """Why Y has no gradient with respect to X."""
    model = loaded(*arguments, **keywords)
    with pytest.raises(UnsupportedGradient) as refused:
        check(model, ["X"], ["Y"], PortableJudge(model, 18, straight_through=straight_through))
    return str(refused.value)


NBITS = {"B": np.zeros((2, 1, 16), np.uint8), "s": np.ones(2, np.float32)}

REFUSED = [
    ("float[1, 8, 4, 4] X", "Y = com.microsoft.nchwc.ReorderInput(X)", "optimize at `extended`"),
    ("float[1, 4, 4, 8] X, float[8, 8, 1, 1] W", "Y = com.ms.internal.nhwc.Conv(X, W)", "optimize at `extended`"),
    ("float[1, 4, 4, 8] X, float[8, 8, 1, 1] W", "Y = com.microsoft.NhwcConv(X, W)", "optimize at `extended`"),
    ("float[2, 3] X, float[3] b", "Y = com.microsoft.BiasSoftmax<axis = 1>(X, b)", "no CPU kernel"),
    ("float[2, 3] X", "Y, i, c = com.microsoft.Unique(X)", "equal elements"),
    ("float[2, 3] X", "Y = com.microsoft.NobodyKnowsThis(X)", "no rule"),
    ("float[2, 3] X", "Y = NobodyKnowsThis(X)", "no such operator"),
    (
        "float[1, 2, 3, 3] X, float[2, 2, 1, 1] W",
        'Y = com.microsoft.FusedConv<activation = "LeakyRelu", activation_params = [-0.5]>(X, W)',
        "does not follow from its output",
    ),
    (
        "float[1, 2, 3, 3] X, float[2, 2, 1, 1] W",
        'Y = com.microsoft.FusedConv<activation = "Whatever">(X, W)',
        "the activation 'Whatever'",
    ),
    ("float[2, 3] X, float[2, 3] B", 'Y = com.microsoft.CDist<metric = "cosine">(X, B)', "the metric 'cosine'"),
    (
        "float[1, 2, 3, 3] X, float[2, 5, 2, 2] W, int64[4] p",
        "Y = com.microsoft.ConvTransposeWithDynamicPads(X, W, p)",
        "pads that are computed",
    ),
    (
        "float[2, 3, 4] X, float[2, 3, 4] k, float[4] g",
        "Z, Y = com.microsoft.SkipLayerNormalization(X, k, g)",
        "reads mean or inv_std_var",
    ),
    ("float[2, 3, 4] X, float[4] g", "Z, Y = SimplifiedLayerNormalization(X, g)", "reads mean or inv_std_var"),
    (
        "float[2, 3, 4] X, float[4, 12] W, float[12] b, int32[2, 1, 3, 3] m",
        "Y = com.microsoft.Attention<num_heads = 2>(X, W, b, m)",
        "four axes",
    ),
    (
        "float[2, 3, 4] X, float[4, 12] W, float[12] b",
        "Y = com.microsoft.Attention<num_heads = 2, do_rotary = 1>(X, W, b)",
        "rotary",
    ),
    ("float[2, 3, 2, 3, 4] X", "Y = com.microsoft.MultiHeadAttention<num_heads = 2>(X)", "in one tensor"),
    (
        "float[2, 3, 4] X, int64[1] i, float[A, C] c, float[A, C] s",
        "Y = com.microsoft.RotaryEmbedding(X, i, c, s)",
        "width of the rotation",
    ),
]


@pytest.mark.parametrize(("inputs", "body", "why"), REFUSED)
def test_refused(inputs, body, why):
    assert why in reason(inputs, body)


@pytest.mark.parametrize(
    ("text", "inputs", "why"),
    [
        ("accuracy_level = 4", "X, B, s", "moves in steps"),
        ("bits = 2", "X, B, s", "2 bits"),
        ("bits = 4", "X, B, s, , g", "another order"),
    ],
)
def test_matrix_of_few_bits_refused(text, inputs, why):
    body = f"Y = com.microsoft.MatMulNBits<K = 32, N = 2, block_size = 32, {text}>({inputs})"
    assert why in reason("float[2, 32] X", body, NBITS | {"g": np.zeros(32, np.int32)})


def test_rounded_activations_pass_straight_through():
    body = "Y = com.microsoft.MatMulNBits<K = 32, N = 2, block_size = 32, accuracy_level = 4>(X, B, s)"
    model = loaded("float[2, 32] X", body, NBITS)
    check(model, ["X"], ["Y"], PortableJudge(model, 18, straight_through=True))


# ---- conventions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("activation", "value", "expected"),
    [
        ('activation = "Relu"', 0.0, 0.0),
        ('activation = "LeakyRelu", activation_params = [0.5]', 0.0, 0.5),
        ('activation = "Clip", activation_params = [0.0, 6.0]', 0.0, 0.0),
        ('activation = "Clip", activation_params = [0.0, 6.0]', 6.0, 0.0),
        ('activation = "HardSigmoid", activation_params = [0.5, 0.0]', 2.0, 0.0),
    ],
)
def test_slope_at_a_kink(activation, value, expected):
    """A derivative there is that on the side where the function is flatter."""
    body = f"Y = com.microsoft.FusedConv<kernel_shape = [1, 1], {activation}>(X, W)"
    model = build_vjp(loaded("float[1, 1, 1, 1] X", body, {"W": np.ones((1, 1, 1, 1), np.float32)}), ["X"])
    one = np.ones((1, 1, 1, 1), np.float32)
    got = Session(model, 1).run({"X": one * np.float32(value), cotangent_name("Y"): one})
    assert got[gradient_name("X")].item() == expected


def test_distance_of_equal_points_has_derivative_zero():
    body = 'Y = com.microsoft.CDist<metric = "euclidean">(X, B)'
    model = build_vjp(loaded("float[1, 3] X, float[1, 3] B", body), ["X"])
    points = np.ones((1, 3), np.float32)
    got = Session(model, 1).run({"X": points, "B": points, cotangent_name("Y"): np.ones((1, 1), np.float32)})
    assert got[gradient_name("X")].tolist() == [[0, 0, 0]]


def test_only_the_transposes_that_are_needed():
    """What the backward pass transposes back is not transposed at all."""
    body = "Y = com.microsoft.FusedMatMul<transA = 1, transB = 1>(X, B)"
    model = build_vjp(loaded("float[2, 4, 3] X, float[2, 5, 4] B", body), ["X"])
    assert [node.op_type for node in model.graph] == ["FusedMatMul", "MatMul", "Transpose"]


def test_the_product_before_an_activation_is_not_computed_again():
    body = 'Y = com.microsoft.FusedGemm<activation = "Tanh">(X, B)'
    model = build_vjp(loaded("float[2, 3] X, float[3, 4] B", body), ["X"])
    assert [node.op_type for node in model.graph].count("Gemm") == 1


def test_what_is_transposed_before_keeps_its_derivative():
    """The one Transpose that two are merged into leaves out the value between them: never on the way back to that value."""
    body = "P = Transpose<perm = [1, 0]>(X) Y = com.microsoft.FusedMatMul<transA = 1>(P, B)"
    model = build_vjp(loaded("float[2, 3] X, float[3, 4] B", body), ["X"])
    random = np.random.default_rng(0)
    x, b, dy = (random.normal(size=shape).astype(np.float32) for shape in ((2, 3), (3, 4), (2, 4)))
    got = Session(model, 1).run({"X": x, "B": b, cotangent_name("Y"): dy})
    assert np.allclose(got[gradient_name("X")], dy @ b.T, rtol=1e-6)
