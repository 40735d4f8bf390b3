"""Integers are divided as NumPy divides them, also by 0 and by -1; what needs no guard stays as it is."""

import itertools

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx.helper import np_dtype_to_tensor_dtype
from support.onnx_models import build

from gradserve_server.graph.inference_form import to_inference_form
from gradserve_server.graph.inference_form.guard_integer_division import COMPUTED, SELECTING
from gradserve_server.graph.load import read

DTYPES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
OPSETS = range(7, 22)

WITHOUT_KERNEL = {"Div": set(DTYPES) - {"int32", "int64"}, "Mod": set()}
"""Types that onnxruntime 1.19 does not divide at all: `test_types_without_a_kernel` watches this table."""


def rewrite(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    form = to_inference_form(ir.from_proto(model))
    served, reference = ir.to_proto(form.model), ir.to_proto(form.reference)
    onnx.checker.check_model(served, full_check=True)
    onnx.checker.check_model(reference, full_check=True)
    return reference, form.rewrites


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def divide(op: str, dtype: str, opset: int = 14) -> onnx.ModelProto:
    return build(f"y = {op}(a, b)", inputs=f"{dtype}[N] a, {dtype}[N] b", outputs=f"{dtype}[N] y", opset=opset)


def pairs(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Each of the extremes by each, and numbers at random by each."""
    limits = np.iinfo(dtype)
    edges = {limits.min, limits.min + 1, limits.max, limits.max - 1, limits.max // 2, 0, 1, 2, 3, 7}
    edges |= {-1, -2, -3, -7} if limits.min else set()
    random = np.random.default_rng(0).integers(limits.min, limits.max, 20, dtype, endpoint=True)
    table = np.array(list(itertools.product([*edges, *random.tolist()], repeat=2)), dtype)
    return table[:, 0].copy(), table[:, 1].copy()


def trunc(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The quotient rounded towards 0, by Python's integers; NumPy's result of 0 for a divisor of 0, and its wrapping."""
    size = 8 * a.dtype.itemsize
    ints = zip(a.tolist(), b.tolist(), strict=True)
    quotients = [(abs(x) // abs(y)) * (1 if (x < 0) == (y < 0) else -1) if y else 0 for x, y in ints]
    wrapped = [q % 2**size - (2**size if a.dtype.kind == "i" and q % 2**size >= 2 ** (size - 1) else 0) for q in quotients]
    return np.array(wrapped, a.dtype)


def expected(op: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", over="ignore"):
        return {"Div": trunc, "Mod": np.mod, "Mod<fmod = 1>": np.fmod}[op](a, b)


CASES = [("Div", "int32"), ("Div", "int64"), *(("Mod", dtype) for dtype in DTYPES)]


@pytest.mark.parametrize(("op", "dtype"), CASES)
@pytest.mark.parametrize("opset", OPSETS)
def test_values(op, dtype, opset):
    if op == "Mod" and opset < 10:
        pytest.skip("Mod begins at opset 10")
    guarded, rewrites = rewrite(divide(op, dtype, opset))
    a, b = pairs(dtype)
    got = run(guarded, {"a": a, "b": b})
    np.testing.assert_array_equal(got, expected(op, a, b), strict=True)
    assert "guarded 1 integer divisions against divisors of 0 and -1" in rewrites


@pytest.mark.parametrize("dtype", DTYPES)
def test_remainders_with_the_sign_of_the_dividend(dtype):
    guarded, _ = rewrite(divide("Mod<fmod = 1>", dtype))
    a, b = pairs(dtype)
    # onnxruntime computes them in float64, which does not hold every integer of 64 bits.
    exact = np.ones(a.shape, bool) if a.dtype.itemsize < 8 else (np.abs(a) < 2**53) & (np.abs(b) < 2**53)
    exact |= (b == 0) | (b == 1)
    if a.dtype.kind == "i":
        exact &= (a != np.iinfo(dtype).min) | (b != -1)
        exact |= b == -1
    got, wanted = run(guarded, {"a": a, "b": b}), expected("Mod<fmod = 1>", a, b)
    np.testing.assert_array_equal(got[exact], wanted[exact], strict=True)


@pytest.mark.parametrize(("op", "dtype"), [("Div", "int32"), ("Div", "int64"), ("Mod", "int32"), ("Mod", "int64")])
def test_other_divisors_give_the_bits_that_the_kernel_gives(op, dtype):
    model = divide(op, dtype)
    a, b = pairs(dtype)
    harmless = ~np.isin(b, (0, -1))
    feeds = {"a": a[harmless], "b": b[harmless]}
    np.testing.assert_array_equal(run(rewrite(model)[0], feeds), run(model, feeds), strict=True)


@pytest.mark.parametrize("op", WITHOUT_KERNEL)
@pytest.mark.parametrize("dtype", DTYPES)
def test_types_without_a_kernel(op, dtype):
    """What onnxruntime does not divide unguarded, it does not guarded; all else is in `CASES`."""
    guarded, _ = rewrite(divide(op, dtype))
    if dtype not in WITHOUT_KERNEL[op]:
        assert (op, dtype) in CASES
        run(guarded, {"a": np.ones(1, dtype), "b": np.zeros(1, dtype)})
        return
    try:
        got = run(guarded, {"a": np.full(1, 7, dtype), "b": np.zeros(1, dtype)})
    except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented:
        return
    np.testing.assert_array_equal(got, np.zeros(1, dtype))  # a newer onnxruntime has it


@pytest.mark.parametrize("dtype", sorted(set(DTYPES) - {dtype.name.lower() for dtype in COMPUTED}))
def test_a_quotient_of_every_type_is_valid_and_right(dtype):
    """By onnx's own evaluator, which divides what onnxruntime does not."""
    guarded, _ = rewrite(divide("Div", dtype))
    a, b = pairs(dtype)
    some = (b == 0) | (b.astype(np.int64) == -1) | ((a.astype(np.int64) >= 0) & (b.astype(np.int64) >= 0) & (b < 127))
    some &= ~((b.astype(np.int64) == -1) & (np.dtype(dtype).kind == "u"))
    with np.errstate(over="ignore"):
        (got,) = onnx.reference.ReferenceEvaluator(guarded).run(None, {"a": a[some], "b": b[some]})
    np.testing.assert_array_equal(got, trunc(a[some], b[some]), strict=True)


# ---- where it stands -------------------------------------------------------------------------------------------------

LOWEST = np.iinfo(np.int64).min
INPUTS, OUTPUTS = "int64[N] a, int64[N] b, bool c", "int64[N] y"
BRANCH = "{name} () => (int64[N] {name}_y) {{ {name}_y = Div(a, b) }}"
BRANCHES = f"then_branch = {BRANCH.format(name='yes')}, else_branch = {BRANCH.format(name='no')}"
LOOP = "body (int64 i, bool go, int64[N] s) => (bool on, int64[N] t) { on = Identity(go) t = Div(s, b) }"
SCAN = "body (int64 p, int64 q) => (int64 r) { r = Div(p, q) }"
NESTED = f"outer () => (int64[N] o) {{ o = If<{BRANCHES}>(c) }}"
IDLE = "idle () => (int64[N] e) { e = Identity(a) }"
PLACES = {
    "If": f"y = If<{BRANCHES}>(c)",
    "Loop": f"y = Loop<body = {LOOP}>(once, , a)",
    "Scan": f"y = Scan<body = {SCAN}, num_scan_inputs = 2>(a, b)",
    "If in If": f"y = If<then_branch = {NESTED}, else_branch = {IDLE}>(c)",
    "in a row": "h = Div(a, b) z = Sub(b, b) y = Mod(h, z)",
    "by itself": "h = Div(b, b) y = Div(a, h)",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("opset", [13, 21])
def test_everywhere(place, opset):
    model = build(PLACES[place], inputs=INPUTS, outputs=OUTPUTS, opset=opset, weights={"once": np.array(1)})
    guarded, rewrites = rewrite(model)
    a, b = np.array([7, -7, LOWEST, 9, 5]), np.array([0, 2, -1, 0, -1])
    got = run(guarded, {"a": a, "b": b, "c": np.array(True)})
    by_hand = {"in a row": np.zeros(5, np.int64), "by itself": np.array([0, -7, LOWEST, 0, 5])}
    np.testing.assert_array_equal(got, by_hand.get(place, trunc(a, b)))
    assert any(line.startswith("guarded ") for line in rewrites)


def test_in_a_function():
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "local" : 1]> m (int64[N] a, int64[N] b) => (int64[N] y)'
        " { y = local.halve(a, b) }"
        ' <domain: "local", opset_import: ["" : 17]> halve (p, q) => (r) { r = Div(p, q) }'
    )
    form = to_inference_form(read(model))
    got = run(ir.to_proto(form.model), {"a": np.array([7, 8]), "b": np.array([0, -1])})
    np.testing.assert_array_equal(got, [0, -8])


def test_shapes_broadcast():
    body = "y = Div(a, b)"
    model = build(body, inputs="int64[2,1] a, int64[3] b", outputs="int64[2,3] y")
    a, b = np.array([[7], [-7]]), np.array([0, -1, 2])
    np.testing.assert_array_equal(run(rewrite(model)[0], {"a": a, "b": b}), [[0, -7, 3], [0, 7, -3]])


def test_the_output_keeps_its_name_and_new_names_are_new():
    model = build(
        "y_Cast = Identity(a) h = Div(a, b) z = Identity(h) y = Add(z, y_Cast)",
        inputs="int64[N] a, int64[N] b",
        outputs=OUTPUTS,
    )
    guarded, _ = rewrite(model)
    names = [name for node in guarded.graph.node for name in node.output]
    assert "h" in names
    assert len(names) == len(set(names))


# ---- what needs no guard ---------------------------------------------------------------------------------------------

UNTOUCHED = {
    "a constant": "y = Div(a, k)",
    "a constant of another shape": "h = Unsqueeze(k, zero) i = Reshape(h, minus) y = Mod(a, i)",
    "a constant of another type": "h = Cast<to = 7>(small) y = Div(a, h)",
    "one of constants": "h = Gather(ks, b) y = Div(a, h)",
    "a constant node": "h = Constant<value = int64 {4}>() y = Div(a, h)",
}
CONSTANTS = {
    "k": np.array([3]),
    "ks": np.array([3, 5, -2]),
    "zero": np.array([0]),
    "minus": np.array([-1]),
    "small": np.array([3], np.int32),
    "z": np.array([2, 0]),
    "n": np.array([2, -1]),
    "wraps": np.array([2**32]),
}


@pytest.mark.parametrize("case", UNTOUCHED)
def test_stays(case):
    model = build(UNTOUCHED[case], inputs="int64[N] a, int64[N] b", outputs=OUTPUTS, weights=CONSTANTS)
    guarded, rewrites = rewrite(model)
    assert [node.op_type for node in guarded.graph.node if node.op_type == "Equal"] == []
    assert not any("guarded" in line for line in rewrites)


def test_floats_stay():
    model = build("y = Div(a, b)", inputs="float[N] a, float[N] b", outputs="float[N] y", opset=18)
    guarded, rewrites = rewrite(model)
    assert [node.op_type for node in guarded.graph.node] == ["Div"]
    assert rewrites == ()


GUARDED = {
    "a constant with 0": ("y = Div(a, z)", [3, 0]),
    "a constant with -1": ("y = Div(a, n)", [3, LOWEST]),
    "a constant that another type makes 0": ("h = Cast<to = 6>(wraps) i = Cast<to = 7>(h) y = Div(a, i)", [0, 0]),
    "a shape": ("h = Shape(e) y = Div(a, h)", [0, LOWEST // 2]),
}


@pytest.mark.parametrize("case", GUARDED)
def test_may_be_zero(case):
    body, quotients = GUARDED[case]
    model = build(body, inputs="int64[N] a, float[P,Q] e", outputs=OUTPUTS, weights=CONSTANTS)
    guarded, _ = rewrite(model)
    feeds = {"a": np.array([6, LOWEST]), "e": np.zeros((0, 2), np.float32)}
    names = {value.name for value in guarded.graph.input}
    np.testing.assert_array_equal(run(guarded, {name: feeds[name] for name in names}), quotients)


def test_what_has_no_type_is_named():
    """An operator that only onnxruntime knows, before a division."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> m (int64[N] a) => (y)'
        " { h = com.microsoft.Unheard(a) i = com.microsoft.Unheard(a) y = Div(h, i) }"
    )
    form = to_inference_form(ir.from_proto(model))
    assert "left node 'making y' (Div, opset 17) unguarded, whose element type is not known" in form.rewrites


@pytest.mark.parametrize("op", sorted(SELECTING))
def test_what_selects_makes_no_values(op):
    """Each operator of the table gives, of distinct values, values of its first input only."""
    more = {
        "Expand": [[2, 3, 4]], "Flatten": [], "Gather": [[0, 0]], "Identity": [], "Reshape": [[-1]], "Slice": [[0], [2]],
        "Squeeze": [], "Tile": [[2, 1, 2]], "Transpose": [], "Unsqueeze": [[0]],
    }[op]  # fmt: skip
    names = ["x", *(f"i{number}" for number in range(len(more)))]
    node = onnx.helper.make_node(op, names, ["y"])
    x = np.arange(5, 17).reshape(1, 3, 4)
    feeds = dict(zip(names, [x, *map(np.array, more)], strict=True))
    (y,) = onnx.reference.ReferenceEvaluator(node, opsets={"": 17}).run(None, feeds)
    assert set(np.unique(y)) <= set(np.unique(x))
    assert np_dtype_to_tensor_dtype(y.dtype) == onnx.TensorProto.INT64
