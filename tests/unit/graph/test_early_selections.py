"""Choosing places along an axis moves up, and changes no number; where it cannot, nothing moves."""

import re

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from support.onnx_models import build, random
from support.reference import evaluate, relative_error
from support.runtime import in_training
from support.tolerances import TOLERANCE

from gradserve import objectives as O
from gradserve_server.gradient_graph import derive_file
from gradserve_server.graph import derivatives, early_selections
from gradserve_server.graph.contrib_shapes import infer_shapes
from gradserve_server.graph.early_selections import TABLE, select_early
from gradserve_server.runtime.session import Session

SHAPE = (2, 6, 4, 8)
WEIGHTS = {
    "row": random(8),
    "plane": random(6, 1, 8, seed=1),
    "whole": random(*SHAPE, seed=2),
    "once": random(1, 4, 8, seed=6),
    "V": random(32, 8, seed=7),
    "U": random(5, 64, seed=8),
    "W": random(8, 8, seed=3),
    "M": random(6, 4, 4, seed=4),
    "low": np.array(-0.5, np.float32),
    "high": np.array(0.5, np.float32),
}

PLAIN = (
    *("Abs", "Ceil", "Celu", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity"),
    *("LeakyRelu", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign"),
    *("Swish", "Tanh", "ThresholdedRelu"),
)
BROADCAST = ("Add", "Div", "Max", "Min", "Mul", "Sub", "Sum")

CASES = {
    **{op: [f"h = {op}(x)"] for op in PLAIN},
    **{op: [f"h = {op}(x, whole)", f"h = {op}(x, plane)", f"h = {op}(row, x)", f"h = {op}(x, once)"] for op in BROADCAST},
    **{op: [f"p = Abs(x) h = {op}(p)"] for op in ("Sqrt", "Log")},
    **{op: [f"h = {op}(x, plane)"] for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")},
    **{op: [f"p = Greater(x, plane) q = Less(whole, row) h = {op}(p, q)"] for op in ("And", "Or", "Xor")},
    **{op: [f"p = Sqrt(x) h = {op}(p)"] for op in ("IsInf", "IsNaN")},
    "Mean": ["h = Mean(x, whole)", "h = Mean(x, plane)"],  # onnx's evaluator wants the largest first
    "Cast": ["h = Cast<to = 11>(x)"],
    "Clip": ["h = Clip(x, low, high)", "h = Clip(x)"],
    "Not": ["p = Greater(x, plane) h = Not(p)"],
    "PRelu": ["h = PRelu(x, plane)"],
    "Pow": ["p = Abs(x) h = Pow(p, plane)"],
    "Where": ["p = Greater(x, plane) h = Where(p, whole, row)", "p = Greater(x, whole) h = Where(p, low, x)"],
    "LayerNormalization": ["h = LayerNormalization<axis = -1>(x, row, row)", "h = LayerNormalization<axis = 3>(x, row)"],
    "RMSNormalization": ["h = RMSNormalization<axis = -1>(x, row)"],
    "Softmax": ["h = Softmax(x)", "h = Softmax<axis = 0>(x)"],
    "LogSoftmax": ["h = LogSoftmax<axis = -1>(x)"],
    "Transpose": ["h = Transpose<perm = [3, 1, 0, 2]>(x)", "h = Transpose<perm = [0, 1, 3, 2]>(x)"],
    "Reshape": [
        "s = Constant<value_ints = [2, -1, 32]>() h = Reshape(x, s)",
        "s = Constant<value_ints = [-1, 6, 2, 2, 8]>() h = Reshape(x, s)",
        "s = Constant<value_ints = [0, 6, 32]>() h = Reshape(x, s)",
    ],
    "MatMul": [
        "h = MatMul(x, W)",
        "h = MatMul(M, x)",
        "h = MatMul(x, whole_t)",
        "s = Constant<value_ints = [2, 6, 32]>() u = Reshape(x, s) h = MatMul(u, V)",
        "s = Constant<value_ints = [64, 6]>() u = Reshape(x, s) h = MatMul(U, u)",
        "t = Transpose<perm = [0, 1, 3, 2]>(x) h = MatMul(t, x)",
    ],
}
"""By operator: ways of it, whose axis 1 always has six places."""


def gather(*places: int, axis: int = 1) -> str:
    return f"i = Constant<value_ints = {list(places)}>() z = Gather<axis = {axis}>(h, i)"


def scalar(place: int, axis: int = 1) -> str:
    return f"i = Constant<value_int = {place}>() z = Gather<axis = {axis}>(h, i)"


def part(start: int, end: int, *step: int) -> str:
    numbers = dict(zip("abcd", (start, end, 1, *step), strict=False))
    return " ".join(f"{name} = Constant<value_ints = [{number}]>()" for name, number in numbers.items()) + (
        f" z = Slice(h, {', '.join(numbers)})"
    )


READS = {
    "a scalar": (scalar(4), 1),
    "the last": (scalar(-1), 1),
    "two": (gather(5, 2), 2),
    "twice the same": (gather(3, 3), 2),
    "a slice": (part(2, 4), 2),
    "a slice backwards": (part(-1, 1, -2), 2),
}


@pytest.fixture
def _everything_is_worth_it(monkeypatch):
    monkeypatch.setattr(early_selections, "WORTH", tuple(TABLE))


def model_of(
    body: str, *, shape=SHAPE, opset: int = 24, weights=None, outputs: str = "float[?,?,?,?] y", more: str = ""
) -> ir.Model:
    weights = WEIGHTS | {"whole_t": random(2, 6, 8, 4, seed=5)} if weights is None else weights
    used = {name: array for name, array in weights.items() if name in re.findall(r"\w+", body)}
    inputs = f"float[{','.join(map(str, shape))}] x{more}"
    proto = build(body, inputs=inputs, outputs=outputs, opset=opset, ir_version=10, weights=used)
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")
    model = ir.from_proto(proto)
    ir.passes.common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    infer_shapes(model)
    return model


def moved(model: ir.Model, *kept: str) -> ir.Model:
    clone = model.clone()
    select_early(clone, kept)
    return clone


def run(model: ir.Model, x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(evaluate(ir.to_proto(model))({"x": x}))


def test_every_operator_has_a_case():
    assert CASES.keys() == TABLE.keys()


@pytest.mark.usefixtures("_everything_is_worth_it")
@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize(("op", "body"), [(op, body) for op, bodies in CASES.items() for body in bodies])
def test_the_same_numbers_of_fewer(op, body, read):
    text, count = READS[read]
    model = model_of(f"{body} {text} y = Cast<to = 1>(z)")
    early = moved(model)
    (node,) = [node for node in early.graph if node.op_type == op and node.outputs[0].name != "y"][-1:]
    assert node.outputs[0].shape[1] == count
    x = random(*SHAPE, seed=9)
    got, expected = run(early, x), run(model, x)
    assert got.shape == expected.shape
    if op == "MatMul":  # fewer rows are added up in another order
        assert relative_error(got, expected) < TOLERANCE["float32 operator"]
    else:
        np.testing.assert_array_equal(got, expected)


READ = "i = Constant<value_int = 0>() z = Gather<axis = 1>(h, i) y = Cast<to = 1>(z)"
STAY = {
    "others read it": f"h = MatMul(x, W) {READ} o = Neg(h)",
    "its mean is read": f"p = MatMul(x, W) h, m = LayerNormalization<axis = 3>(p, row, row) {READ} o = Neg(m)",
    "its mean is given out": f"p = MatMul(x, W) h, o = LayerNormalization<axis = 3>(p, row, row) {READ}",
    "most places": "h = MatMul(x, W) i = Constant<value_ints = [0, 1, 2, 3]>() y = Gather<axis = 1>(h, i)",
    "no product": f"h = Relu(x) {READ}",
    "places of the run": "h = MatMul(x, W) s = Shape<start = 3>(x) i = Sub(s, s) y = Gather<axis = 1>(h, i)",
    "across the places": f"p = MatMul(x, W) h = Softmax<axis = 1>(p) {READ}",
    "normalized together": f"p = MatMul(x, W) h = LayerNormalization<axis = 1>(p, plane) {READ}",
    "mixed": f"p = MatMul(x, W) s = Constant<value_ints = [2, 8, 24]>() h = Reshape(p, s) {READ}",
    "no rule": f"p = MatMul(x, W) h = Flatten<axis = 2>(p) {READ}",
    "two axes": "p = MatMul(x, W) t = Transpose<perm = [0, 2, 1, 3]>(p) s = Constant<value_ints = [2, 6, 4, 8]>()"
    f" u = Reshape(t, s) h = Add(p, u) {READ}",
}


@pytest.mark.parametrize("body", STAY.values(), ids=STAY)
def test_it_stays_where_it_cannot_move_or_is_not_worth_it(body):
    outputs = "float[?,?,?,?] y, float[?,?,?,?] o" if " o = " in body or ", o = " in body else "float[?,?,?,?] y"
    model = model_of(body, outputs=outputs)
    early = moved(model)
    assert [n.op_type for n in early.graph] == [n.op_type for n in model.graph]
    assert all(a.outputs[0].shape == b.outputs[0].shape for a, b in zip(early.graph, model.graph, strict=True))


def test_what_is_kept_and_what_is_given_out_stays():
    body = f"p = MatMul(x, W) q = Relu(p) h = MatMul(q, W) {READ}"
    model = model_of(body)
    names = {v.name: v for v in ir.convenience.create_value_mapping(moved(model, "q").graph).values()}
    assert (names["h"].shape[1], names["q"].shape[1]) == (1, 6)
    model = model_of(body, outputs="float[?,?,?,?] y, float[?,?,?,?] p")
    names = {v.name: v for v in ir.convenience.create_value_mapping(moved(model).graph).values()}
    assert (names["q"].shape[1], names["p"].shape[1]) == (1, 6)


def test_one_value_along_two_axes():
    model = model_of(f"p = MatMul(x, W) t = Transpose<perm = [1, 0, 2]>(p) h = Add(p, t) {READ}", shape=(6, 6, 8))
    early = moved(model)
    assert [node.op_type for node in early.graph] == [node.op_type for node in model.graph]
    x = random(6, 6, 8)
    np.testing.assert_array_equal(run(early, x), run(model, x))


@pytest.mark.parametrize("size", ["S", None])
def test_what_may_broadcast_is_not_chosen_of(size):
    body = f"p = MatMul(x, W) h = Add(p, z) {scalar(4)} y = Cast<to = 1>(z_)".replace("z = Gather", "z_ = Gather")
    model = model_of(body, shape=("N", 6, 4, 8), more=f", float[1,{size or '?'},4,8] z")
    early = moved(model)
    feeds = {"x": random(3, 6, 4, 8), "z": random(1, 1, 4, 8)}
    got, expected = (np.asarray(evaluate(ir.to_proto(each))(feeds)) for each in (early, model))
    np.testing.assert_array_equal(got, expected)


def test_two_that_choose_of_one_value():
    text = "i = Constant<value_int = 0>() j = Constant<value_int = 5>() h = Relu(x)"
    text += " p = MatMul(h, W) a = Gather<axis = 1>(p, i) q = MatMul(h, W) b = Gather<axis = 1>(q, j) y = Add(a, b)"
    model = model_of(text)
    early = moved(model)
    onnx.checker.check_model(ir.to_proto(early), full_check=True)
    assert [node.outputs[0].shape[1] for node in early.graph if node.op_type == "MatMul"] == [1, 1]
    x = random(*SHAPE)
    assert relative_error(run(early, x), run(model, x)) < TOLERANCE["float32 operator"]


def test_an_old_softmax_is_along_several_axes():
    models = {opset: model_of(f"h = MatMul(x, W) {READ}", opset=opset) for opset in (12, 13)}
    rows = {opset: next(node for node in moved(model).graph if node.op_type == "MatMul") for opset, model in models.items()}
    assert [rows[opset].outputs[0].shape[1] for opset in (12, 13)] == [6, 1]


OPEN = {
    "the first": (scalar(0), True),
    "the last": (scalar(-1, axis=-3), True),
    "the first by a slice": (part(0, 1), True),
    "the last by a slice": (part(-1, 2**63 - 1), True),
    "three by a slice": (part(0, 3), False),
    "two": (gather(0, 1), False),
    "none by a slice": (part(-1, 2**63 - 1, -1), False),
}


@pytest.mark.parametrize(("read", "places"), [(read, n) for read in OPEN for n in (1, 2, 6) if (read, n) != ("two", 1)])
def test_an_axis_of_open_size(read, places):
    text, moves = OPEN[read]
    model = model_of(f"p = MatMul(x, W) q = Add(p, x) h = Relu(q) {text} y = Cast<to = 1>(z)", shape=("N", "T", 4, 8))
    early = moved(model)
    assert ([n.op_type for n in early.graph] != [n.op_type for n in model.graph]) == moves
    x = random(3, places, 4, 8)
    got, expected = run(early, x), run(model, x)
    assert got.shape == expected.shape
    assert not expected.size or relative_error(got, expected) < TOLERANCE["float32 operator"]


# ---- what it is for --------------------------------------------------------------------------------------------------

TOKENS, WIDTH, HEADS = 12, 16, 2
ATTENTION = """
    q = MatMul(x, Wq) q4 = Reshape(q, split) q2 = Transpose<perm = [0, 2, 1, 3]>(q4)
    k = MatMul(x, Wk) k4 = Reshape(k, split) k2 = Transpose<perm = [0, 2, 3, 1]>(k4)
    v = MatMul(x, Wv) v4 = Reshape(v, split) v2 = Transpose<perm = [0, 2, 1, 3]>(v4)
    s = MatMul(q2, k2) m = Add(s, mask) w = Softmax(m) a = MatMul(w, v2)
    a4 = Transpose<perm = [0, 2, 1, 3]>(a) a3 = Reshape(a4, join) o = MatMul(a3, Wo) r = Add(o, x)
    n = LayerNormalization(r, gain, bias) f = MatMul(n, W1) t = Tanh(f) u = Mul(f, t) d = MatMul(u, W2) e = Add(d, n)
    l = LayerNormalization(e, gain2, bias2) i = Constant<value_int = 0>() c = Gather<axis = 1>(l, i) y = MatMul(c, head)
"""
PARAMETERS = {
    **{name: random(WIDTH, WIDTH, seed=i) / 4 for i, name in enumerate(("Wq", "Wk", "Wv", "Wo"))},
    "W1": random(WIDTH, 4 * WIDTH) / 4,
    "W2": random(4 * WIDTH, WIDTH) / 8,
    "head": random(WIDTH, 5) / 4,
    "gain": random(WIDTH, seed=7),
    "bias": random(WIDTH, seed=8),
    "gain2": random(WIDTH, seed=9),
    "bias2": random(WIDTH, seed=10),
    "mask": random(1, 1, TOKENS, TOKENS),
    "split": np.array([0, TOKENS, HEADS, WIDTH // HEADS]),
    "join": np.array([0, TOKENS, WIDTH]),
}

GRAPHS = {
    "gradient": {"objective": O.unit("y", 3)},
    "vjp": {"layers": ["y"]},
    "jvp": {"layers": ["y"], "product": "jvp"},
    "hvp": {"objective": O.unit("y", 3), "product": "hvp"},
    "gradient of a layer": {"objective": O.unit("y", 3), "wrt": ["n"]},
}


@pytest.mark.parametrize(
    ("backend", "graph"),
    [
        *(pytest.param("training", graph, marks=in_training) for graph in ("gradient", "vjp")),
        *(("portable", graph) for graph in GRAPHS),
    ],
)
def test_one_token_of_an_attention(backend, graph, monkeypatch):
    proto = build(ATTENTION, inputs=f"float[N,{TOKENS},{WIDTH}] x", outputs="float[N,5] y", opset=17, weights=PARAMETERS)
    derived = derive_file(proto, backend=backend, **GRAPHS[graph])
    monkeypatch.setattr(derivatives, "select_early", lambda *_: None)
    whole = derive_file(proto, backend=backend, **GRAPHS[graph])
    sizes = {value.name: value.shape for node in derived.graph for value in node.outputs}
    if graph != "gradient of a layer":
        assert [sizes[name][1] for name in ("q", "k", "r", "u")] == [1, TOKENS, 1, 1]
    else:
        assert [sizes[name][1] for name in ("n", "u")] == [TOKENS, 1]
    feeds = {
        value.name: random(*(2 if isinstance(size, ir.SymbolicDim) else size for size in value.shape), seed=3)
        for value in whole.graph.inputs
    }
    got, expected = Session(derived, 1).run(feeds), Session(whole, 1).run(feeds)
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert relative_error(got[name], array) < TOLERANCE["float32 operator"], name
