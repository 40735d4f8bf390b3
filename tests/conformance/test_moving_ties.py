"""What the rules of shape, indexing and sampling operators do at ties, with nothing, and where they must refuse."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from conformance.case import FLOAT, Case
from conformance.cases.grid_sample import sample

from gradserve.errors import NotDifferentiable, UnsupportedGradient
from gradserve_server.graph.autodiff.judge import PortableJudge
from gradserve_server.graph.autodiff.names import cotangent_name, gradient_name
from gradserve_server.graph.autodiff.path import check
from gradserve_server.graph.autodiff.portable import build_vjp
from gradserve_server.graph.inference_form import to_inference_form
from gradserve_server.runtime.session import Session


def backward(body, inputs, others=None, constants=None, dynamic="none", dtype=FLOAT):
    """The gradient graph of Y with respect to the float inputs."""
    given = {name: np.asarray(x, np.float64) for name, x in inputs.items()}
    shapes = {name: x.shape for name, x in given.items()}
    case = Case("", body, shapes, lambda *x: x, others=others or {}, constants=constants or {})
    model = to_inference_form(ir.from_proto(case.model(20, dynamic=dynamic, dtype=dtype))).model
    check(model, list(inputs), ["Y"], PortableJudge(model, 20))
    return build_vjp(model, list(inputs))


def gradient(body, inputs, cotangent, others=None, constants=None, dynamic="none"):
    """Of <Y, cotangent> with respect to each float input, in their order."""
    model = backward(body, inputs, others, constants, dynamic)
    feeds = {name: np.asarray(x, np.float32) for name, x in inputs.items()} | (others or {})
    feeds[cotangent_name("Y")] = np.asarray(cotangent, np.float32)
    named = {value.name for value in model.graph.inputs}
    results = Session(model, 2).run({name: x for name, x in feeds.items() if name in named})
    return [results[gradient_name(name)] for name in inputs]


def operators(body, inputs, constants):
    """What the gradient graph consists of, besides the forward graph."""
    return {node.op_type for node in backward(body, inputs, constants=constants).graph if node.name.startswith("vjp/")}


# ---- ties ------------------------------------------------------------------------------------------------------------


def test_of_equal_values_top_k_gives_to_those_it_chose():
    (dx,) = gradient("Y, I = TopK(X, K)", {"X": [2, 1, 2, 2]}, [1, 10], constants={"K": np.array([2])})
    assert dx.tolist() == [1, 0, 10, 0]


def test_unsorted_top_k():
    (dx,) = gradient("Y, I = TopK<sorted = 0>(X, K)", {"X": [2, 1, 4, 3]}, [1, 1], constants={"K": np.array([2])})
    assert dx.tolist() == [0, 0, 1, 1]


def test_of_equal_values_unique_gives_to_the_first():
    (dx,) = gradient("Y = Unique(X)", {"X": [3, 1, 3, 1]}, [1, 10])
    assert dx.tolist() == [10, 1, 0, 0]


@pytest.mark.parametrize("how", ["max", "min"])
def test_all_that_reach_an_extremum_share_it(how):
    body = f'Y = ScatterElements<reduction = "{how}">(X, I, U)'
    dx, du = gradient(body, {"X": [5, 7, 9], "U": [7, 7, 9]}, [1, 3, 4], others={"I": np.array([1, 1, -1])})
    assert (dx.tolist(), du.tolist()) == ([1, 1, 2], [1, 1, 2])


def test_factors_may_be_zero():
    body = 'Y = ScatterElements<reduction = "mul">(X, I, U)'
    dx, du = gradient(body, {"X": [2, 3, 0], "U": [0, 5, 4]}, [1, 1, 1], others={"I": np.array([1, 1, 2])})
    assert (dx.tolist(), du.tolist()) == ([1, 0, 4], [15, 0, 0])


# ---- what is read often ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", ["Y = Gather(X, I)", "Y = GatherND(X, I)"])
def test_no_cotangent_is_lost_between_threads(body):
    """As it is where ScatterND adds, in onnxruntime 1.19.2 and 1.32.0."""
    index = np.zeros((20000, 1) if "ND" in body else 20000, np.int64)
    for _ in range(20):
        (dx,) = gradient(body, {"X": np.zeros((2, 64))}, np.ones((20000, 64)), others={"I": index})
        assert (dx[0] == 20000).all()


# ---- nothing ---------------------------------------------------------------------------------------------------------

EMPTY = [
    ("Y = Reshape<allowzero = 1>(X, C)", (2, 0, 4), [4, 0], (4, 0)),
    ("Y = Tile(X, C)", (2, 3), [1, 0], (2, 0)),
    ("Y = Slice(X, C, C)", (4, 5), [2], (0, 5)),
    ("A = Constant<value_ints = [0]>() S = Constant<value_ints = [-1]>() Y = Slice(X, C, C, A, S)", (4, 5), [2], (0, 5)),
    ("Y = Gather(X, C)", (4, 5), [], (0, 5)),
    ("Z = Cast<to = 9>(C) Y = Compress<axis = 0>(X, Z)", (4, 5), [0, 0], (0, 5)),
]


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize(("body", "shape", "numbers", "out"), EMPTY, ids=[body for body, *_ in EMPTY])
def test_nothing_gives_zero(body, shape, numbers, out, constant):
    given = {"C": np.array(numbers, np.int64)}
    options = {"constants": given} if constant else {"others": given}
    for dynamic in ("none", "all") if constant else ("none",):
        (dx,) = gradient(body, {"X": np.ones(shape)}, np.ones(out), dynamic=dynamic, **options)
        assert (dx.shape, np.abs(dx).sum()) == (shape, 0)


# ---- forms -----------------------------------------------------------------------------------------------------------

IMAGE, TWICE = {"X": np.ones((1, 8, 3, 4))}, {"S": np.array([1, 1, 2, 3], np.float32)}


def test_enlarging_by_whole_numbers_needs_no_matrices():
    assert operators('Y = Resize<mode = "nearest">(X, , S)', IMAGE, TWICE) == {"AveragePool", "Mul"}
    linear = operators('Y = Resize<mode = "linear">(X, , S)', IMAGE, TWICE)
    assert "Conv" in linear
    assert "MatMul" not in linear


def test_a_single_index_is_filled_up():
    assert operators("Y = Gather<axis = 2>(X, I)", IMAGE, {"I": np.array(-1)}) == {"Reshape", "Pad"}


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_what_depends_on_its_scales_is_refused():
    with pytest.raises(UnsupportedGradient, match="no derivative by its scales"):
        backward('Y = Resize<mode = "linear">(X, , S)', {"X": np.ones((1, 1, 2, 2)), "S": np.ones(4)})


def test_the_nearest_value_does_not_depend_on_the_grid():
    body = 'Y = GridSample<mode = "nearest">(X, G)'
    with pytest.raises(NotDifferentiable, match="'G'"):
        backward(body, {"X": np.ones((1, 1, 2, 2)), "G": np.ones((1, 1, 1, 2))})


@pytest.mark.torch
@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize(("mode", "word"), [("linear", "bilinear"), ("cubic", "bicubic")])
def test_sampling_as_torch_does_on_and_between_values(mode, word, padding, align):
    import torch

    random = np.random.default_rng(0)
    x, cotangent = random.normal(size=(2, 3, 4, 5)), random.normal(size=(2, 3, 6, 5))
    between = np.round(random.uniform(-1.9, 1.9, size=(2, 5, 5, 2)) * 12) / 12 + 1 / 24
    on = np.broadcast_to([(0, 0.25), (0, -0.25), (-0.5, 0.25), (0.5, 0), (0, 0)], (2, 1, 5, 2))
    grid = np.concatenate([between, on], 1)
    leaves = [torch.tensor(v, requires_grad=True) for v in (x, grid)]
    y = torch.nn.functional.grid_sample(*leaves, mode=word, padding_mode=padding, align_corners=bool(align))
    assert torch.allclose(y, sample(*leaves, mode, padding, align))
    expected = torch.autograd.grad(y, leaves, torch.tensor(cotangent))
    body = f'Y = GridSample<mode = "{mode}", padding_mode = "{padding}", align_corners = {align}>(X, G)'
    got = gradient(body, {"X": x, "G": grid}, cotangent, dynamic="all")
    for mine, theirs in zip(got, expected, strict=True):
        assert np.linalg.norm(mine - theirs.numpy()) <= 2e-5 * np.linalg.norm(theirs.numpy())


@pytest.mark.parametrize(
    "body",
    [
        "Y = Gather(X, I)",
        "Y = GatherElements(X, I)",
        'P = Constant<value_ints = [1, 2]>() Y = Pad<mode = "reflect">(X, P)',
    ],
)
def test_half_precision_adds_up_too(body):
    """Where onnxruntime's ScatterElements cannot."""
    model = backward(body, {"X": [1, 2, 3]}, others={"I": np.array([0, 0, -1])}, dtype=onnx.TensorProto.FLOAT16)
    feeds = {"X": np.array([1, 2, 3], np.float16), "I": np.array([0, 0, -1])}
    size = 6 if "Pad" in body else 3
    feeds[cotangent_name("Y")] = np.ones(size, np.float16)
    named = {value.name for value in model.graph.inputs}
    results = Session(model, 1).run({name: x for name, x in feeds.items() if name in named})
    assert results[gradient_name("X")].tolist() == ([2, 3, 1] if "Pad" in body else [2, 0, 1])
