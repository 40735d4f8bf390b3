"""Conversion of opsets: the same values by the same names, before and after."""

from collections.abc import Iterable

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator
from support.onnx_models import build, random
from support.opset_cases import LOWERED, RAISED, Case
from support.tolerances import TOLERANCE

from gradserve_server.graph.inference_form.convert_opset import CannotConvert, convert_opset
from gradserve_server.graph.inference_form.convert_opset.adapters import ADAPTERS
from gradserve_server.graph.inference_form.convert_opset.raising import breaks

OLDEST, NEWEST = 18, 21

NOT_RAISED = {
    ("Scan", 9): "over batches with lengths, which nobody writes since 2018",
}
"""(operator, opset that changed it): why it has no case."""

NOT_LOWERED = {
    "BitCast": "no older operator reads bits",
    "CumProd": "ONNX does not define it by others",
    "TensorScatter": "ONNX does not define it by others",
}
"""Operators that are new since `NEWEST`, and why they stay."""


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    providers = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers).run(None, feeds)


def graphs_of(graph: onnx.GraphProto) -> Iterable[onnx.GraphProto]:
    yield graph
    for attribute in (attribute for node in graph.node for attribute in node.attribute if attribute.HasField("g")):
        yield from graphs_of(attribute.g)


def names_of(model: onnx.ModelProto) -> set[str]:
    names = set()
    for graph in graphs_of(model.graph):
        names.update(value.name for value in (*graph.input, *graph.output, *graph.initializer))
        names.update(name for node in graph.node for name in node.output)
    return names


def convert(proto: onnx.ModelProto, *, checked: bool = True, inferred: bool = True, **limits: int) -> onnx.ModelProto:
    """The converted model, which must be valid ONNX with all the names that there were."""
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto) if inferred else proto)
    opset, wanted = proto.opset_import[0].version, limits.get("newest") or OLDEST
    assert convert_opset(model, **limits) == [f"converted opset {opset} to {wanted}"]
    assert model.opset_imports == {"": wanted}
    converted = ir.to_proto(model)
    assert names_of(proto) <= names_of(converted)
    for side in ("input", "output"):
        assert [v.name for v in getattr(converted.graph, side)] == [v.name for v in getattr(proto.graph, side)]
    assert [tensor.name for tensor in converted.graph.initializer][: len(proto.graph.initializer)] == [
        tensor.name for tensor in proto.graph.initializer
    ]
    if checked:
        onnx.checker.check_model(onnx.shape_inference.infer_shapes(converted, strict_mode=True), full_check=True)
    return converted


def assert_same(got: list[np.ndarray], expected: list[np.ndarray], tolerance: float) -> None:
    for one, other in zip(got, expected, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        if one.dtype.kind == "f":
            # Of each element, to the largest.
            np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * float(np.abs(other).max(initial=1e-30)))
        else:
            np.testing.assert_array_equal(one, other)


# ---- raising ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", RAISED, ids=str)
def test_raised_models_compute_the_same(case: Case):
    for opset in case.opsets:
        proto = case.model(opset)
        expected = run(proto, case.feeds)
        for inferred in (True, False) if any(op == case.op for op, _ in ADAPTERS) else (True,):
            converted = convert(proto, checked=case.checked, inferred=inferred)
            # The last rounding of what becomes arithmetic is another; all else is the same kernel.
            exact = case.op != "BatchNormalization"
            assert_same(run(converted, case.feeds), expected, 0 if exact else TOLERANCE["rewritten float32"])
            if inferred and case.becomes:
                assert [node.op_type for node in converted.graph.node] == case.becomes.split(), opset


def changes() -> list[tuple[str, int]]:
    """(operator, opset) for every change from opset 8 to 18 that may alter what a node means."""
    names = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""}
    return sorted((name, version) for name in names for version in range(8, OLDEST + 1) if breaks(name, version))


@pytest.mark.parametrize(("op", "version"), changes())
def test_every_change_has_an_adapter_and_a_case_or_a_reason(op: str, version: int):
    tested = [case for case in RAISED if case.op == op and any(opset < version for opset in case.opsets)]
    assert bool(tested) != ((op, version) in NOT_RAISED)
    assert (op, version) in ADAPTERS


@pytest.mark.parametrize(("op", "version"), ADAPTERS)
def test_every_adapter_has_a_case_or_a_reason(op: str, version: int):
    assert (op, version) in NOT_RAISED or any(case.op == op and min(case.opsets) < version for case in RAISED)


def test_every_operator_that_changed_at_all_has_a_case():
    versions: dict[str, list[int]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            versions.setdefault(schema.name, []).append(schema.since_version)
    changed = {op for op, opsets in versions.items() if any(min(opsets) < opset for opset in opsets if 7 < opset <= OLDEST)}
    assert not changed - {case.op for case in RAISED}


def test_weights_stay_the_objects_they_are():
    model = ir.from_proto(
        build("h = MatMul(x, w) y = Softmax(h)", inputs="float[2,3] x", opset=11, weights={"w": random(3, 4)})
    )
    weight, tensor = model.graph.initializers["w"], model.graph.initializers["w"].const_value
    assert convert_opset(model)
    assert model.graph.initializers["w"] is weight
    assert weight.const_value is tensor


def test_scales_that_callers_may_override_are_no_constants():
    proto = build("y = Resize(x, s)", inputs="float[1,1,4,6] x, float[4] s", opset=10)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.float32([1, 1, 2, 2]), "s"))
    feeds = {"x": random(1, 1, 4, 6), "s": np.float32([1, 1, 0.6, 0.5])}
    assert_same(run(convert(proto, checked=False), feeds), run(proto, feeds), 0)


def test_what_is_new_takes_no_name_that_is_there():
    body = 'y = Clip<min = 0.0>(x) "y/min" = Neg(y) "y/min_1" = Neg("y/min")'
    proto = build(body, inputs="float[2] x", outputs='float[2] y, float[2] "y/min", float[2] "y/min_1"', opset=9)
    assert_same(run(convert(proto), {"x": random(2)}), run(proto, {"x": random(2)}), 0)


def test_weights_of_old_files_stay_constants():
    """Before file format 4 all weights were inputs, and nobody could override them."""
    proto = build("y = Gemm(x, w, b)", inputs="float[2,3] x, float[3,4] w, float[4] b", opset=7, ir_version=3)
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(random(*shape), n) for n, shape in (("w", (3, 4)), ("b", (4,)))
    )
    model = ir.from_proto(proto)
    convert_opset(model)
    assert ([value.name for value in model.graph.inputs], model.ir_version) == (["x"], 8)
    assert_same(run(ir.to_proto(model), {"x": random(2, 3)}), run(proto, {"x": random(2, 3)}), 0)


def test_the_long_name_of_the_default_domain_is_understood():
    model = ir.from_proto(build("y = Clip<min = 0.0>(x)", inputs="float[2] x", outputs="float[2] y", opset=9))
    model.opset_imports["ai.onnx"] = model.opset_imports.pop("")
    model.opset_imports["com.microsoft"] = 1
    for node in model.graph:
        node.domain = "ai.onnx"
    assert convert_opset(model) == ["converted opset 9 to 18"]
    assert model.opset_imports == {"com.microsoft": 1, "": 18}


def test_what_onnxruntime_writes_into_the_default_domain_stays():
    proto = build(
        "h = LayerNormalization(x, g) y = Squeeze<axes = [0]>(h)", inputs="float[1,4] x", opset=12, weights={"g": random(4)}
    )
    assert_same(run(convert(proto, checked=False), {"x": random(1, 4)}), run(proto, {"x": random(1, 4)}), 0)


@pytest.mark.parametrize(("opset", "limits"), [(18, {}), (20, {}), (21, {"newest": 21}), (28, {}), (17, {"oldest": 17})])
def test_between_the_limits_nothing_is_done(opset: int, limits: dict[str, int]):
    model = ir.from_proto(build("y = Relu(x)", inputs="float[2] x", outputs="float[2] y", opset=opset))
    spelled = ir.to_proto(model)
    assert convert_opset(model, **limits) == []
    assert ir.to_proto(model) == spelled


# ---- lowering --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", LOWERED, ids=str)
def test_lowered_models_compute_the_same(case: Case):
    for opset in case.opsets:
        proto = case.model(opset)
        expected = ReferenceEvaluator(proto).run(None, case.feeds)
        converted = convert(proto, newest=NEWEST)
        assert converted.ir_version <= 10
        assert_same(run(converted, case.feeds), expected, TOLERANCE["rewritten float32"])


def test_rounding_to_float8e8m0_is_not_missed_where_there_is_none():
    """A test of its own: onnx's evaluator does not know the attribute of CastLike."""
    body = 'y = CastLike<round_mode = "nearest", saturate = 0>(x, k)'
    proto = build(body, inputs="float[2] x, int32 k", outputs="int32[2] y", opset=24)
    (node,) = convert(proto, newest=NEWEST).graph.node
    assert [attribute.name for attribute in node.attribute] == ["saturate"]


def test_every_new_operator_is_lowered_or_listed():
    schemas = onnx.defs.get_all_schemas_with_history()
    old = {schema.name for schema in schemas if schema.domain == "" and schema.since_version <= NEWEST}
    new = {schema.name for schema in schemas if schema.domain == ""} - old
    assert new == {case.op for case in LOWERED if case.op not in old} | set(NOT_LOWERED)


# ---- refusals --------------------------------------------------------------------------------------------------------

BATCHNORM = "BatchNormalization{0}(x, g, g, g, g)"
SCAN = "Scan<num_scan_inputs = 1, body = b (float[4] s, float[4] e) => (float[4] t) { t = Add(s, e) }>(, x, x)"
TF = 'Resize<coordinate_transformation_mode = "tf_half_pixel_for_nn">(x, g, g)'
UP = {"oldest": 21}
DOWN = {"newest": NEWEST}

REFUSED = {
    "training form": ("y, m = " + BATCHNORM.format(""), 9, {}, "(BatchNormalization, opset 9): expected inference form"),
    "training form, spatial = 0": (
        "y, m = " + BATCHNORM.format("<spatial = 0>"),
        7,
        {},
        "expected inference form, got training",
    ),
    "a mask that is read": ("y, m = Dropout(x) n = Neg(m)", 9, {}, "(Dropout, opset 9): expected an unused mask"),
    "Scan over batches": ("y = " + SCAN, 8, {}, "(Scan, opset 8): expected a Scan of opset 9 or newer"),
    "no operator of onnx": (
        "y = ImageScaler<scale = 2.0>(x)",
        9,
        {},
        "(ImageScaler, opset 9): expected an operator of opset 9",
    ),
    "Keras' rounding, another way": (
        "y = " + TF,
        11,
        {},
        "expected tf_half_pixel_for_nn with mode nearest, rounding 'floor'",
    ),
    "no adapter": ("y = GroupNormalization<num_groups = 3>(x, g, g)", 18, UP, "got one that opset 21 gave another meaning"),
    "a default that changed": ("y = GridSample(x, x)", 17, UP, "got one that opset 20 gave another mode"),
    "too old": ("y = Relu(x)", 6, {}, "expected an opset from 7 to"),
    "too new": ("y = Relu(x)", 99, DOWN, "the newest that onnx"),
    "an operator without a body": ("y = CumProd(x, k)", 26, DOWN, "(CumProd, opset 26): opset 21 has no such operator"),
    "an attribute that says more": (
        "q = Cast<to = 2>(x) y = DequantizeLinear<output_dtype = 11>(q, z)",
        23,
        DOWN,
        "(DequantizeLinear, opset 23): opset 21 does not know its attribute 'output_dtype'",
    ),
    "an element type": (
        "b = Cast<to = 16>(x) w = Cast<to = 16>(g) y = Conv(b, w)",
        22,
        DOWN,
        "(Conv, opset 22): in opset 21 it does not take tensor(bfloat16) as 'X' ('b')",
    ),
    "an unknown element type": (
        "h = own.Op(x) y = RMSNormalization(h, g)",
        23,
        DOWN,
        "(RMSNormalization, opset 23): expected known element types of its inputs, got none of 'h'",
    ),
}


def refused(body: str, opset: int) -> onnx.ModelProto:
    """A model with a node before that can be converted, whichever way."""
    before = "c = Clip<min = 0.0>(k)" if opset < 11 else "c = Neg(k)" if opset < 24 else "c = Swish(k)"
    inputs = "float[2,3,4,4] x, float[3] k, float z"
    header = f'<ir_version: 8, opset_import: ["" : {opset}, "own" : 1]>'
    model = onnx.parser.parse_model(f"{header} test ({inputs}) => (float[] y, float[3] c) {{ {before} {body} }}")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(3, np.float32), "g"))
    return onnx.shape_inference.infer_shapes(model) if opset < 99 else model


@pytest.mark.parametrize(("body", "opset", "limits", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_names_node_and_reason_and_changes_nothing(body: str, opset: int, limits: dict[str, int], reason: str):
    model = ir.from_proto(refused(body, opset))
    spelled = ir.to_proto(model)
    with pytest.raises(CannotConvert) as refusal:
        convert_opset(model, **limits)
    assert reason in str(refusal.value)
    assert ir.to_proto(model) == spelled


def test_functions_must_be_inlined():
    model = ir.from_proto(build("y = Relu(x)", opset=17))
    inputs = ir.Value(name="a")
    model.functions["own", "Twice", ""] = ir.Function(
        "own", "Twice", graph=ir.Graph([inputs], [inputs], nodes=[]), attributes={}
    )
    with pytest.raises(CannotConvert, match="expected a model whose functions are inlined, got 'Twice'"):
        convert_opset(model)
