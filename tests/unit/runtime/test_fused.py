"""Which nodes become one program, and that it computes what they did."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.onnx_models import build, random
from support.reference import relative_error
from support.tolerances import TOLERANCE
from support.tuned import BLOCKS, OURS, assert_same, operators_of, tuned_of

from gradserve import objectives as O
from gradserve_server.gradient_graph import derive_file
from gradserve_server.graph.contrib_shapes import infer_shapes
from gradserve_server.graph.tuning import tune
from gradserve_server.graph.tuning.fused import BLOCKED, REDUCTIONS, TABLE, fuse
from gradserve_server.runtime.session import Session

# ---- which nodes become one ------------------------------------------------------------------------------------------

OPERANDS = {
    "Clip": "a, low, high",
    "Expand": "m, whole",
    "Pow": "a, two",
    "Max": "a, b, x",
    "Min": "a, b",
    "Sum": "a, b, x",
    **dict.fromkeys(("Add", "Div", "Mul", "Sub"), "a, b"),
    **dict.fromkeys(REDUCTIONS, "a, last"),
}
NUMBERS = {
    "low": np.array(0.2, np.float32),
    "high": np.array(0.6, np.float32),
    "two": np.array(2, np.float32),
    "half": np.array(0.5, np.float32),
    "last": np.array([3]),
    "space": np.array([2, 3]),
    "scale": random(16, seed=9),
    "channel": random(4, 1, 1, seed=8),
}


@pytest.mark.parametrize("op", [*TABLE, *REDUCTIONS])
def test_every_operator_of_the_tables_is_fused(op):
    given = "p = Abs(x) a = Add(p, half) b = Sub(a, x) m = ReduceMean(x, last) whole = Shape(x)"
    body = f"{given} y = {op}({OPERANDS.get(op, 'a')})"
    used = {name: array for name, array in NUMBERS.items() if name in body}
    tail = " z = Mul(y, x)"
    proto = build(body + tail, inputs="float[N,4,5,16] x", outputs="float[N,4,5,16] z", opset=18, weights=used)
    model, tuned = tuned_of(proto)
    assert operators_of(tuned).keys() <= {"Fused", "Shape"}
    assert_same(model, tuned, {"x": random(3, 4, 5, 16)})


GRAPHS = {
    "softmax gradient": "e = Exp(x) s = ReduceSum(e, last) p = Div(e, s) q = Mul(p, x) t = ReduceSum(q, last)"
    " d = Sub(x, t) y = Mul(d, p)",
    "a value read in between": "a = Neg(x) b = Abs(a) c = Cos(b) d = Mul(a, b) y = Add(d, c)",
    "two reductions of one row, one after the other": "m = ReduceMean(x, last) d = Sub(x, m) s = Mul(d, d)"
    " v = ReduceMean(s, last) w = Add(v, half) r = Sqrt(w) z = Div(d, r) y = Mul(z, scale)",
    "over positions": "m = ReduceMean(x, space) s = Sigmoid(m) y = Mul(x, s)",
    "over different axes": "m = ReduceMean(x, space) s = Mul(x, m) n = ReduceSum(s, last) y = Add(s, n)",
    "numbers for each channel": "a = Mul(x, channel) b = Add(a, channel) y = Relu(b)",
    "a result in the place of an operand": "a = Neg(x) c = Cos(a) d = Exp(c) e = Sub(d, c) f = Mul(e, c) y = Cos(f)",
    "an operand read after a result": "a = Cos(x) b = Neg(a) c = Mul(b, a) d = Mul(c, a) e = Cos(b) y = Add(d, e)",
    "the same operand twice": "a = Mul(x, x) b = Add(a, a) y = Sub(b, x)",
    "a row's number spread over the row": "n = Neg(x) m = ReduceMean(n, last) whole = Shape(x) y = Expand(m, whole)",
    "a live subgraph that reads a value": "a = Neg(x) b = Abs(a) t = ReduceSum<keepdims = 0>(b) c = Greater(t, t)"
    " d = If<then_branch = p () => (float[N,4,5,16] u) { u = Mul(a, b) },"
    " else_branch = q () => (float[N,4,5,16] v) { v = Sub(a, b) }>(c) e = Exp(b) f = Mul(e, a) y = Add(f, d)",
}


@pytest.mark.parametrize("body", GRAPHS.values(), ids=GRAPHS)
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_graphs_compute_the_same(body, batch):
    used = {name: array for name, array in NUMBERS.items() if name in body}
    proto = build(body, inputs="float[N,4,5,16] x", outputs="float[N,4,5,16] y", opset=18, weights=used)
    model, tuned = tuned_of(proto)
    assert operators_of(tuned)["Fused"]
    assert_same(model, tuned, {"x": random(batch, 4, 5, 16)})


BINARY, UNARY = ["Add", "Sub", "Mul", "Max"], ["Neg", "Abs", "Sigmoid", "Tanh", "Cos", "Relu"]
"""Cos is none that we fuse: it lies between the others."""


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_graphs_compute_the_same(data):
    values, lines = ["x", "w"], []
    for i in range(data.draw(st.integers(3, 14))):
        recent = st.sampled_from(values[-5:])
        kind = data.draw(st.sampled_from(["unary", "binary", "binary", "row"]))
        if kind == "row":
            lines.append(f"m{i} = ReduceMean({data.draw(recent)}, last) v{i} = Sub({data.draw(recent)}, m{i})")
        elif kind == "unary":
            lines.append(f"v{i} = {data.draw(st.sampled_from(UNARY))}({data.draw(recent)})")
        else:
            lines.append(
                f"v{i} = {data.draw(st.sampled_from(BINARY))}({data.draw(recent)}, {data.draw(st.sampled_from(values))})"
            )
        values.append(f"v{i}")
    outputs = sorted({values[-1], *data.draw(st.lists(st.sampled_from(values[2:]), max_size=2))})
    body = " ".join(lines)
    proto = build(
        body,
        inputs="float[N,3,16] x, float[N,3,16] w",
        outputs=", ".join(f"float[N,3,16] {name}" for name in outputs),
        opset=18,
        weights={"last": np.array([2])} if "last" in body else {},
    )
    model, tuned = tuned_of(proto)
    feeds = {"x": random(2, 3, 16, seed=1), "w": random(2, 3, 16, seed=2)}
    expected, got = Session(model, 1).run(feeds), Session(tuned, 1).run(feeds)
    for name, array in expected.items():
        # Of the largest of all values: a difference of equal numbers is rounding only.
        scale = max(1.0, *(float(np.abs(other).max()) for other in expected.values()))
        assert np.abs(got[name] - array).max() < TOLERANCE["float32 operator"] * scale, body


ACTIVATIONS = {
    "swish": "s = Sigmoid(h) y = Mul(h, s)",
    "gelu": "k = Div(h, root) e = Erf(k) f = Add(e, one) g = Mul(h, f) y = Mul(g, half)",
    "hard swish": "y = HardSwish(h)",
    "clip": "y = Clip(h, low, high)",
}


@pytest.mark.parametrize("backend", ["portable"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_slope_reads_what_went_in_and_the_cotangent_only(name, backend):
    body = f"h = MatMul(x, W) {ACTIVATIONS[name]} z = MatMul(y, W)"
    numbers = NUMBERS | {"W": random(32, 32), "root": np.array(2**0.5, np.float32), "one": np.array(1, np.float32)}
    used = {key: array for key, array in numbers.items() if key in body}
    proto = build(body, inputs="float[N,7,32] x", outputs="float[N,7,32] z", opset=18, weights=used)
    model = derive_file(proto, O.cotangent("z", random(1, 7, 32)), backend=backend)
    tuned = model.clone()
    tune(tuned, OURS)
    slope = [node for node in tuned.graph if node.op_type == "Fused" and node.outputs[0].shape[-1] == 32][-1]
    assert len(slope.inputs) == 2
    feeds = {"x": random(1, 7, 32, seed=3)}
    expected, got = Session(model, 2).run(feeds), Session(tuned, 2).run(feeds)
    assert relative_error(got["grad/x"], expected["grad/x"]) < TOLERANCE["float32 operator"]


# ---- in blocks -------------------------------------------------------------------------------------------------------

IMAGES = {
    "a mean read in both forms": "c = Cos(h) m = ReduceMean(h, space) s = Sub(h, m) r = Conv(s, V) u = Conv(c, V)"
    " y = Add(r, u)",
    "a mean of blocks with a plain image": "m = ReduceMean(h, space) c = Cos(x) s = Mul(c, m) y = Conv(s, V)",
    "a mean spread over an image": "m = ReduceMean(h, space) z = Shape(h) e = Expand(m, z) n = Neg(e) k = Cos(n)"
    " y = Conv(k, V)",
    "a power of channels": "r = Abs(h) s = Pow(r, exponents) y = Conv(s, V)",
    "a power of each channel": "m = ReduceMean(h, space) r = Abs(h) s = Pow(r, m) y = Conv(s, V)",
    "InstanceNormalization": "n = InstanceNormalization(h, scale, offset) r = Relu(n) y = Conv(r, V)",
}
IMAGE_WEIGHTS = {
    "W": random(32, 32, 1, 1) / 6,
    "V": random(32, 32, 1, 1, seed=5) / 6,
    "space": np.array([2, 3]),
    "exponents": np.abs(random(32, 1, 1)) + 1,
    "scale": random(32, seed=6),
    "offset": random(32, seed=7),
}


@pytest.mark.parametrize("sizes", ["10,12", "H,L"])
@pytest.mark.parametrize("body", IMAGES.values(), ids=IMAGES)
def test_blocked_and_plain_images_are_never_mixed(body, sizes):
    body = f"h = Conv(x, W) {body}"
    used = {name: array for name, array in IMAGE_WEIGHTS.items() if name in body}
    proto = build(body, inputs=f"float[N,32,{sizes}] x", outputs=f"float[N,32,{sizes}] y", opset=18, weights=used)
    model = ir.from_proto(proto)
    infer_shapes(model)
    feeds = {"x": random(2, 32, 10, 12)}
    graphs = [(model, "float32 operator")]
    if sizes == "10,12":  # a sum over a layer wants to know its sizes
        gradient = derive_file(proto, O.channel_energy("y", 1), backend="portable")
        graphs.append((gradient, "float32 second derivative"))
    for graph, tolerance in graphs:
        tuned = graph.clone()
        tune(tuned, BLOCKS)
        assert_same(graph, tuned, feeds, tolerance)


def test_a_node_in_blocks_that_no_program_has_is_said():
    model = ir.from_proto(build("y = Cos(x)", inputs="float[N,32,4,4] x", opset=18))
    for node in model.graph:
        node.domain = BLOCKED
        node.attributes.add(ir.AttrInt64("block", 16))
    with pytest.raises(ValueError, match="Cos: on blocked tensors, and in no program"):
        fuse(model)
