"""What lies inside subgraphs and functions: found before anything is built, and named."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from gradserve.errors import NotDifferentiable, UnsupportedGradient
from gradserve_server.graph.autodiff.emitter import Emitter
from gradserve_server.graph.autodiff.functions import expand_function
from gradserve_server.graph.autodiff.judge import PortableJudge
from gradserve_server.graph.autodiff.names import cotangent_name, gradient_name
from gradserve_server.graph.autodiff.path import check
from gradserve_server.graph.autodiff.portable import build_vjp
from gradserve_server.graph.autodiff.site import Site
from gradserve_server.graph.inference_form import to_inference_form
from gradserve_server.graph.load import load
from gradserve_server.runtime.session import Session

HEAD = '<ir_version: 10, opset_import: ["" : 18, "local" : 1]> g'


def prepared(text: str, **options: bool) -> ir.Model:
    model = to_inference_form(ir.from_proto(onnx.parser.parse_model(f"{HEAD} {text}"))).model
    check(model, ["X"], ["Y"], PortableJudge(model, 18, **options))
    return model


BRANCHES = """(float[N, 3] X, bool C) => (float[N, 3] Y) {{
    Y = If (C) <then_branch = yes () => (float[N, 3] a) {{ {yes} }}, else_branch = no () => (float[N, 3] b) {{ {no} }}>
}}"""


def test_an_operator_without_a_rule_in_a_branch_is_named_with_its_branch():
    text = BRANCHES.format(
        yes="a = Mul(X, X)", no="[odd] s = SequenceConstruct(X)  i = Constant<value_int = 0>()  b = SequenceAt(s, i)"
    )
    with pytest.raises(
        UnsupportedGradient, match=r"in node '.*' \(If, opset 18\): node '.*' \(SequenceConstruct, opset 18\)"
    ):
        prepared(text)


def test_what_does_not_lie_on_the_way_in_a_branch_is_no_problem():
    """The branch reads X for its shape only; an operator without a rule beside the way does not matter."""
    beside = "q, s, z = DynamicQuantizeLinear(K)  a = Mul(X, s)"
    text = BRANCHES.format(yes=f"K = Constant<value_floats = [1.0, 2.0]>()  {beside}", no="b = Mul(X, X)")
    model = build_vjp(prepared(text), ["X"])
    x, dy = np.array([[1, 2, 3]], np.float32), np.array([[1, 10, 100]], np.float32)
    for taken, expected in ((True, dy * 2 / 255), (False, 2 * x * dy)):
        got = Session(model, 1).run({"X": x, "C": np.array(taken), cotangent_name("Y"): dy})[gradient_name("X")]
        np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_branches_that_read_only_the_shape_do_not_depend_on_it():
    text = BRANCHES.format(yes="s = Shape(X)  a = ConstantOfShape(s)", no="r = Shape(X)  b = ConstantOfShape(r)")
    with pytest.raises(NotDifferentiable, match="does not depend on 'X'"):
        prepared(text)


def test_a_problem_in_a_body_is_found_through_the_steps():
    """The operator without a rule is on the way only after the state has gone round."""
    text = """(float[2] X) => (float[2] Y) { K = Constant<value_floats = [0.0, 0.0]>()  N = Constant<value_int = 3>()
        Y, Z = Loop <body = step (int64 i, bool c, float[2] s, float[2] t) => (bool d, float[2] u, float[2] v) {
            d = Identity(c)  u = Add(t, X)  l = SequenceConstruct(s)  k = Constant<value_int = 0>()  v = SequenceAt(l, k)
        }> (N, "", K, K) }"""
    with pytest.raises(
        UnsupportedGradient, match=r"in node '.*' \(Loop, opset 18\): node '.*' \(SequenceConstruct, opset 18\)"
    ):
        prepared(text)


def test_a_loop_whose_state_grows_is_refused():
    text = """(float[2] X) => (float[M] Y) { N = Constant<value_int = 3>()
        Y = Loop <body = step (int64 i, bool c, float[K] s) => (bool d, float[L] t) {
            d = Identity(c)  t = Concat<axis = 0>(s, X) }> (N, "", X) }"""
    model = onnx.parser.parse_model(f"{HEAD} {text}")
    step = model.graph.node[-1].attribute[0].g
    step.input[2].type.tensor_type.shape.dim[0].Clear()
    step.input[2].type.tensor_type.shape.dim[0].dim_value = 2
    step.output[1].type.tensor_type.shape.dim[0].Clear()
    step.output[1].type.tensor_type.shape.dim[0].dim_value = 4
    inferred = to_inference_form(ir.from_proto(model)).model
    with pytest.raises(UnsupportedGradient, match="changes its shape from step to step"):
        check(inferred, ["X"], ["Y"], PortableJudge(inferred, 18))


# ---- quantization ----------------------------------------------------------------------------------------------------

PAIR = "S = Constant<value_float = 0.5>()  Q = QuantizeLinear(X, S)  D = DequantizeLinear(Q, S)"


@pytest.mark.parametrize("rest", ["Y = Identity(D)", "Y = Add(X, D)"])
def test_quantization_is_refused_also_beside_another_way(rest):
    with pytest.raises(UnsupportedGradient, match="QuantizeLinear.*piecewise constant; with `straight_through`"):
        prepared(f"(float[N, 3] X) => (float[N, 3] Y) {{ {PAIR}  {rest} }}")


def test_quantization_is_passed_straight_through_in_its_range():
    model = prepared(f"(float[N, 3] X) => (float[N, 3] Y) {{ {PAIR}  Y = Add(X, D) }}", straight_through=True)
    graded = build_vjp(model, ["X"], straight_through=True)
    feeds = {"X": np.array([[1, -2, 300]], np.float32), cotangent_name("Y"): np.array([[1, 10, 100]], np.float32)}
    np.testing.assert_array_equal(Session(graded, 1).run(feeds)[gradient_name("X")], [[2, 10, 100]])


@pytest.mark.parametrize("op", ["MatMulInteger(Q, Q)", "ConvInteger(Q, Q)"])
def test_integer_arithmetic_between_quantizers_is_refused(op):
    size = "1, 1, 3, 3" if "Conv" in op else "3, 3"
    text = f"(float[{size}] X) => (float[A, B] Y) {{ {PAIR}  M = {op}  F = Cast<to = 1>(M)  Y = Add(F, X) }}"
    with pytest.raises(UnsupportedGradient, match="computes with integers"):
        prepared(text, straight_through=True)


# ---- functions -------------------------------------------------------------------------------------------------------


def test_functions_of_the_file_are_inlined_also_inside_one_another(tmp_path):
    text = f"""{HEAD} (float[N, 3] X) => (float[N, 3] Y) {{ Y = local.outer<gain = 3.0>(X) }}
        <domain: "local", opset_import: ["" : 18, "local" : 1]>
        outer<gain>(x) => (y) {{ a = local.inner(x)  k = Constant<value_float: float = @gain>()  y = Mul(a, k) }}
        <domain: "local", opset_import: ["" : 18]> inner(x) => (y) {{ y = Mul(x, x) }}"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "model.onnx")
    model = to_inference_form(load(tmp_path / "model.onnx").model).model
    check(model, ["X"], ["Y"], PortableJudge(model, 18))
    x, dy = np.array([[1, 2, 3]], np.float32), np.array([[1, 10, 100]], np.float32)
    got = Session(build_vjp(model, ["X"]), 1).run({"X": x, cotangent_name("Y"): dy})[gradient_name("X")]
    np.testing.assert_allclose(got, 6 * x * dy)


def _expanded(text: str, opset: int) -> list[str]:
    model = ir.from_proto(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> g {text}'))
    g = Emitter(model.graph, opset, "x")
    expand_function(g, Site(g, next(iter(model.graph))))
    return [node.op_type for node in g.nodes]


def test_the_body_of_a_function_is_emitted_with_the_attributes_of_the_node():
    text = "(float[2, 3] X) => (float[2, 3] Y) { Y = Swish<alpha = 0.5>(X) }"
    assert _expanded(text, 24) == ["CastLike", "Mul", "Sigmoid", "Mul"]


def test_a_body_that_depends_on_types_and_on_what_is_left_out_is_asked_for():
    assert _expanded("(float[2] X, float S) => (float[2] Y) { Y = Clip(X, S) }", 18) == ["Less", "Where"]
    assert _expanded('(float[2] X, float S) => (float[2] Y) { Y = Clip(X, "", S) }', 18) == ["Less", "Where"]
