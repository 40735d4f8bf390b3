"""Tuned graphs compute what they computed before: on this machine's blocks, with and without channels that fill them."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
import pytest
from support.onnx_models import build, random
from support.reference import relative_error
from support.runtime import BACKENDS
from support.tolerances import TOLERANCE

from gradserve import objectives as O
from gradserve_server.gradient_graph import derive_file
from gradserve_server.graph.contrib_shapes import infer_shapes
from gradserve_server.graph.tuning import Machine, tune
from gradserve_server.graph.tuning.blocked import DOMAIN, TABLE
from gradserve_server.graph.tuning.blocked.convolution import ACTIVATIONS
from gradserve_server.graph.tuning.blocked.filling import BOUNDS as ELEMENTWISE
from gradserve_server.graph.tuning.fused import BLOCKED
from gradserve_server.graph.tuning.fused import TABLE as PROGRAMS
from gradserve_server.runtime.block_size import block_size
from gradserve_server.runtime.session import Session

BLOCK = block_size()
LAYOUT = Machine(BLOCK, operators=False)
MACHINES = [LAYOUT, Machine(BLOCK, operators=True)]
pytestmark = pytest.mark.skipif(BLOCK is None, reason="this onnxruntime has no blocked layout on this processor")

BOUNDS = {"low": np.array(-0.3, np.float32), "high": np.array(0.4, np.float32)}
HALF = {"half": np.array(0.5, np.float32)}


@dataclass(frozen=True)
class Case:
    """A graph of one input `x` [N, C, 9, 8], whose first node is h = Conv(x, W) with 32 or `channels` channels."""

    body: str
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    inside: frozenset[str] = frozenset()
    """Operators that must run on blocked tensors; nchwc: operators by their name."""
    reorderings: int | None = None
    """How many reorderings may be left, at most."""
    inputs: int = 16
    outputs: str = "y"
    opset: int = 18


REPEATS = 'mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"'
TWICE = {
    "none": np.array([], np.float32),
    "twice": np.array([1, 1, 2, 3], np.float32),
    "part": np.array([1, 1, 2, 1.5], np.float32),
    "two": np.array([2, 2], np.float32),
    "sizes": np.array([1, 32, 18, 8]),
}


def inside(*ops: str) -> frozenset[str]:
    return frozenset(ops)


W = {"W": random(32, 16, 3, 3) / 12}
HEAD = "h = Conv<pads = [1, 1, 1, 1]>(x, W) "


def filters(*shape: int, seed: int = 5) -> np.ndarray:
    return random(*shape, seed=seed) / np.float32(np.sqrt(np.prod(shape[1:])))


CASES = {
    "Conv, blocked": Case(HEAD + "y = Conv(h, V)", W | {"V": filters(48, 32, 1, 1)}, inside("nchwc:Conv"), 2),
    "Conv, bias, strides, dilations, odd pads": Case(
        HEAD + "y = Conv<strides = [2, 1], dilations = [1, 2], pads = [0, 1, 2, 3]>(h, V, b)",
        W | {"V": filters(48, 32, 3, 2), "b": random(48)},
        inside("nchwc:Conv"),
    ),
    "Conv, channels that fill no block": Case(
        HEAD + "g = Conv(h, V) r = Sigmoid(g) s = Mul(g, r) y = Conv(s, U)",
        W | {"V": filters(20, 32, 1, 1), "U": filters(7, 20, 1, 1)},
        inside("nchwc:Conv", "Mul"),
        2,
    ),
    "Conv, depthwise": Case(
        HEAD + "y = Conv<group = 32, pads = [1, 1, 1, 1]>(h, V)", W | {"V": filters(32, 1, 3, 3)}, inside("nchwc:Conv"), 2
    ),
    "Conv, groups": Case(HEAD + "y = Conv<group = 2>(h, V)", W | {"V": filters(64, 16, 1, 1)}),
    "Conv, groups that are no blocks": Case(HEAD + "y = Conv<group = 8>(h, V)", W | {"V": filters(32, 4, 1, 1)}),
    "Conv, few input channels": Case(
        "h = Conv(x, W) y = Relu(h)", {"W": random(32, 3, 3, 3)}, inside("nchwc:Conv"), 1, inputs=3
    ),
    "Conv, 6 input channels": Case("h = Conv(x, W) y = Relu(h)", {"W": random(32, 6, 3, 3)}, inputs=6),
    "Conv, 18 input channels": Case("h = Conv(x, W) y = Relu(h)", {"W": random(32, 18, 3, 3)}, inputs=18),
    "Conv, auto_pad": Case(HEAD + 'y = Conv<auto_pad = "SAME_UPPER">(h, V)', W | {"V": filters(48, 32, 3, 3)}),
    "Conv, weight from the graph": Case(HEAD + "V = Neg(U) y = Conv(h, V)", W | {"U": filters(48, 32, 1, 1)}),
    "a residual block": Case(
        HEAD + "r = Relu(h) g = Conv(r, V) s = Add(r, g) t = Relu(s) y = Conv(t, V)",
        W | {"V": filters(32, 32, 1, 1)},
        inside("nchwc:Conv"),
        2,
    ),
    "the sum of two convolutions": Case(
        HEAD + "a = Conv(h, V) b = Conv(h, U) s = Add(a, b) y = Relu(s)",
        W | {"V": filters(32, 32, 1, 1), "U": filters(32, 32, 1, 1, seed=8)},
        inside("nchwc:Conv"),
        2,
    ),
    "a sum with what comes later": Case(
        HEAD + "r = Sigmoid(h) a = Conv(r, V) b = Neg(r) c = Abs(b) s = Add(a, c) y = Relu(s)",
        W | {"V": filters(32, 32, 1, 1)},
        inside("nchwc:Conv", "Neg"),
        2,
    ),
    "a convolution that two read": Case(
        HEAD + "a = Conv(h, V) r = Relu(a) s = Add(a, r) y = Conv(s, V)", W | {"V": filters(32, 32, 1, 1)}, inside("Relu")
    ),
    "a convolution that is an output": Case(HEAD + "y = Relu(h) z = Neg(y)", W, outputs="h y z"),
    "a value read in both forms": Case(
        HEAD + "r = Relu(h) f = Flatten(r) m = ReduceMean<keepdims = 0>(f, axes) s = Mul(r, r) y = Mul(s, m)",
        W | {"axes": np.array([0, 1])},
    ),
    "with an image that was never blocked": Case(
        HEAD + "p = Transpose<perm = [0, 1, 3, 2]>(x) q = Transpose<perm = [0, 1, 3, 2]>(p) c = Concat<axis = 1>(q, q)"
        " n = Cos(c) s = Mul(h, n) y = Conv(s, V)",
        W | {"V": filters(32, 32, 1, 1)},
        inside("Mul"),
    ),
    "Clip with one bound": Case(HEAD + "y = Clip(h, low)", W | {"low": BOUNDS["low"]}),
    "Clip, inside": Case(HEAD + "y = Clip(h, low, high)", W | BOUNDS, inside("nchwc:Conv"), 2),
    "Concat": Case(
        HEAD + "a = Relu(h) b = Sigmoid(h) c = Concat<axis = 1>(a, b) y = Conv(c, V)",
        W | {"V": filters(32, 64, 1, 1)},
        inside("Concat"),
        2,
    ),
    "Concat along H": Case(HEAD + "a = Relu(h) y = Concat<axis = 2>(a, h)", W),
    "Split": Case(
        HEAD + "r = Neg(h) a, b = Split<axis = 1>(r, sizes) s = Mul(a, b) y = Conv(s, V)",
        W | {"sizes": np.array([16, 16]), "V": filters(32, 16, 1, 1)},
        inside("Split"),
        2,
    ),
    "Split inside a block": Case(
        HEAD + "a, b = Split<axis = 1>(h, sizes) y = Concat<axis = 1>(b, a)", W | {"sizes": np.array([12, 20])}
    ),
    "MaxPool": Case(
        HEAD + "y = MaxPool<kernel_shape = [3, 2], strides = [2, 2], pads = [1, 0, 1, 1]>(h)", W, inside("nchwc:MaxPool"), 2
    ),
    "MaxPool with indices": Case(HEAD + "y, i = MaxPool<kernel_shape = [2, 2]>(h)", W, outputs="y i"),
    "MaxPool, ceil_mode": Case(HEAD + "y = MaxPool<kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1>(h)", W),
    "AveragePool": Case(
        HEAD + "y = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1>(h)",
        W,
        inside("nchwc:AveragePool"),
        2,
    ),
    "AveragePool, without its padding": Case(
        HEAD + "y = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(h)", W, inside("nchwc:AveragePool"), 2
    ),
    "Resize that repeats pixels": Case(
        HEAD + f"y = Resize<{REPEATS}>(h, none, twice)", W | TWICE, inside("nchwc:Upsample"), 2
    ),
    "Resize that repeats, blocks not full": Case(
        HEAD + f"r = Resize<{REPEATS}>(h, none, twice) y = Conv(r, V)",
        {"W": W["W"][:20], "V": filters(8, 20, 1, 1)} | TWICE,
        inside("nchwc:Upsample"),
        2,
    ),
    "Resize by a fraction": Case(HEAD + f"y = Resize<{REPEATS}>(h, none, part)", W | TWICE),
    "Resize that rounds": Case(HEAD + f"y = Resize<{REPEATS.replace('floor', 'ceil')}>(h, none, twice)", W | TWICE),
    "Resize from the centre": Case(
        HEAD + f"y = Resize<{REPEATS.replace('asymmetric', 'half_pixel')}>(h, none, twice)", W | TWICE
    ),
    "Resize that interpolates": Case(
        HEAD + f"y = Resize<{REPEATS.replace('nearest', 'linear', 1)}>(h, none, twice)", W | TWICE
    ),
    "Resize to sizes": Case(HEAD + f"y = Resize<{REPEATS}>(h, none, none, sizes)", W | TWICE),
    "Resize of some axes": Case(HEAD + f"y = Resize<{REPEATS}, axes = [2, 3]>(h, none, two)", W | TWICE),
    "GlobalAveragePool": Case(HEAD + "y = GlobalAveragePool(h)", W, inside("nchwc:GlobalAveragePool"), 2),
    "GlobalMaxPool": Case(HEAD + "y = GlobalMaxPool(h)", W, inside("nchwc:GlobalMaxPool"), 2),
    "squeeze and excitation": Case(
        HEAD + "r = Relu(h) m = ReduceMean(r, axes) g = Conv(m, V) k = Sigmoid(g) s = Mul(r, k) y = Conv(s, V)",
        W | {"axes": np.array([2, 3]), "V": filters(32, 32, 1, 1)},
        inside("ReduceMean", "Mul"),
        6,
    ),
    "ReduceSum": Case(HEAD + "r = Neg(h) y = ReduceSum(r, axes)", W | {"axes": np.array([-1, -2])}, inside("ReduceSum"), 1),
    "ReduceSum over H": Case(HEAD + "r = Neg(h) y = ReduceSum(r, axes)", W | {"axes": np.array([2])}),
    "numbers on the left": Case(
        HEAD + "r = Neg(h) m = ReduceSum(r, axes) s = Add(m, r) y = Conv(s, V)",
        W | {"axes": np.array([2, 3]), "V": filters(32, 32, 1, 1)},
        inside("Add"),
        2,
    ),
    "numbers spread over an image": Case(
        HEAD + "r = Neg(h) m = ReduceSum(r, axes) z = Shape(r) e = Expand(m, z) s = Mul(r, e) y = Conv(s, V)",
        W | {"axes": np.array([2, 3]), "V": filters(32, 32, 1, 1)},
        inside("Mul"),
        2,
    ),
    "BatchNormalization as Mul and Add": Case(
        HEAD + "r = Neg(h) s = Mul(r, scale) t = Add(offset, s) y = Relu(t)",
        W | {"scale": random(32, 1, 1), "offset": random(1, 32, 1, 1)},
        inside("nchwc:Conv"),
        2,
    ),
    "an offset after a bias": Case(
        "h = Conv(x, W, b) y = Add(h, offset)", W | {"b": random(32), "offset": random(32, 1, 1)}, inside("nchwc:Conv"), 2
    ),
    "an offset after an activation": Case(
        HEAD + "r = Relu(h) y = Add(r, offset)", W | {"offset": random(32, 1, 1)}, inside("nchwc:Conv"), 2
    ),
    "an offset of a row": Case(HEAD + "r = Relu(h) y = Add(r, offset)", W | {"offset": random(1, 1, 1, 8)}),
    "a scalar": Case(HEAD + "r = Neg(h) s = Mul(half, r) y = Max(s, half)", W | HALF, inside("Mul", "Max"), 2),
    "the same value twice": Case(HEAD + "r = Neg(h) s = Add(r, r) y = Mul(s, s)", W, inside("Add", "Mul"), 2),
    "swish": Case(HEAD + "s = Sigmoid(h) t = Mul(h, s) y = Conv(t, V)", W | {"V": filters(32, 32, 1, 1)}, inside("Mul"), 2),
    "a subgraph that reads an output": Case(
        HEAD + "r = Relu(h) t = ReduceSum<keepdims = 0>(r) c = Greater(t, t)"
        " y = If<then_branch = a () => (float[N,32,9,8] u) { u = Neg(r) },"
        " else_branch = b () => (float[N,32,9,8] v) { v = Mul(r, r) }>(c) z = Neg(r)",
        W,
        inside("Neg"),
        outputs="r y z",
    ),
    "ConvTranspose, output_shape": Case(
        HEAD + "y = ConvTranspose<group = 32, strides = [2, 2], output_shape = [18, 16]>(h, V)",
        W | {"V": filters(32, 1, 3, 3)},
    ),
    "Sqrt of what fills a block": Case(
        "h = Conv(x, W, b) a = Sub(h, one) d = Sqrt(a) y = Conv(d, V)",
        {"W": filters(20, 16, 3, 3) / 10, "b": np.full(20, 5, np.float32), "V": filters(8, 20, 1, 1), "one": np.float32(1)},
    ),
    "a power of what fills a block": Case(
        "h = Conv(x, W, b) a = Sub(h, much) m = Mul(a, a) k = Mul(m, m) y = Conv(k, V)",
        {
            "W": filters(20, 16, 3, 3),
            "b": np.full(20, 1e10, np.float32),
            "V": filters(8, 20, 1, 1),
            "much": np.array(1e10 - 4096, np.float32),
        },
    ),
    "parts that are broadcast": Case(
        "s = Slice(x, s0, s4, ax) p = Pad(k, after) q = Pad(s, before) y = Add(p, q)",
        {
            "k": random(1, 16, 9, 4),
            "s0": np.array([0]),
            "s4": np.array([4]),
            "ax": np.array([3]),
            "after": np.array([0, 0, 0, 0, 0, 0, 0, 4]),
            "before": np.array([0, 0, 0, 4, 0, 0, 0, 0]),
        },
    ),
    "a slope that is broadcast": Case(
        HEAD + "e = ReduceMean(h, axes) d = Abs(h) s = Sigmoid(e) p = Mul(e, s) t = Mul(d, s) f = Mul(d, e) i = Mul(f, s)"
        " o = Sub(one, s) u = Mul(i, o) k = Neg(h) g = Sum(t, u, k) y = Add(g, p)",
        W | {"axes": np.array([2, 3]), "one": np.float32(1)},
    ),
    "a product after the slope": Case(
        HEAD + "d = Abs(h) s = Sigmoid(h) t = Mul(d, s) f = Mul(d, h) i = Mul(f, s) o = Sub(one, s) u = Mul(i, o)"
        " g = Add(t, u) p = Mul(h, s) y = Add(g, p)",
        W | {"one": np.float32(1)},
    ),
    "a Clip after the mask": Case(
        HEAD + "g = GreaterOrEqual(h, low) l = LessOrEqual(h, high) a = And(g, l) m = Cast<to = 1>(a)"
        " c = Clip(h, low, high) y = Add(m, c)",
        W | BOUNDS,
    ),
    "a Clip without an end": Case(
        HEAD + "c = Clip(h, low, none) e = Equal(h, c) y = Cast<to = 1>(e)",
        W | {"low": BOUNDS["low"], "none": np.array(np.inf, np.float32)},
    ),
    "a subgraph that reads an image": Case(
        HEAD + "r = Relu(h) t = ReduceSum<keepdims = 0>(r) c = Greater(t, t)"
        " y = If<then_branch = a () => (float[N,32,9,8] u) { u = Neg(r) },"
        " else_branch = b () => (float[N,32,9,8] v) { v = Mul(r, r) }>(c)",
        W,
    ),
} | {
    f"ConvTranspose, {k} wide, pads {pads}, more {more}": Case(
        HEAD + f"y = ConvTranspose<group = 32, strides = [2, 2], pads = {pads}, output_padding = {more}>(h, V)",
        W | {"V": filters(32, 1, k, k)},
        inside("Concat") if blocked else frozenset(),
        2 if blocked else None,
    )
    for k, pads, more, blocked in [
        (3, [1, 1, 1, 1], [1, 1], True),
        (5, [2, 2, 2, 2], [1, 1], True),
        (2, [0, 0, 0, 0], [0, 0], True),
        (4, [1, 1, 1, 1], [0, 0], True),
        (3, [0, 1, 1, 0], [1, 1], False),
        (3, [1, 1, 1, 1], [0, 0], False),
        (1, [0, 0, 0, 0], [1, 1], False),
    ]
}
for op in ELEMENTWISE:
    operands = {
        "Clip": "g, low, high",
        "Add": "g, x2",
        "Mul": "g, x2",
        "Sub": "g, x2",
        "Sum": "g, x2, g",
        "Max": "g, x2",
        "Min": "x2, g",
    }
    if op in ("Mish", "Swish"):
        continue  # opset 24 brings Swish; Mish has a case of its own below
    CASES[f"one by one: {op}"] = Case(
        HEAD + f"x2 = Abs(h) f = Erf(x2) g = Abs(f) y = {op}({operands.get(op, 'g')})",
        W | (BOUNDS if op == "Clip" else {}),
        inside(op),
        2,
    )
CASES["one by one: Mish"] = Case(HEAD + "g = Abs(h) y = Mish(g)", W, inside("Mish"), 2)
for op in ACTIVATIONS:
    CASES[f"inside a convolution: {op}"] = Case(HEAD + f"y = {op}(h)", W, inside("nchwc:Conv"), 2)


def model_of(case: Case) -> ir.Model:
    outputs = ", ".join(f"{'int64' if name == 'i' else 'float'}[] {name}" for name in case.outputs.split())
    used = {name: array for name, array in case.weights.items() if name in case.body}
    proto = build(case.body, inputs=f"float[N,{case.inputs},9,8] x", outputs=outputs, opset=case.opset, weights=used)
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")
    model = ir.from_proto(proto)
    infer_shapes(model)
    return model


def operators(model: ir.Model) -> Counter[str]:
    return Counter(("nchwc:" if node.domain == DOMAIN else "") + node.op_type for node in model.graph)


@pytest.mark.parametrize("machine", MACHINES, ids=["layout", "layout and operators"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_tuned_graph_computes_the_same(case, machine):
    model = model_of(case)
    tuned = model.clone()
    tune(tuned, machine)
    found = operators(tuned)
    if machine.operators:
        assert not any(node.domain == BLOCKED for node in tuned.graph)
    else:
        assert case.inside <= found.keys(), found
    if case.reorderings is not None:
        assert found["nchwc:ReorderInput"] + found["nchwc:ReorderOutput"] <= case.reorderings, found
    before, after = Session(model, 2), Session(tuned, 2)
    for batch in (1, 3):
        feeds = {"x": random(batch, case.inputs, 9, 8, seed=batch)}
        expected, got = before.run(feeds), after.run(feeds)
        assert list(got) == list(expected)
        for name, array in expected.items():
            assert got[name].shape == array.shape
            assert relative_error(got[name], array) < TOLERANCE["float32 operator"], name


def test_every_operator_of_the_table_has_a_case():
    tried = Counter(op for case in CASES.values() for op in case.inside)
    blocked = {"Resize": "Upsample"}
    missing = [op for op in TABLE if not tried[op] and not tried[f"nchwc:{blocked.get(op, op)}"]]
    # A Concat shows the first; onnxruntime runs no Swish yet. `test_fused` has those of our programs.
    assert sorted(set(missing) - PROGRAMS.keys()) == ["ConvTranspose", "MaxPoolGradient", "Shape", "Size", "Swish"]


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("one by one")])
@pytest.mark.parametrize("shift", ["", "q = Sub(h, half) "])
@pytest.mark.parametrize("machine", MACHINES, ids=["layout", "layout and operators"])
def test_channels_that_fill_a_block_do_no_harm(name, shift, machine):
    """They hold what the operators make of 0: it must be finite, for a convolution multiplies it by 0."""
    case = CASES[name]
    weights = {name: array[:20] if name == "W" else array for name, array in case.weights.items()} | HALF
    body = case.body.replace("x2 = Abs(h)", f"{shift}x2 = Abs({'q' if shift else 'h'})")
    model = model_of(Case(f"{body} z = Conv(y, V)", weights | {"V": filters(8, 20, 1, 1)}, outputs="z"))
    tuned = model.clone()
    tune(tuned, machine)
    x = {"x": random(2, 16, 9, 8)}
    got, expected = Session(tuned, 2).run(x)["z"], Session(model, 2).run(x)["z"]
    assert relative_error(got, expected) < TOLERANCE["float32 operator"]


# ---- slopes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rest", ["y = Conv(t, V)", "u = Conv(t, V) v = Neg(h) w = Exp(v) y = Mul(u, w)"])
def test_the_slope_of_swish_takes_fewer_operators(backend, rest):
    proto = build(
        f"h = Conv(x, W) s = Sigmoid(h) t = Mul(h, s) {rest}",
        inputs="float[N,16,9,8] x",
        outputs="float[N,32,9,8] y",
        weights={"W": filters(32, 16, 1, 1), "V": filters(32, 32, 1, 1)},
        opset=18,
    )
    model = derive_file(proto, O.channel("y", 3), backend=backend)
    tuned = model.clone()
    tune(tuned, Machine(None, operators=False))
    assert sum(operators(tuned)[op] for op in ("Mul", "Sub", "Add", "Sum")) < sum(
        operators(model)[op] for op in ("Mul", "Sub", "Add", "Sum")
    )
    x = {"x": random(2, 16, 9, 8)}
    got, expected = Session(tuned, 2).run(x), Session(model, 2).run(x)
    assert relative_error(got["grad/x"], expected["grad/x"]) < TOLERANCE["float32 operator"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_mask_of_clip_is_exact_at_its_bounds(backend):
    proto = build("y = Clip(x, low, high)", inputs="float[N,1,1,8] x", outputs="float[N,1,1,8] y", weights=BOUNDS, opset=18)
    model = derive_file(proto, O.channel("y", 0), backend=backend)
    tuned = model.clone()
    tune(tuned, LAYOUT)
    assert "Cast" not in operators(tuned)
    low, high = BOUNDS["low"].item(), BOUNDS["high"].item()
    at = np.float32(
        [low, high, np.nextafter(np.float32(low), -1), np.nextafter(np.float32(high), 1), 0, np.inf, -np.inf, 0.1]
    )
    x = {"x": at.reshape(1, 1, 1, 8)}
    got, expected = Session(tuned, 1).run(x)["grad/x"], Session(model, 1).run(x)["grad/x"]
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(got.ravel() != 0, [True, True, False, False, True, False, False, True])


# ---- joins -----------------------------------------------------------------------------------------------------------

PARTS = {
    "three parts of an attention": ("a = Slice(x, s0, s2, ax) b = Slice(x, s2, s4, ax) c = Slice(x, s4, s6, ax)", 0),
    "in another order": ("a = Slice(x, s4, s6, ax) b = Slice(x, s0, s2, ax) c = Slice(x, s2, s4, ax)", 0),
    "of other sizes": ("a = Slice(x, s0, s1, ax) b = Slice(x, s1, s4, ax) c = Slice(x, s4, s6, ax)", 0),
    "with a gap": ("a = Slice(x, s0, s1, ax) b = Slice(x, s2, s4, ax) c = Slice(x, s4, s6, ax)", 3),
    "with an overlap": ("a = Slice(x, s0, s2, ax) b = Slice(x, s1, s4, ax) c = Slice(x, s4, s6, ax)", 3),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("body", "pads"), PARTS.values(), ids=PARTS)
def test_parts_that_cover_an_axis_once_are_joined(backend, body, pads):
    cuts = {f"s{n}": np.array([n]) for n in (0, 1, 2, 4, 6)} | {"ax": np.array([2])}
    sums = "ra = ReduceSum(a, ax) rb = ReduceSum(b, ax) rc = ReduceSum(c, ax)"
    proto = build(
        f"{body} {sums} p = Mul(ra, rb) y = Mul(p, rc)",
        inputs="float[N,3,6] x",
        outputs="float[N,3,1] y",
        weights=cuts,
        opset=18,
    )
    model = derive_file(proto, O.channel("y", 1), backend=backend)
    tuned = model.clone()
    tune(tuned, LAYOUT)
    assert operators(tuned)["Pad"] == pads
    x = {"x": random(2, 3, 6)}
    np.testing.assert_array_equal(Session(tuned, 1).run(x)["grad/x"], Session(model, 1).run(x)["grad/x"])
