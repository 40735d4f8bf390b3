"""Programs of instructions: what each computes, over rows of any shape, and which are refused."""

import math

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from support.onnx_models import random
from support.reference import relative_error
from support.tolerances import TOLERANCE

from gradserve.errors import InvalidModel, RunFailed
from gradserve_server.graph.tuning.fused import DOMAIN
from gradserve_server.runtime.session import Session


def run_program(program, *inputs, axis=0, lanes=1, block=1, narrow=(0,), packed=((), ()), threads=2):
    names = [f"i{i}" for i in range(len(inputs))]
    outs = [f"o{i}" for i in range(len(narrow))]
    info = onnx.helper.make_tensor_value_info
    form = {"axis": axis, "lanes": lanes, "block": block, "narrow": list(narrow)}
    form |= {
        f"packed_{kind}": [int(i in those) for i in range(len(tensors))]
        for kind, those, tensors in (("inputs", packed[0], inputs), ("outputs", packed[1], outs))
    }
    node = onnx.helper.make_node("Fused", names, outs, domain=DOMAIN, program=program, **form)
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


# ---- masks in bits ---------------------------------------------------------------------------------------------------


def mask_of(x):
    """Each number as a mask has it: 1 above 0, 0 below, NaN where there is none."""
    return np.where(np.isnan(x), x, x > 0).astype(np.float32)


def packed_by_numpy(x):
    """Two bits for each number, 16 in a word."""
    x = np.pad(x.ravel(), (0, -x.size % 16)).reshape(-1, 16)
    bits = np.arange(16, dtype=np.uint32)
    above, nan = ((test.astype(np.uint32) << bits).sum(1, dtype=np.uint32) for test in (x > 0, np.isnan(x)))
    return above | nan << np.uint32(16)


@pytest.mark.parametrize("shape", [(0,), (1,), (12,), (16,), (17,), (255,), (3, 1003), (5, 4096), (1, 100003), (9, 7, 16)])
def test_masks_are_packed_and_read_again(shape):
    x = random(*shape)
    x.flat[: SPECIAL.size] = SPECIAL[: x.size]
    y = random(*shape, seed=1)
    (words,) = run_program("y0 = copy x0", x, packed=((), (0,)))
    np.testing.assert_array_equal(words.view(np.uint32), packed_by_numpy(x))
    (got,) = run_program("y0 = mul x0 x1", words, y, packed=((0,), ()))
    np.testing.assert_array_equal(got, y * mask_of(x))


@pytest.mark.parametrize("columns", [16, 48, 256, 4096, 5008])
def test_rows_of_whole_words_are_packed_beside_numbers_of_their_own(columns):
    x, row = random(7, columns), random(columns, seed=1)
    result, words = run_program(
        "t0 = mul x0 x1\ny0 = relu t0\ny1 = copy t0", x, row, axis=1, narrow=(0, 0), packed=((), (1,))
    )
    np.testing.assert_array_equal(result, np.maximum(x * row, 0))
    np.testing.assert_array_equal(words.view(np.uint32), packed_by_numpy(x * row))


@pytest.mark.parametrize("columns", [3, 5, 49, 300])
def test_rows_of_any_length_are_read_from_words(columns):
    x, y = random(7, columns), random(7, columns, seed=1)
    (words,) = run_program("y0 = copy x0", x, packed=((), (0,)))
    program = "t0 = mul x0 x1\nr0 = sum t0\nt0 = mul x0 x1\ny0 = sub t0 r0"
    (got,) = run_program(program, words, y, axis=1, packed=((0,), ()))
    expected = y * mask_of(x)
    assert relative_error(got, expected - expected.sum(1, keepdims=True)) < TOLERANCE["float32 operator"]


def test_rows_of_parts_of_words_are_not_packed():
    with pytest.raises(RunFailed, match="expected rows of whole words, got 5 numbers"):
        run_program("y0 = mul x0 x1", random(3, 5), random(5), axis=1, packed=((), (0,)))


def test_words_for_other_numbers_are_refused():
    with pytest.raises(RunFailed, match="input 0: does not fit"):
        run_program("y0 = mul x0 x1", random(3), random(64), packed=((0,), ()))
