"""Element-wise operators, reductions, products, control flow."""

import numpy as np
from support.onnx_models import random
from support.opset_cases.case import OPSETS, Case, X, same

POSITIVE = {"x": np.abs(random(2, 3, 4)) + 0.5}
PAIR = {"a": random(2, 3, 4), "b": random(3, 1)}
POSITIVE_PAIR = {"a": np.abs(random(2, 3, 4)) + 0.5, "b": random(3, 1)}
BOOLS = {"a": random(2, 3, 4) > 0, "b": random(3, 1) > 0}
HALVES = {"x": random(2, 3, dtype="float16")}
WHOLE = {"a": np.arange(-6, 6).reshape(3, 4), "b": np.array([3, 4, 5, 7])}


def _reductions() -> list[Case]:
    cases = []
    for op in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"):
        name = f"Reduce{op}"
        old = range(7, 13 if op == "Sum" else 18)
        cases += [
            Case(name, old, f"y = {name}<axes = [1, 3], keepdims = 0>(x)", {"x": np.abs(random(2, 3, 4, 5)) + 0.1}),
            Case(name, old, f"y = {name}<keepdims = 1>(x)", POSITIVE),
            Case(name, old, f"y = {name}<axes: ints = []>(x)", POSITIVE),
            Case(name, old, f"y = {name}(x)", POSITIVE, symbolic=True),
        ]
    new = {"axes": np.array([0, 2])}
    return [*cases, Case("ReduceSum", range(13, 18), "y = ReduceSum(x, axes)", POSITIVE, weights=new)]


def _coerced() -> list[Case]:
    """Softmax and its kind before opset 13: of the input made a matrix."""
    cases = []
    for op in ("Softmax", "LogSoftmax", "Hardmax"):
        whole = f"Flatten {op} Shape Reshape Identity"
        cases += [
            Case(op, range(7, 13), f"y = {op}(x)", becomes=whole),
            Case(op, range(7, 13), f"y = {op}<axis = 2>(x)", symbolic=True, becomes=whole),
            Case(op, range(7, 13), f"y = {op}<axis = 0>(x)", becomes=whole),
            Case(op, range(7, 13), f"y = {op}<axis = 3>(x)", becomes=f"{op} Identity"),
            Case(op, range(7, 13), f"y = {op}(x)", {"x": random(4, 5)}, symbolic=True, becomes=f"{op} Identity"),
            Case(op, range(7, 13), f"y = {op}(x)", {"x": random(2, 5, 1, 1)}, becomes=f"{op} Identity"),
            Case(op, (11, 12), f"y = {op}<axis = -2>(x)", becomes=whole),
            Case(op, (11, 12), f"y = {op}<axis = -1>(x)", becomes=f"{op} Identity"),
            Case(op, range(13, 18), f"y = {op}(x)", becomes=f"{op} Identity"),
            Case(op, range(13, 18), f"y = {op}<axis = 1>(x)", becomes=f"{op} Identity"),
        ]
    return cases


def _control_flow() -> list[Case]:
    """Bodies are raised too, and read constants that stand in the main graph."""
    narrow = {"x": np.abs(random(2, 3, 1))}
    condition = "s = ReduceSum<keepdims = 0>(x) zero = Constant<value = float {0.0}>() c = Greater(s, zero)"

    def branches(yes: str, no: str) -> str:
        bodies = f"then_branch = a () => (float[] t) {{ t = {yes} }}, else_branch = b () => (float[] e) {{ e = {no} }}"
        return f"{condition} y = If<{bodies}>(c)"

    loop = (
        "body = step (int64 i, bool going, float[3,4] h) => (bool on, float[3,4] next, float[3] row) "
        "{ on = Identity(going) k = Squeeze<axes = [0]>(one) next = Mul(h, k) "
        "row = ReduceMean<axes = [1], keepdims = 0>(next) }"
    )
    scan = (
        "num_scan_inputs = 1, body = step (float[4] h, float[4] element) => (float[4] next, float[1] row) "
        "{ next = Add(h, element) row = ReduceSum<axes = [0]>(next) }"
    )
    rows, start = {"x": random(3, 4)}, {"m": np.array(3), "t": np.array(True), "one": np.float32([0.5])}
    nested = branches("Softmax<axis = 1>(x)", "Clip<min = -0.5, max = 0.5>(x)")
    return [
        *(Case("If", range(7, 11), nested, {"x": sign * narrow["x"]}) for sign in (1, -1)),
        Case(
            "If",
            range(11, 13),
            branches("Softmax<axis = 1>(x)", "Unsqueeze<axes = [-1]>(s)"),
            X,
            "float[a,b,c,d] y",
            checked=False,
        ),
        Case("If", range(11, 18), branches("ReduceMean<axes = [1]>(x)", "Neg(x)"), narrow, "float[a,b,c] y"),
        Case("Loop", range(7, 13), f"y, z = Loop<{loop}>(m, t, x)", rows, "float[3,4] y, float[m,3] z", start),
        Case("Scan", range(9, 13), f"y, z = Scan<{scan}>(h, x)", rows, "float[] y, float[] z", {"h": random(4)}),
    ]


def _others() -> list[Case]:
    a, b, c = random(2, 3), random(3, 4), random(4)
    scores = {"x": random(4, 3)}
    classes = {"t": np.array([0, 2, 1, 1])}
    return [
        Case("Clip", range(7, 11), "y = Clip<min = -0.5, max = 0.6>(x)"),
        Case("Clip", range(7, 11), "y = Clip<max = 0.25>(x)"),
        Case("Clip", range(7, 11), "y = Clip(x)"),
        Case("Clip", range(7, 11), "y = Clip<min = -0.5>(x)", HALVES, "float16[] y"),
        Case("Clip", (11,), "y = Clip(x, lo)", HALVES, "float16[] y", weights={"lo": np.float16(0)}),
        Case("Clip", range(11, 18), "y = Clip(x, , hi)", weights={"hi": np.float32(0)}),
        Case("Clip", range(11, 18), "y = Clip(x, lo)", weights={"lo": np.float32(0)}),
        Case("Gemm", OPSETS, "y = Gemm<alpha = 0.5, beta = 2.0>(a, b, c)", {"a": a}, weights={"b": b, "c": c}),
        Case(
            "Gemm",
            OPSETS,
            "y = Gemm<transA = 1, transB = 1>(a, b, c)",
            {"a": a},
            weights={"b": random(4, 2), "c": c},
        ),
        Case("Gemm", range(11, 18), "y = Gemm(a, b)", {"a": a}, weights={"b": b}),
        Case("MatMul", OPSETS, "y = MatMul(x, b)", {"x": random(2, 2, 3)}, weights={"b": b}),
        Case("Einsum", range(12, 18), 'y = Einsum<equation = "ij,jk->ik">(x, b)', {"x": a}, weights={"b": b}),
        Case("Dropout", range(7, 12), "y = Dropout<ratio = 0.3>(x)"),
        Case("Dropout", OPSETS, "y = Dropout(x)"),
        Case("Dropout", range(12, 18), "y = Dropout(x, r)", weights={"r": np.float32(0.3)}),
        Case("Constant", OPSETS, "k = Constant<value = float[2] {1.5, -2.0}>() y = Mul(x, k)", {"x": random(3, 2)}),
        Case("Constant", range(12, 18), "k = Constant<value_floats = [1.5, -2.0]>() y = Mul(x, k)", {"x": random(3, 2)}),
        Case("Cast", OPSETS, "i = Cast<to = 7>(x) y = Cast<to = 1>(i)"),
        Case("Cast", range(9, 18), "h = Cast<to = 10>(x) y = Cast<to = 1>(h)"),
        Case("Identity", OPSETS, "y = Identity(x)"),
        Case("PRelu", OPSETS, "y = PRelu(x, s)", weights={"s": random(3, 1, 1)}),
        Case("Where", range(9, 18), "y = Where(c, x, x2)", {"c": random(3, 4) > 0, "x": random(3, 4), "x2": random(4)}),
        Case(
            "Range",
            range(11, 18),
            "y = Range(x, e, d)",
            {"x": np.array(1, np.float32), "e": np.array(5, np.float32), "d": np.array(1.5, np.float32)},
        ),
        Case("SoftmaxCrossEntropyLoss", range(12, 18), "y = SoftmaxCrossEntropyLoss(x, t)", scores, "float y", classes),
        Case("NegativeLogLikelihoodLoss", range(12, 18), "y = NegativeLogLikelihoodLoss(x, t)", scores, "float y", classes),
        Case("OptionalHasElement", range(15, 18), "o = Optional(x) y = OptionalHasElement(o)", outputs="bool y"),
        Case("OptionalGetElement", range(15, 18), "o = Optional(x) y = OptionalGetElement(o)"),
        Case("SequenceAt", range(11, 18), "s = SequenceConstruct(x, x) y = SequenceAt(s, k)", weights={"k": np.array(1)}),
    ]


_ELEMENTWISE = (
    *same(
        "Abs Neg Ceil Floor Exp Relu Sigmoid Tanh LeakyRelu Elu Selu HardSigmoid Softplus Softsign Sin Cos Tan Atan",
        7,
        "y = OP(x)",
    ),
    *same("Sign Erf Sinh Cosh Asinh Shrink", 9, "y = OP(x)"),
    *same("Round Celu ThresholdedRelu", 12, "y = OP(x)"),
    *same("HardSwish", 14, "y = OP(x)"),
    *same("Log Sqrt Reciprocal", 7, "y = OP(x)", POSITIVE),
    *same("IsNaN", 9, "y = OP(x)", outputs="bool[] y"),
    *same("IsInf", 10, "y = OP(x)", outputs="bool[] y"),
    *same("Add Sub Mul Div", 7, "y = OP(a, b)", PAIR),
    *same("Pow", 7, "y = OP(a, b)", POSITIVE_PAIR),
    *same("Max Min Mean Sum", 8, "y = OP(a, b)", PAIR),
    *same("Max Min Mean Sum", 7, "y = OP(x, x)"),
    *same("Greater Less", 7, "y = OP(a, b)", PAIR, outputs="bool[] y"),
    *same("Equal", 7, "y = OP(a, b)", WHOLE, outputs="bool[] y"),
    *same("GreaterOrEqual LessOrEqual", 12, "y = OP(a, b)", PAIR, outputs="bool[] y"),
    *same("And Or Xor", 7, "y = OP(a, b)", BOOLS, outputs="bool[] y"),
    *same("Not", 7, "y = OP(a)", {"a": BOOLS["a"]}, outputs="bool[] y"),
    *same("Mod", 10, "y = OP(a, b)", WHOLE, outputs="int64[] y"),
)

CASES = (*_ELEMENTWISE, *_reductions(), *_coerced(), *_control_flow(), *_others())
