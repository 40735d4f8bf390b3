"""Every operator on the verified list, at every opset where it is spelled otherwise, against float64 finite differences."""

import re

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from support.reference import central_differences, evaluate, relative_error
from support.tolerances import TOLERANCE
from support.training_cases import CASES, IMAGE, Case

from gradserve.errors import NotDifferentiable, UnsupportedGradient
from gradserve_server.graph.autodiff.names import cotangent_name, gradient_name
from gradserve_server.graph.autodiff.ort_training import build_vjp
from gradserve_server.graph.autodiff.path import check as check_by
from gradserve_server.graph.autodiff.path import reach
from gradserve_server.graph.autodiff.rules import OLDEST_OPSET, TABLE, ProvenZero
from gradserve_server.graph.autodiff.training_ops import OPSETS_VERIFIED, VERIFIED, TrainingJudge
from gradserve_server.graph.inference_form import to_inference_form
from gradserve_server.graph.values import opset_of
from gradserve_server.runtime.session import Session


def judge(model: ir.Model) -> TrainingJudge:
    return TrainingJudge(model, opset_of(model))


def check(model: ir.Model, wrt: list[str], targets: list[str]) -> None:
    check_by(model, wrt, targets, judge(model))


TYPES = {onnx.TensorProto.FLOAT: "float", onnx.TensorProto.DOUBLE: "double"}


def parse(body: str, inputs: dict[str, tuple[int, ...]], opset: int, dtype: int = onnx.TensorProto.FLOAT) -> onnx.ModelProto:
    name = TYPES[dtype]
    body = body.replace("= TYPE", f"= {dtype}")
    body = re.sub(r"\bT(\[\d+\])? \{", rf"{name}\1 {{", body)
    declared = ", ".join(
        f"{name}[{','.join('N' if open_batch(key, i) else str(size) for i, size in enumerate(shape))}] {key}"
        for key, shape in inputs.items()
    )
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}]> g ({declared}) => ({name} Y) {{ {body} }}'
    )
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def open_batch(name: str, axis: int) -> bool:
    """X and XX have a symbolic batch, as served models have: some backward operators work only with sizes known before."""
    return name in ("X", "XX") and axis == 0


def draw(case: Case) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    drawn = {}
    for name, shape in case.inputs.items():
        size = int(np.prod(shape))
        if case.distinct:
            values = random.permutation(size) / size * 4 - 2
        elif case.positive:
            values = random.uniform(0.5, 1.5, size)
        else:
            values = random.normal(size=size)
            values = np.where(np.abs(values) < 0.05, 0.05 + np.abs(values), values)
        drawn[name] = values.reshape(shape)
    return drawn


def served(case: Case, opset: int) -> ir.Model:
    return to_inference_form(ir.from_proto(parse(case.body, case.inputs, opset))).model


PAIRS = [pytest.param(case, opset, id=f"{case.op}-{opset}-{i}") for i, case in enumerate(CASES) for opset in case.opsets]


@pytest.mark.parametrize(("case", "opset"), PAIRS)
def test_gradient_equals_finite_differences(case, opset):
    inputs = draw(case)
    function = evaluate(parse(case.body, case.inputs, opset, onnx.TensorProto.DOUBLE))
    output = function(inputs)
    cotangent = np.random.default_rng(1).normal(size=output.shape)
    model = served(case, opset)
    for name in case.inputs:
        check(model, [name], ["Y"])
        feeds = {key: array.astype(np.float32) for key, array in inputs.items()}
        results = Session(build_vjp(model, [name]), 1).run(feeds | {cotangent_name("Y"): cotangent.astype(np.float32)})
        expected = central_differences(function, inputs, name, cotangent)
        assert relative_error(results[gradient_name(name)], expected) < TOLERANCE["float32 operator"], name


NOT_BEFORE_18 = {"DivGrad", "GatherGrad", "LayerNormalizationGrad", "MaxPoolGrad", "SliceGrad"}
"""Operators whose rules have no spelling in older opsets: models are converted before they come here."""


@pytest.mark.parametrize(("case", "opset"), PAIRS)
def test_no_training_operator_is_left(case, opset):
    """The lowered graph runs on any onnxruntime."""
    for name in case.inputs:
        nodes = build_vjp(served(case, opset), [name]).graph.all_nodes()
        left = {node.op_type for node in nodes if node.domain or not onnx.defs.has(node.op_type, opset)}
        assert left <= (NOT_BEFORE_18 if opset < OLDEST_OPSET else set())


@pytest.mark.parametrize("name", ["X", "M"])
def test_a_broadcast_of_sizes_not_known_before_the_run_is_undone_in_standard_operators(name):
    body = "B = Reshape(M, S) A = Mul(X, B) Y = Sigmoid(A)"
    head = '<ir_version: 8, opset_import: ["" : 20]> g (float[N,3,4] X, float[4] M, int64[K] S) => (float[P,Q,R] Y)'
    forward = to_inference_form(ir.from_proto(onnx.parser.parse_model(f"{head} {{ {body} }}"))).model
    model = build_vjp(forward, [name])
    assert {node.domain for node in model.graph.all_nodes()} == {""}
    random = np.random.default_rng(0)
    x, m, dy = (random.normal(size=shape) for shape in ((2, 3, 4), (4,), (2, 3, 4)))
    feeds = {"X": x, "M": m, cotangent_name("Y"): dy}
    feeds = {key: array.astype(np.float32) for key, array in feeds.items()} | {"S": np.array([1, 4])}
    results = Session(model, 1).run(feeds)
    y = 1 / (1 + np.exp(-x * m))
    inner = dy * y * (1 - y)
    expected = {"X": inner * m, "M": (inner * x).sum((0, 1))}[name]
    assert relative_error(results[gradient_name(name)], expected) < TOLERANCE["float32 operator"]


def test_every_verified_operator_has_a_case():
    assert {case.op for case in CASES} == set(VERIFIED)


@pytest.mark.parametrize("op", sorted(VERIFIED))
def test_every_verified_operator_is_tried_at_the_newest_opset_it_covers(op):
    opsets = {opset for case in CASES if case.op == op for opset in case.opsets}
    assert max(opsets) == OPSETS_VERIFIED.stop - 1


REFUSED = (
    Case("Elu", "Y = Elu(X)"),
    Case("Pow", "two = Constant<value = T {2.0}>() Y = Pow(two, X)"),
    Case("Clip", "nine = Constant<value = T {9.0}>() Y = Clip(nine, X)", {"X": ()}),
    Case("Where", "zero = Constant<value = T {0.0}>() c = Greater(X, zero) Y = Where(c, X, zero)"),
    Case("Conv", 'Y = Conv<auto_pad = "SAME_UPPER">(X, W)', {"X": (1, 1, 5, 5), "W": (1, 1, 2, 2)}),
    Case("Gelu", 'Y = Gelu<approximate = "tanh">(X)'),
    Case("LeakyRelu", "Y = LeakyRelu<alpha = -0.5>(X)"),
    Case("MaxPool", "Y = MaxPool<kernel_shape = [2, 2], storage_order = 1>(X)", IMAGE),
    Case("Pow", "two = Constant<value_int = 2>() Y = Pow(X, two)"),
    Case("MatMul", "Y = MatMul(X, v)", {"X": (2, 3), "v": (3,)}),
    Case("Pad", 'p = Constant<value_ints = [0, 1, 0, 0, 1, 0]>() Y = Pad<mode = "reflect">(X, p)'),
    Case(
        "Slice",
        "b = Constant<value_ints = [2]>() e = Constant<value_ints = [-9]>() a = Constant<value_ints = [1]>() "
        "s = Constant<value_ints = [-1]>() Y = Slice(X, b, e, a, s)",
    ),
    Case("Range", "s = ReduceSum<keepdims = 0>(X) one = Constant<value = T {1.0}>() n = Add(s, one) Y = Range(s, n, one)"),
    Case("Reshape", "s = Shape(X) Y = Reshape<allowzero = 1>(X, s)"),
    Case("AveragePool", "Y = AveragePool<kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1>(X)", IMAGE),
    Case("MaxPool", 'Y = MaxPool<auto_pad = "SAME_LOWER", kernel_shape = [2, 2]>(X)', IMAGE),
)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.op)
def test_what_the_builder_would_get_wrong_is_refused(case):
    with pytest.raises(UnsupportedGradient, match=rf"\({case.op}, opset 20\)"):
        check(served(case, 20), ["X"], ["Y"])


@pytest.mark.parametrize("opset", [22, 23])
def test_an_opset_that_is_not_verified_is_refused(opset):
    case = Case("Relu", "Y = Relu(X)")
    with pytest.raises(UnsupportedGradient, match=f"Relu, opset {opset}.*verified for opsets 18 to 21"):
        check(served(case, opset), ["X"], ["Y"])


def test_float64_is_refused():
    model = to_inference_form(ir.from_proto(parse("Y = Relu(X)", {"X": (2,)}, 17, onnx.TensorProto.DOUBLE))).model
    with pytest.raises(UnsupportedGradient, match="float32 only"):
        check(model, ["X"], ["Y"])


def test_every_problem_is_named_at_once():
    case = Case("Elu", "A = Elu(X) B = Selu(A) Y = Add(B, X)")
    with pytest.raises(UnsupportedGradient, match=r"Elu, opset 18\).*Selu, opset 18\)"):
        check(served(case, 17), ["X"], ["Y"])


def test_nodes_beside_the_path_do_not_matter():
    case = Case("Mul", "A = Elu(B) Y = Mul(X, A)", {"X": (2, 3), "B": (2, 3)})
    check(served(case, 17), ["X"], ["Y"])


@pytest.mark.parametrize("op", ["Floor", "Ceil", "Round", "Sign"])
def test_what_is_piecewise_constant_has_no_derivative_to_ask_for(op):
    with pytest.raises(NotDifferentiable, match="'Y': does not depend on 'X'"):
        check(served(Case(op, f"Y = {op}(X)"), 20), ["X"], ["Y"])


def test_an_integer_input_is_refused():
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (int64[2] X) => (float[2] Y) { Y = Cast<to = 1>(X) }'
    )
    with pytest.raises(NotDifferentiable, match="expected a float type"):
        check(ir.from_proto(model), ["X"], ["Y"])


def test_zero_and_verified_do_not_overlap():
    zero = {op for (_, op, _), state in TABLE.items() if isinstance(state, ProvenZero)}
    assert not zero & VERIFIED.keys()


def test_integers_stop_the_derivative():
    case = Case("Cast", "A = Cast<to = 7>(X) Z = Cast<to = 1>(A) Y = Mul(Z, X)")
    model = served(case, 17)
    values = ir.convenience.create_value_mapping(model.graph)
    assert values["Z"] not in reach(model, ["X"], judge(model)).problems
    assert reach(model, ["X"], judge(model)).differentiable(values["Y"])


BRANCH = """<ir_version: 8, opset_import: ["" : 17]> g (float[N,6] x, bool c) => (float[N,6] y) {
    h = Exp(x)
    z = If(c) <then_branch = t () => (float[N,6] a) { a = Sin(h) }, else_branch = e () => (float[N,6] b) { b = Neg(h) }>
    y = Add(z, x)
}"""


def test_a_branch_that_reads_a_value_on_the_path_is_refused():
    """The builder would abort the process."""
    model = to_inference_form(ir.from_proto(onnx.parser.parse_model(BRANCH))).model
    with pytest.raises(UnsupportedGradient, match=r"If, opset 18\): not verified"):
        check(model, ["x"], ["y"])


def test_a_gradient_of_another_shape_than_its_input_is_an_error(tmp_path):
    """Two symbols that differ, of which one is 1 in this run: the builder does not undo that broadcast."""
    from gradserve_server import Engine

    path = tmp_path / "mask.onnx"
    onnx.save(
        onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> '
            "g (float[N,S,T] x, float[N,M,T] m) => (float[N,P,T] y) { y = Add(x, m) }"
        ),
        path,
    )
    feeds = {"x": np.ones((2, 3, 4), np.float32), "m": np.ones((2, 1, 4), np.float32)}
    with Engine(path) as engine:
        for wrt, works in (("x", True), ("m", False)):
            try:
                gradients = engine.vjp("mask", feeds, {"y": np.ones((2, 3, 4))}, wrt=[wrt])[1]
                assert works or gradients["m"].shape == (2, 1, 4)
            except UnsupportedGradient:
                assert not works


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("shape", ["N,4,H,W", "N,C,6,6", "1,4,6,W"])
def test_pools_of_sizes_not_known_before_the_run_are_refused(op, shape):
    """With them the backward operators read outside their memory, or give nothing."""
    head = f'<ir_version: 8, opset_import: ["" : 17]> g (float[{shape}] x) => (float[A,B,P,Q] y)'
    text = f"{head} {{ y = {op}<kernel_shape = [2, 2]>(x) }}"
    model = to_inference_form(ir.from_proto(onnx.parser.parse_model(text))).model
    with pytest.raises(UnsupportedGradient, match="sizes not known"):
        check(model, ["x"], ["y"])
