"""Our operators for onnxruntime: programs of instructions, which nodes become one, and the gradient of a maximum."""

import math
from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.onnx_models import build, random
from support.reference import relative_error
from support.tolerances import TOLERANCE

from gradserve import objectives as O
from gradserve.errors import InvalidModel, RunFailed
from gradserve_server.gradient_graph import derive_file
from gradserve_server.graph.contrib_shapes import infer_shapes
from gradserve_server.graph.tuning import Machine, tune
from gradserve_server.graph.tuning.fused import BLOCKED, DOMAIN, REDUCTIONS, TABLE, fuse
from gradserve_server.runtime import operators
from gradserve_server.runtime.block_size import block_size
from gradserve_server.runtime.session import Session

OURS = Machine(None, operators=True)


def test_this_runtime_has_them():
    assert operators.have_operators()


def run_program(program, *inputs, axis=0, lanes=1, block=1, narrow=(0,), threads=2):
    names = [f"i{i}" for i in range(len(inputs))]
    outs = [f"o{i}" for i in range(len(narrow))]
    info = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node(
        "Fused", names, outs, domain=DOMAIN, program=program, axis=axis, lanes=lanes, block=block, narrow=list(narrow)
    )
    graph = onnx.helper.make_graph(
        [node],
        "program",
        [info(name, onnx.TensorProto.FLOAT, array.shape) for name, array in zip(names, inputs, strict=True)],
        [info(name, onnx.TensorProto.FLOAT, None) for name in outs],
    )
    imports = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid(DOMAIN, 1)]
    model = onnx.helper.make_model(graph, ir_version=10, opset_imports=imports)
    got = Session(ir.from_proto(model), threads).run(dict(zip(names, inputs, strict=True)))
    return [got[name] for name in outs]


# ---- instructions ----------------------------------------------------------------------------------------------------

SPECIAL = np.float32([0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 1e-45, 3e38, -3e38, 100, -100])


def by_numpy(instruction):
    """What an instruction is, in float64; operands that are NaN give NaN."""
    return {
        "copy": lambda x: x,
        "neg": lambda x: -x,
        "abs": np.abs,
        "relu": lambda x: np.where(x < 0, 0, x),
        "sqrt": np.sqrt,
        "reciprocal": lambda x: 1 / x,
        "exp": np.exp,
        "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "tanh": np.tanh,
        "erf": np.vectorize(math.erf),
        "add": np.add,
        "sub": np.subtract,
        "mul": np.multiply,
        "div": np.divide,
        "max": np.maximum,
        "min": np.minimum,
        "leaky_relu": lambda x, a: np.where(x < 0, x * a, x),
        "clip": lambda x, low, high: np.where(x < low, low, np.where(x > high, high, x)),
        "hard_sigmoid": lambda x, a, b: np.clip(x * a + b, 0, 1),
    }[instruction]


INSTRUCTIONS = {
    **dict.fromkeys(("copy", "neg", "abs", "relu", "sqrt", "reciprocal", "exp", "sigmoid", "tanh", "erf"), ()),
    **dict.fromkeys(("add", "sub", "mul", "div", "max", "min"), ("x1",)),
    "leaky_relu": ("#0.125",),
    "clip": ("#-0.5", "#0.75"),
    "hard_sigmoid": ("#0.25", "#0.5"),
}
MOST_ULP = {"exp": 1.1, "sigmoid": 3, "tanh": 2, "erf": 3}
"""Of transcendental functions; every other instruction is the operation of the standard, rounded once."""
SMALLEST_SIGMOID = 5e-39
"""Less than this is 0."""


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_an_instruction_is_what_its_name_says(name):
    rest = INSTRUCTIONS[name]
    numbers = np.concatenate([SPECIAL, np.linspace(-110, 110, 100_003), np.linspace(-2, 2, 100_003)]).astype(np.float32)
    others = numbers[::-1].copy()
    (got,) = run_program(f"y0 = {name} x0 {' '.join(rest)}".strip(), *([numbers, others] if "x1" in rest else [numbers]))
    constants = [float(word[1:]) for word in rest if word[0] == "#"]
    operands = [numbers.astype(float), *([others.astype(float)] if "x1" in rest else []), *constants]
    expected = by_numpy(name)(*operands)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    with np.errstate(over="ignore"):
        rounded = expected.astype(np.float32)
    np.testing.assert_array_equal(got[np.isinf(rounded)], rounded[np.isinf(rounded)])
    finite = np.isfinite(rounded)
    unit = np.maximum(np.spacing(np.abs(rounded[finite])), np.float32(1e-45)).astype(float)
    error = np.abs(got[finite] - expected[finite])
    error[error < SMALLEST_SIGMOID * (name == "sigmoid")] = 0
    # A product and a sum, each rounded, of numbers up to 28.
    slack = 2.0**-19 if name == "hard_sigmoid" else 0
    assert (error <= MOST_ULP.get(name, 0.5001) * unit + slack).all()


def test_signs_of_zero_stay():
    zero = np.float32([0, -0.0])
    for name in ("copy", "relu", "sqrt", "tanh", "erf"):
        (got,) = run_program(f"y0 = {name} x0", zero)
        np.testing.assert_array_equal(np.signbit(got), [False, True], name)


# ---- programs --------------------------------------------------------------------------------------------------------

NORMALIZED = """t0 = copy x0
r0 = mean t0
t0 = sub x0 r0
t0 = mul t0 t0
r1 = mean t0
r2 = add r1 #1e-05
r3 = sqrt r2
t0 = sub x0 r0
t0 = div t0 r3
y0 = mul t0 x1
y1 = copy r0"""


@pytest.mark.parametrize("rows", [(), (1,), (5,), (3, 37), (0,)])
@pytest.mark.parametrize("columns", [1, 2, 7, 16, 96, 255, 256, 257, 768, 4096, 5000])
def test_rows_of_any_length_are_reduced(rows, columns):
    x, scale = random(*rows, columns, seed=3) * 3 + 1, random(columns, seed=4)
    got, mean = run_program(NORMALIZED, x, scale, axis=len(rows), narrow=(0, 1))
    wide = x.astype(float)
    m = wide.mean(-1, keepdims=True)
    expected = (wide - m) / np.sqrt(((wide - m) ** 2).mean(-1, keepdims=True) + 1e-5) * scale
    assert got.shape == x.shape
    assert mean.shape == (*rows, 1)
    if x.size and columns > 2:  # of one or two numbers, the difference from their mean is rounding
        assert relative_error(got, expected) < TOLERANCE["float32 operator"]
        assert relative_error(mean, m) < TOLERANCE["float32 operator"]


@pytest.mark.parametrize("space", [(2, 3, 5, 7), (2, 40, 9, 10), (1, 1, 60, 90)])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [("1111", 0), ("1111", 2), ("NC11", 2), ("1C11", 2), ("11HW", 2), ("N111", 1), ("NCHW", 0), ("C11", 2)],
)
def test_operands_are_broadcast(space, shape, axis):
    sizes = dict(zip("NCHW", space, strict=True)) | {"1": 1}
    x, other = random(*space, seed=1), random(*(sizes[letter] for letter in shape), seed=2)
    (got,) = run_program("y0 = add x0 x1", x, other, axis=axis)
    np.testing.assert_array_equal(got, x + other)


@pytest.mark.parametrize("block", [8, 16])
@pytest.mark.parametrize("space", [(2, 32, 5, 7), (1, 16, 1, 1), (3, 48, 40, 30)])
def test_blocks_of_channels(block, space):
    n, c, h, w = space
    x, numbers = random(*space, seed=1), random(n, c, 1, 1, seed=2)
    blocked = np.ascontiguousarray(x.reshape(n, c // block, block, h, w).transpose(0, 1, 3, 4, 2)).reshape(space)
    program = "t0 = mul x0 x1\nr0 = sum t0\ny0 = mul x0 x1\ny1 = copy r0"
    got, sums = run_program(program, blocked, numbers, axis=2, lanes=block, block=block, narrow=(0, 1))
    plain = got.reshape(n, c // block, h, w, block).transpose(0, 1, 4, 2, 3).reshape(space)
    np.testing.assert_array_equal(plain, x * numbers)
    assert relative_error(sums, (x * numbers).sum((2, 3), keepdims=True)) < TOLERANCE["float32 operator"]


def test_any_number_of_threads_gives_the_same_bytes():
    x, scale = random(700, 300, seed=3), random(300, seed=4)
    results = [run_program(NORMALIZED, x, scale, axis=1, narrow=(0, 1), threads=n) for n in (1, 2, 3)]
    for result in results[1:]:
        for a, b in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("", "expected every output to be written"),
        ("y1 = neg x0", "expected one of the outputs"),
        ("y0 = neg x0\ny0 = abs x0", "an output that was not written yet"),
        ("t0 = neg x0\nr0 = add r0 #1\ny0 = neg x0", "an r that was written"),
        ("y0 = sine x0", "known instruction, got 'sine'"),
        ("y0 = add x0", "expected 2 operands"),
        ("y0 add x0 x0", "TARGET = INSTRUCTION"),
        ("y0 = neg q0", "expected one of 'xtr'"),
        ("x1 = neg x0", "expected one of 'try'"),
        ("y0 = neg x", "expected an index"),
        ("y0 = neg x99999", "expected an index"),
        ("y0 = add x0 #1e", "expected a number"),
        ("y0 = neg t0", "a t that this pass has written"),
        ("y0 = mul x0 r0", "an r that was written"),
        ("t0 = neg x0\nr0 = sum t0\ny0 = mul x0 t0", "a t that this pass has written"),
        ("r0 = sum x0\ny0 = mul x0 r0", "expected r = sum t"),
        ("t0 = neg x0\nr0 = neg t0\ny0 = mul x0 r0", "expected numbers of a row"),
    ],
)
def test_a_program_that_is_wrong_is_refused(program, problem):
    with pytest.raises(InvalidModel, match=problem):
        run_program(program, random(4))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"narrow": (1,)}, "expected numbers of a row, got a whole row|expected r|whole row"),
        ({"narrow": (0, 0)}, "expected every output to be written"),
        ({"lanes": 8}, "lanes without blocks"),
    ],
)
def test_attributes_that_disagree_with_the_program_are_refused(options, problem):
    with pytest.raises((InvalidModel, RunFailed), match=problem):
        run_program("t0 = neg x0\ny0 = mul t0 x0", random(4), **options)


def test_more_inputs_than_the_node_has_are_refused():
    with pytest.raises(RunFailed, match="more inputs than the node has"):
        run_program("y0 = add x0 x1", random(4))


def test_blocks_of_what_is_no_image_are_refused():
    with pytest.raises(RunFailed, match=r"expected a tensor \[N, C, H, W\]"):
        run_program("t0 = neg x0\nr0 = sum t0\ny0 = copy r0", random(1), axis=0, block=8, narrow=(1,))


def test_rows_of_nothing_have_sums():
    (got, mean) = run_program(
        "t0 = copy x0\nr0 = sum t0\nr1 = mean t0\ny0 = copy r0\ny1 = copy r1", random(6, 0), axis=1, narrow=(1, 1)
    )
    np.testing.assert_array_equal(got, np.zeros((6, 1)))
    np.testing.assert_array_equal(mean, np.zeros((6, 1)))


def test_operands_that_do_not_fit_are_refused():
    with pytest.raises(RunFailed, match="input 1: does not fit"):
        run_program("y0 = add x0 x1", random(4, 6), random(4, 5))


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


def tuned_of(proto):
    model = ir.from_proto(proto)
    infer_shapes(model)
    tuned = model.clone()
    tune(tuned, OURS)
    return model, tuned


def operators_of(model):
    return Counter(node.op_type for node in model.graph)


def assert_same(model, tuned, feeds, tolerance="float32 operator"):
    expected, got = Session(model, 2).run(feeds), Session(tuned, 2).run(feeds)
    for name, array in expected.items():
        assert got[name].shape == array.shape
        assert not array.size or relative_error(got[name], array) < TOLERANCE[tolerance], name


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

BLOCKS = Machine(block_size(), operators=True)
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


# ---- the gradient of a maximum ---------------------------------------------------------------------------------------

NO_GRADIENTS = {
    "windows that overlap": "p, i = MaxPool<kernel_shape = [2, 2], strides = [1, 1]>(x)"
    " z = Shape(x) y = MaxUnpool<kernel_shape = [2, 2], strides = [1, 1]>(p, i, z)",
    "a fill that is not 0": "p, i = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) n = Size(x) k = Reshape(n, one)"
    " f = ConstantOfShape<value = float[1] {5.0}>(k) j = Reshape(i, flat) d = Reshape(p, flat)"
    ' g = ScatterElements<axis = 0, reduction = "add">(f, j, d) z = Shape(x) y = Reshape(g, z)',
}


@pytest.mark.parametrize("body", NO_GRADIENTS.values(), ids=NO_GRADIENTS)
def test_what_only_looks_like_the_gradient_of_a_maximum_stays(body):
    numbers = {"one": np.array([1]), "flat": np.array([-1])}
    used = {name: array for name, array in numbers.items() if name in body}
    proto = build(body, inputs="float[N,16,6,8] x", outputs="float[N,16,6,8] y", opset=18, weights=used)
    model, tuned = tuned_of(proto)
    assert "MaxPoolGradient" not in operators_of(tuned)
    assert_same(model, tuned, {"x": random(2, 16, 6, 8)})


POOLS = {
    "overlapping": "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]",
    "apart": "kernel_shape = [2, 2], strides = [2, 2]",
    "uneven": "kernel_shape = [3, 2], strides = [1, 2], pads = [0, 1, 2, 0]",
    "dilated": "kernel_shape = [2, 2], strides = [1, 1], dilations = [2, 3]",
    "ceil": "kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1",
}


@pytest.mark.parametrize("machine", [OURS, Machine(block_size(), operators=True)], ids=["plain", "blocked"])
@pytest.mark.parametrize("attributes", POOLS.values(), ids=POOLS)
def test_a_maximum_gives_its_gradient_to_the_first_of_the_largest(attributes, machine):
    weights = {"W": random(32, 16, 1, 1), "V": random(32, 32, 1, 1)}
    body = f"h = Conv(x, W) r = Relu(h) p = MaxPool<{attributes}>(r) y = Conv(p, V)"
    proto = build(body, inputs="float[N,16,9,11] x", outputs="float[N,32,?,?] y", opset=18, weights=weights)
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")
    model = derive_file(proto, O.channel_energy("y", 1), backend="portable")
    tuned = model.clone()
    tune(tuned, machine)
    assert not {"ScatterElements", "MaxUnpool"} & operators_of(tuned).keys()
    x = np.round(random(2, 16, 9, 11))  # many zeros after the Relu: ties
    expected, got = Session(model, 2).run({"x": x}), Session(tuned, 2).run({"x": x})
    assert relative_error(got["grad/x"], expected["grad/x"]) < TOLERANCE["float32 operator"]


# ---- four images become one ------------------------------------------------------------------------------------------

DOUBLED = {
    "3 wide": (3, "pads = [1, 1, 1, 1], output_padding = [1, 1]", True),
    "3 wide, other pads": (3, "pads = [0, 1, 1, 0], output_padding = [0, 0]", True),
    "2 wide": (2, "pads = [0, 0, 0, 0]", True),
    "5 wide": (5, "pads = [2, 2, 2, 2], output_padding = [1, 1]", True),
    "1 wide: three of four are zeros": (1, "output_padding = [1, 1]", True),
    "an image that is not doubled": (3, "pads = [1, 1, 1, 1]", False),
}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("width", "attributes", "doubled"), DOUBLED.values(), ids=DOUBLED)
def test_transposed_convolutions_with_stride_2_are_four(width, attributes, doubled, bias):
    weights = {"W": random(32, 16, 1, 1) / 4, "V": random(32, 48, width, width) / 8, "U": random(16, 48, 1, 1) / 7}
    weights |= {"b": random(48)} if bias else {}
    body = f"h = Conv(x, W) t = ConvTranspose<strides = [2, 2], {attributes}>(h, V{', b' if bias else ''}) y = Conv(t, U)"
    proto = build(body, inputs="float[N,16,6,8] x", outputs="float[N,16,?,?] y", opset=18, weights=weights)
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")
    model = ir.from_proto(proto)
    infer_shapes(model)
    tuned = model.clone()
    tune(tuned, BLOCKS)
    assert operators_of(tuned)["Interleave"] == (doubled and not (bias and width == 1))
    assert_same(model, tuned, {"x": random(2, 16, 6, 8)})


# ---- without them ----------------------------------------------------------------------------------------------------


def test_a_library_that_was_not_built_is_reported_once(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(operators, "_library", lambda: tmp_path / "libgradserve_ops.so")
    operators.have_operators.cache_clear()
    try:
        assert not operators.have_operators()
        assert not operators.have_operators()
    finally:
        operators.have_operators.cache_clear()
    (record,) = caplog.records
    assert "was not built" in record.message
