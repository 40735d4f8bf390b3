"""Every rule of the portable backend, at every version of its operator, against two independent oracles."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from conformance.case import Case, Drawn
from conformance.cases import CASES
from conformance.oracles import (
    along,
    autograd,
    cotangents_of,
    difference,
    directions,
    evaluator,
    second_derivative,
    weighted_sum,
)
from support.reference import relative_error
from support.runtime import MAX_OPSET
from support.tolerances import TOLERANCE

from gradserve_server.graph.autodiff.judge import PortableJudge
from gradserve_server.graph.autodiff.names import cotangent_name, gradient_name, hvp_name, tangent_name
from gradserve_server.graph.autodiff.path import check, reach
from gradserve_server.graph.autodiff.portable import build_hvp, build_jvp, build_vjp
from gradserve_server.graph.autodiff.rules import NEWEST_OPSET, RUNTIME_ONLY, TABLE, Expansion, Rule, Unsupported, lookup
from gradserve_server.graph.inference_form import to_inference_form
from gradserve_server.runtime.session import Session


@pytest.fixture(autouse=True)
def _can_run(request: pytest.FixtureRequest) -> None:
    case = request.node.callspec.params["case"] if hasattr(request.node, "callspec") else None
    if case is not None and case.skipped and not request.node.get_closest_marker("any_runtime"):
        pytest.skip(case.skipped)


def served(case: Case, opset: int, dynamic: str) -> ir.Model:
    """The case in inference form, with every path checked."""
    model = to_inference_form(ir.from_proto(case.model(opset, dynamic=dynamic))).model
    check(model, list(case.inputs), list(case.outputs), PortableJudge(model, opset, straight_through=case.straight_through))
    return model


def feeds_of(case: Case, inputs: Drawn, extra: dict[str, np.ndarray], model: ir.Model) -> dict[str, np.ndarray]:
    given = inputs | dict(case.others) | extra
    wanted = {value.name: value for value in model.graph.inputs}
    return {
        name: np.asarray(array, np.float32) if array.dtype == np.float64 else array
        for name, array in given.items()
        if name in wanted
    }


def agree(got: Drawn, expected: Drawn, tolerance: float) -> None:
    """All gradients as one vector, and each on its own where it is not negligible."""
    everything = np.concatenate([np.ravel(values) for values in expected.values()])
    together = np.concatenate([np.ravel(got[name]) for name in expected])
    assert {name: values.shape for name, values in expected.items()} == {name: got[name].shape for name in expected}
    if np.linalg.norm(everything) == 0:
        assert np.abs(together).max(initial=0) <= tolerance
        return
    assert relative_error(together, everything) <= tolerance


PAIRS = [pytest.param(case, opset, id=f"{i}-{case.id}-{opset}") for i, case in enumerate(CASES) for opset in case.opsets]
RUNNABLE = [
    pytest.param(case, opset, dynamic, id=f"{i}-{case.id}-{opset}-{dynamic}")
    for i, case in enumerate(CASES)
    for opset in case.opsets
    for dynamic in case.dynamic
    if opset <= MAX_OPSET
]
ONCE = [
    pytest.param(case, next((o for o in case.opsets if o <= MAX_OPSET), None), id=f"{i}-{case.id}")
    for i, case in enumerate(CASES)
]


def gradients(case: Case, opset: int, dynamic: str, inputs: Drawn, cotangents: list[np.ndarray]) -> Drawn:
    """By the portable backend, in onnxruntime."""
    model = build_vjp(served(case, opset, dynamic), list(case.inputs), straight_through=case.straight_through)
    given = {cotangent_name(name): values for name, values in zip(case.outputs, cotangents, strict=True)}
    results = Session(model, 1).run(feeds_of(case, inputs, given, model))
    return {name: results[gradient_name(name)] for name in case.inputs}


@pytest.mark.torch
@pytest.mark.parametrize(("case", "opset", "dynamic"), RUNNABLE)
def test_gradient_equals_autograd(case, opset, dynamic):
    inputs = case.draw()
    outputs, pull = autograd(case, inputs)
    if dynamic == case.dynamic[0]:
        model = served(case, opset, dynamic)
        forward = Session(model, 1).run(feeds_of(case, inputs, {}, model))
        for name, expected in zip(case.outputs, outputs, strict=True):
            assert forward[name].shape == expected.shape, f"torch's {name} is another function"
            assert relative_error(forward[name], expected) <= TOLERANCE["float32 operator"], (
                f"torch's {name} is another function"
            )
    cotangents = cotangents_of(outputs)
    agree(gradients(case, opset, dynamic, inputs, cotangents), pull(cotangents), TOLERANCE["float32 operator"])


@pytest.mark.parametrize(("case", "opset"), [pair for pair in PAIRS if pair.values[0].evaluator])
def test_gradient_equals_finite_differences(case, opset):
    if opset > MAX_OPSET:
        pytest.skip(f"the installed onnxruntime knows opsets up to {MAX_OPSET}")
    inputs = case.draw()
    outputs = evaluator(case.model(opset, dtype=onnx.TensorProto.DOUBLE)).run(list(case.outputs), inputs | dict(case.others))
    cotangents = cotangents_of(outputs)
    got = gradients(case, opset, case.dynamic[-1], inputs, cotangents)
    function = weighted_sum(case, opset)
    scale = np.sqrt(sum(float((values.astype(np.float64) ** 2).sum()) for values in got.values()))
    for direction in directions(inputs):
        expected = difference(lambda moved: function(moved, cotangents), inputs, direction)
        assert abs(along(got, direction) - expected) <= TOLERANCE["float32 operator"] * max(scale, abs(expected), 1e-3)


@pytest.mark.torch
@pytest.mark.parametrize(("case", "opset"), ONCE)
def test_second_derivative_equals_autograd(case, opset):
    """The rules are closed: what they emit has rules. H t of <output, cotangent>, by the walk applied twice."""
    if opset is None:
        pytest.skip(f"the installed onnxruntime knows opsets up to {MAX_OPSET}")
    inputs = case.draw()
    outputs, _ = autograd(case, inputs)
    cotangents, direction = cotangents_of(outputs), directions(inputs)[0]
    model = build_vjp(served(case, opset, case.dynamic[-1]), list(case.inputs), straight_through=case.straight_through)
    for node in model.graph.all_nodes():
        assert not isinstance(lookup(node, opset), Unsupported), f"emitted {node.op_type}, which has no rule"
    graded = [gradient_name(name) for name in case.inputs]
    problems = reach(model, list(case.inputs), PortableJudge(model, opset, straight_through=case.straight_through)).problems
    assert [problems.get(value, ()) for value in model.graph.outputs if value.name in graded] == [()] * len(graded)
    twice = build_hvp(model, list(case.inputs), straight_through=case.straight_through)
    given = {cotangent_name(name): values for name, values in zip(case.outputs, cotangents, strict=True)}
    given |= {tangent_name(name): values for name, values in direction.items()}
    results = Session(twice, 1).run(feeds_of(case, inputs, given, twice))
    expected = second_derivative(case, inputs, cotangents, direction)
    agree({name: results[hvp_name(name)] for name in case.inputs}, expected, TOLERANCE["float32 second derivative"])


@pytest.mark.parametrize(("case", "opset"), ONCE)
def test_jvp_is_the_adjoint_of_the_vjp(case, opset):
    """<v, J t> = <J^T v, t>."""
    if opset is None:
        pytest.skip(f"the installed onnxruntime knows opsets up to {MAX_OPSET}")
    inputs = case.draw()
    direction = directions(inputs)[0]
    forward = served(case, opset, case.dynamic[-1])
    model = build_jvp(forward, list(case.inputs), straight_through=case.straight_through)
    assert not any((value.name or "").startswith("cotangent/") for value in model.graph.inputs)
    results = Session(model, 1).run(
        feeds_of(case, inputs, {tangent_name(name): values for name, values in direction.items()}, model)
    )
    tangents = [results[tangent_name(name)] for name in case.outputs]
    cotangents = cotangents_of(tangents)
    pulled = gradients(case, opset, case.dynamic[-1], inputs, cotangents)
    forwards = sum(float((c * t).sum()) for c, t in zip(cotangents, tangents, strict=True))
    size = np.sqrt(sum(float((c**2).sum()) for c in cotangents) * sum(float((t**2).sum()) for t in tangents))
    assert abs(forwards - along(pulled, direction)) <= TOLERANCE["float32 operator"] * max(size, 1e-3)


@pytest.mark.any_runtime
@pytest.mark.parametrize(("case", "opset"), PAIRS)
def test_gradient_graph_is_standard_onnx(case, opset):
    """It passes the checker with full shape inference, and uses no domain that the forward graph does not use."""
    model = build_vjp(served(case, opset, case.dynamic[-1]), list(case.inputs), straight_through=case.straight_through)
    assert {node.domain for node in model.graph.all_nodes()} <= {"", case.domain}
    if case.op not in RUNTIME_ONLY and case.checker:  # the checker would want a definition
        onnx.checker.check_model(ir.to_proto(model), full_check=not case.domain)


@pytest.mark.any_runtime
@pytest.mark.parametrize(
    ("case", "opset"), [pair for pair in PAIRS if pair.values[0].evaluator and pair.values[0].portable_evaluator]
)
def test_gradient_graph_runs_in_the_reference_evaluator(case, opset):
    inputs = case.draw()
    model = build_vjp(served(case, opset, case.dynamic[-1]), list(case.inputs), straight_through=case.straight_through)
    proto = ir.to_proto(model)
    outputs = evaluator(case.model(opset, dtype=onnx.TensorProto.DOUBLE)).run(list(case.outputs), inputs | dict(case.others))
    cotangents = cotangents_of(outputs)
    given = {cotangent_name(name): values for name, values in zip(case.outputs, cotangents, strict=True)}
    wanted = [gradient_name(name) for name in case.inputs]
    with np.errstate(over="ignore"):  # the step of `vjp_activations.STEEP` overflows to infinity on purpose
        got = dict(zip(case.inputs, evaluator(proto).run(wanted, feeds_of(case, inputs, given, model)), strict=True))
    function = weighted_sum(case, opset)
    scale = np.sqrt(sum(float((values.astype(np.float64) ** 2).sum()) for values in got.values()))
    for direction in directions(inputs):
        expected = difference(lambda moved: function(moved, cotangents), inputs, direction)
        assert abs(along(got, direction) - expected) <= TOLERANCE["float32 operator"] * max(scale, abs(expected), 1e-3)


# ---- completeness ----------------------------------------------------------------------------------------------------


def versions_in_force(domain: str = "") -> set[tuple[str, str, int]]:
    """Every operator version that some opset from the table's oldest to its newest uses."""
    found = set()
    for name in {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == domain}:
        for opset in range(18, min(NEWEST_OPSET, onnx.defs.onnx_opset_version()) + 1):
            if onnx.defs.has(name, opset, domain):
                found.add((domain, name, onnx.defs.get_schema(name, opset, domain).since_version))
    return found


def test_every_operator_version_is_in_exactly_one_state():
    """`rules._register` asserts that none stands in the table twice."""
    expected = versions_in_force()
    table = {key for key in TABLE if not key[0]}
    assert expected - table == set(), "no state"
    if onnx.defs.onnx_opset_version() >= NEWEST_OPSET:
        assert table - expected == set(), "no such operator version"


def test_every_rule_has_a_case():
    covered = set()
    for case in CASES:
        for opset in case.opsets:
            since = onnx.defs.get_schema(case.op, opset, "").since_version if not case.domain else 1
            covered.add((case.domain, case.op, since))
    ruled = {key for key, state in TABLE.items() if isinstance(state, (Rule, Expansion))}
    assert ruled - covered == set(), "no case"
