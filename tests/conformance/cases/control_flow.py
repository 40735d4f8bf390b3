"""If, Scan and Loop, with captured values, nested."""

import numpy as np
import torch
from conformance.case import Case

SINCE = (18, 19, 21, 23, 24, 25)
YES, NO = np.array(True), np.array(False)

IF = """Y = If (C) <
    then_branch = yes () => (a) { s = Sigmoid(A)  m = Mul(s, B)  a = Tanh(m) },
    else_branch = no () => (b) { b = Mul(B, B) }
>"""
NESTED = """D = Mul(A, B)  Y = If (C) <
    then_branch = yes () => (a) {
        d = Mul(D, A)
        e = If (I) <then_branch = inner () => (f) { f = Mul(d, B) }, else_branch = other () => (h) { h = Sigmoid(A) }>
        a = Add(d, e)
    },
    else_branch = no () => (b) { b = Mul(B, B) }
>"""
TWICE = """Y, Z = If (C) <
    then_branch = yes () => (a, a2) { a = Mul(A, B)  a2 = Tanh(a) },
    else_branch = no () => (b, b2) { b = Mul(B, B)  b2 = Mul(b, b) }
>"""
SHAPES = """Y = If (C) <
    then_branch = yes () => (a) { a = Mul(A, B) },
    else_branch = no () => (b) { b = MatMul(A, M) }
>"""
LIFTED = """Y = If (C) <
    then_branch = yes () => (a) { k = Constant<value_float = 2.0>()  l = CastLike(k, A)  a = Mul(A, l) },
    else_branch = no () => (b) { b = Identity(B) }
>"""

SCAN = """Y, Z = Scan <num_scan_inputs = 1, body = step (s, x) => (t, u) {
    w = MatMul(s, W)  v = Add(w, x)  t = Tanh(v)  u = Mul(t, x)
}> (H, X)"""
LAYOUT = """Y, Z, V = Scan <
    num_scan_inputs = 2, scan_input_axes = [1, -1], scan_input_directions = [1, 0],
    scan_output_axes = [1, 0], scan_output_directions = [1, 0],
    body = step (s, x, y) => (t, u, v) { p = Mul(s, x)  q = Add(p, y)  t = Sigmoid(q)  u = Mul(q, y)  v = Identity(t) }
> (H, A, B)"""
# No state, and one that is a number of steps, not a float.
COUNTING = """N, Y, Z = Scan <num_scan_inputs = 1, body = step (n, s, x) => (n2, t, u) {
    one = Constant<value_int = 1>()  n2 = Add(n, one)  f = CastLike(n2, x)  y = Mul(x, f)  t = Add(s, y)  u = Mul(y, y)
}> (I, H, X)"""
STATELESS = """Y = Scan <num_scan_inputs = 1, body = step (x) => (u) { y = Mul(x, W)  u = Tanh(y) }> (X)"""
BRANCHING = """Y = Scan <num_scan_inputs = 2, body = step (s, x, c) => (t) {
    t = If (c) <then_branch = yes () => (a) { a = Mul(s, x) }, else_branch = no () => (b) { w = Mul(W, x)  b = Add(s, w) }>
}> (H, X, C)"""

LOOP = """N = Constant<value_int = 3>()  go = Constant<value = bool {1}>()
Y, Z = Loop <body = step (int64 i, bool c, T[B, 3] s) => (c2, t, u) {
    c2 = Identity(c)  w = MatMul(s, W)  f = CastLike(i, s)  x = Add(w, f)  t = Tanh(x)  u = Mul(t, A)
}> (N, go, S)"""
# Ends before its trip count.
WHILE = """N = Constant<value_int = 9>()  go = Constant<value = bool {1}>()
Y, Z = Loop <body = step (int64 i, bool c, T[B, 3] s) => (c2, t, u) {
    t = Mul(s, A)  two = Constant<value_int = 2>()  c2 = Less(i, two)  u = Mul(t, t)
}> (N, go, S)"""


def _scan(h, w, x):
    outputs = []
    for row in x:
        h = torch.tanh(h @ w + row)
        outputs.append(h * row)
    return h, torch.stack(outputs)


def _layout(h, a, b):
    us, vs = [], []
    for t in range(3):
        q = h * a[:, 2 - t] + b[..., t]
        h = torch.sigmoid(q)
        us.insert(0, q * b[..., t])
        vs.append(h)
    return h, torch.stack(us, 1), torch.stack(vs, 0)


def _counting(h, x):
    factors = torch.arange(1, 4, dtype=x.dtype)[:, None]
    return h + (x * factors).sum(0), (x * factors) ** 2


def _branching(h, w, x):
    for row, taken in zip(x, (True, False, True), strict=True):
        h = h * row if taken else h + w * row
    return h


def _loop3(s, w, a):
    outputs = []
    for i in range(3):
        s = torch.tanh(s @ w + i)
        outputs.append(s * a)
    return s, torch.stack(outputs)


def _while(s, a):
    outputs = []
    for _ in range(3):
        s = s * a
        outputs.append(s * s)
    return s, torch.stack(outputs)


AB = {"A": (2, 3), "B": (2, 3)}
H = {"H": (2, 3), "W": (3, 3), "X": (4, 2, 3)}

CASES = [
    Case("If", IF, AB, lambda a, b: torch.tanh(a.sigmoid() * b), others={"C": YES}, opsets=SINCE, name="then"),
    Case("If", IF, AB, lambda _, b: b * b, others={"C": NO}, opsets=SINCE, name="else"),
    Case("If", NESTED, AB, lambda a, b: a * b * a + a * b * a * b, others={"C": YES, "I": YES}, name="nested"),
    Case("If", NESTED, AB, lambda a, b: a * b * a + a.sigmoid(), others={"C": YES, "I": NO}, name="nested else"),
    Case("If", TWICE, AB, lambda a, b: (a * b, torch.tanh(a * b)), others={"C": YES}, outputs=("Y", "Z"), name="outputs"),
    Case("If", LIFTED, AB, lambda a, _: 2 * a, others={"C": YES}, name="constant"),
    Case("If", LIFTED, AB, lambda _, b: b, others={"C": NO}, name="passed on"),
    Case(
        "If",
        SHAPES,
        {"A": (2, 3), "B": (2, 3), "M": (3, 5)},
        lambda a, _, m: a @ m,
        others={"C": NO},
        name="shapes",
        evaluator=False,
    ),
    Case("Scan", SCAN, H, _scan, outputs=("Y", "Z"), opsets=SINCE),
    Case(
        "Scan",
        LAYOUT,
        {"H": (2, 4), "A": (2, 3, 4), "B": (2, 4, 3)},
        _layout,
        outputs=("Y", "Z", "V"),
        name="layout",
        evaluator=False,  # its Scan has neither axes nor directions
    ),
    Case(
        "Scan",
        COUNTING,
        {"H": (2,), "X": (3, 2)},
        _counting,
        others={"I": np.array(0)},
        outputs=("Y", "Z"),
        name="counting",
    ),
    Case("Scan", STATELESS, {"W": (2,), "X": (3, 2)}, lambda w, x: torch.tanh(x * w), name="stateless"),
    Case(
        "Scan",
        BRANCHING,
        {"H": (2,), "W": (2,), "X": (3, 2)},
        _branching,
        others={"C": np.array([True, False, True])},
        name="branching",
    ),
    Case("Loop", LOOP, {"S": (2, 3), "W": (3, 3), "A": (2, 3)}, _loop3, outputs=("Y", "Z"), opsets=SINCE),
    Case("Loop", WHILE, {"S": (2, 3), "A": (2, 3)}, _while, outputs=("Y", "Z"), name="while"),
]
