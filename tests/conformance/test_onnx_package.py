"""The operator tests that ship inside the onnx package: for each whose operator has a rule and that has a float input, the
gradient against finite differences; and the package's own tests of the operator Gradient."""

import warnings
from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.backend.test.case.model import collect_testcases as collect_models
from onnx.backend.test.case.node import collect_testcases as collect_nodes
from support.runtime import MAX_OPSET
from support.tolerances import TOLERANCE

from gradserve import checks
from gradserve.errors import GradserveError, InvalidModel, NotDifferentiable, UnsupportedGradient
from gradserve_server.graph.autodiff.judge import PortableJudge
from gradserve_server.graph.autodiff.names import cotangent_name, gradient_name
from gradserve_server.graph.autodiff.path import check, reach
from gradserve_server.graph.autodiff.portable import build_vjp
from gradserve_server.graph.inference_form import to_inference_form
from gradserve_server.graph.load import read
from gradserve_server.graph.values import opset_of
from gradserve_server.runtime.session import Session

STEPS = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5)
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
FULLY_MASKED = "test_attention"
"""A query that may see no key: its function body writes Where(IsNaN(P), 0, P), of derivative 0 * NaN, in torch too. Our
own expansion gives zero, but not what is lowered to that body for an older runtime."""
NO_DIFFERENCE = (
    # A sum of 2,700 float32 losses is 150 times its derivative. Against torch in float64 ours is right to 2e-7.
    "test_sce_NCd1d2d3d4d5_mean_weight",
    # On onnxruntime 1.19 it gave garbage once in several runs of all tests; 800 sessions of its own did not.
    "test_reversesequence_batch",
)
"""Where differences of float32 predictions say nothing. The rules of these operators have their own cases."""
MAX_ELEMENTS = 200_000
"""A test of a whole network is not one of an operator."""


def cases():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [case for case in collect_nodes(None) if case.data_sets]


def moved_from_kinks(array, random):
    """The tests like whole numbers, where maxima tie and rounding jumps: a little noise."""
    if not isinstance(array, np.ndarray) or array.dtype not in FLOATS:
        return array
    noise = random.uniform(0.01, 0.05, array.shape) * np.maximum(np.abs(array), 0.2)
    return np.asarray(array + np.where(np.isfinite(array), noise, 0.0), array.dtype)


def derivative(session, feeds, direction, cotangents):
    """By central differences: the smallest step that keeps rounding small, for maxima change sides within larger ones.

    Returns:
        The estimate; its doubt: that rounding, and how far it is from the estimate of the next larger step; and the
        direction that the inputs really moved in, which for large float32 inputs is not the one asked for.
    """
    best, last = (float("nan"), float("inf"), direction), float("inf")
    for step in STEPS:
        ends, sides = [], []
        for sign in (1, -1):
            ends.append({n: np.asarray(feeds[n] + sign * step * direction[n], feeds[n].dtype) for n in direction})
            run = session.run(feeds | ends[-1], list(cotangents))
            sides.append({n: run[n].astype(np.float64) * c for n, c in cotangents.items()})
        estimate = sum(float((sides[0][n] - sides[1][n]).sum()) for n in cotangents) / (2 * step)
        noise = checks.ROUNDING * np.sqrt(sum(float((side**2).sum()) for side in sides[0].values())) / step
        if noise > checks.NOISE * abs(estimate) and np.isfinite(last):
            break
        with np.errstate(invalid="ignore"):  # infinity less itself
            moved = {n: (ends[0][n].astype(np.float64) - ends[1][n]) / (2 * step) for n in direction}
        moved = {n: np.where(np.isfinite(values), values, 0.0) for n, values in moved.items()}
        best, last = (estimate, noise + (abs(estimate - last) if np.isfinite(last) else 0.0), moved), estimate
    return best


def try_case(case):  # noqa: PLR0911 an outcome for each way out
    """What became of one test: a word, or an AssertionError."""
    model = case.model
    arrays = case.data_sets[0][0]
    names = [value.name for value in model.graph.input]
    floats = [n for n, a in zip(names, arrays, strict=False) if isinstance(a, np.ndarray) and a.dtype in FLOATS and a.size]
    outputs = [v.name for v in model.graph.output if v.type.tensor_type.elem_type in (1, 11)]
    if not floats or not outputs:
        return "no float input or output"
    if any(isinstance(a, np.ndarray) and a.size > MAX_ELEMENTS for a in arrays):
        return "large"
    random = np.random.default_rng(0)
    feeds = {n: moved_from_kinks(a, random) for n, a in zip(names, arrays, strict=False)}
    try:
        form = to_inference_form(read(model), MAX_OPSET).model
        forward = Session(form, 1)
        values = forward.run(feeds, outputs)
    except GradserveError:
        return "does not run"
    judge = PortableJudge(form, opset_of(form))
    reached = reach(form, floats, judge).problems
    ends = [v.name for v in form.graph.outputs if v in reached and v.name in outputs]
    starts = [n for n in floats if any(v.name in ends for v in reach(form, [n], judge).problems)]
    if not ends or not starts:
        return "proven zero"
    try:
        check(form, starts, ends, judge)
    except UnsupportedGradient:
        return "unsupported"
    form.graph.outputs[:] = [v for v in form.graph.outputs if v.name in ends]
    vjp = build_vjp(form, starts)
    cotangents = {n: random.normal(size=values[n].shape).astype(values[n].dtype) for n in ends}
    given = feeds | {cotangent_name(n): c for n, c in cotangents.items()}
    kept = {v.name for v in vjp.graph.inputs}
    got = Session(vjp, 1).run({n: a for n, a in given.items() if n in kept}, [gradient_name(n) for n in starts])
    # What is infinite, such as a mask, stays so.
    directions = {n: np.where(np.isfinite(feeds[n]), random.normal(size=feeds[n].shape), 0.0) for n in starts}
    for n in starts:
        assert got[gradient_name(n)].shape == feeds[n].shape, n
    if not all(np.isfinite(values[n]).all() for n in ends):
        return "not finite"
    expected, doubt, directions = derivative(forward, feeds, directions, cotangents)
    if not np.isfinite(expected):
        return "not finite"
    found = sum(float((got[gradient_name(n)].astype(np.float64) * d).sum()) for n, d in directions.items())
    scale = np.sqrt(sum(float((got[gradient_name(n)].astype(np.float64) ** 2).sum()) for n in starts))
    scale = max(scale, np.sqrt(sum(float((values[n].astype(np.float64) ** 2).sum()) for n in ends)) * 1e-3)
    tolerance = TOLERANCE["float32 finite differences"] * scale + 2 * doubt
    assert abs(found - expected) <= tolerance, f"{found} instead of {expected} (in doubt by {doubt})"
    return "right"


def test_the_gradient_of_every_operator_test():
    outcomes, wrong = Counter(), {}
    for case in cases():
        try:
            outcomes[try_case(case)] += 1
        except NotDifferentiable:
            outcomes["proven zero"] += 1
        except Exception as error:  # all that is wrong at once
            wrong[case.name] = f"{type(error).__name__}: {error}"
    wrong = {
        name: error
        for name, error in wrong.items()
        if not name.startswith(NO_DIFFERENCE) and not (name.startswith(FULLY_MASKED) and "nan instead of" in error)
    }
    assert wrong == {}
    assert outcomes["right"] > 900, outcomes


@pytest.mark.parametrize("case", [c for c in collect_models() if "gradient" in c.name], ids=lambda case: case.name)
def test_the_packages_own_tests_of_gradient(case):
    model = to_inference_form(read(case.model)).model
    assert not any(node.op_type == "Gradient" for node in model.graph)
    for inputs, outputs in case.data_sets:
        got = Session(model, 1).run({v.name: a for v, a in zip(model.graph.inputs, inputs, strict=True)})
        for value, expected in zip(model.graph.outputs, outputs, strict=True):
            np.testing.assert_allclose(got[value.name], expected, rtol=case.rtol, atol=case.atol)


GRADIENT = """<ir_version: 8, opset_import: ["" : 18, "ai.onnx.preview.training" : 1]>
g (float[2] x, float[2] w, float[2] at) => (float[2] y, float[2] dx, float[2] dw, float[2] ddw, float[2] there) {
    h = Mul(x, w)
    y = Mul(h, h)
    dx, dw = ai.onnx.preview.training.Gradient<xs = ["x", "w"], y = "y">(x, w)
    unused, ddw = ai.onnx.preview.training.Gradient<xs = ["x", "w"], y = "dw">(x, w)
    there = ai.onnx.preview.training.Gradient<xs = ["h"], y = "y">(at)
}"""


def test_gradient_twice_and_at_another_value():
    """y = (x w)^2: dx = 2 x w^2, dw = 2 x^2 w, d sum(dw) / dw = 2 x^2; and dy/dh = 2 h at h = at."""
    model = to_inference_form(read(onnx.parser.parse_model(GRADIENT))).model
    x, w, at = (np.array(values, np.float32) for values in ([1, 2], [3, -1], [5, 7]))
    got = Session(model, 1).run({"x": x, "w": w, "at": at})
    for name, expected in {"dx": 2 * x * w**2, "dw": 2 * x**2 * w, "ddw": 2 * x**2, "there": 2 * at}.items():
        np.testing.assert_allclose(got[name], expected, rtol=1e-6, err_msg=name)
    onnx.checker.check_model(ir.to_proto(model))


def test_gradient_of_an_unknown_name():
    text = GRADIENT.replace('y = "dw"', 'y = "nobody"')
    with pytest.raises(InvalidModel, match="expected names of tensors of the graph, got 'nobody'"):
        to_inference_form(read(onnx.parser.parse_model(text)))
