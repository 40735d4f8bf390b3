"""Half models computed in float32: what float32 gives for the same numbers, behind the interface that the file declares."""

import re
from collections.abc import Iterator

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from support.onnx_models import build, random
from support.tolerances import TOLERANCE

from gradserve.errors import UnsupportedGradient
from gradserve_server.graph.inference_form.to_float32 import HALVES, TYPE_ATTRIBUTES, to_float32

OPSET = 21
NUMPY = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
HALF_TYPES = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}


def half_model(body: str, kind: str, inputs: str, outputs: str, **weights: np.ndarray) -> onnx.ModelProto:
    """T stands for the type, TYPE for its number, in a text that holds for float32 too."""
    number = onnx.TensorProto.DataType.Value(kind.upper())
    spelled = [text.replace("TYPE", str(number)).replace("T[", f"{kind}[") for text in (body, inputs, outputs)]
    dtype = NUMPY.get(kind, np.dtype(np.float32))
    weights = {name: w.astype(dtype) if w.dtype.kind == "f" else w for name, w in weights.items()}
    body, inputs, outputs = spelled
    model = build(body, inputs=inputs, outputs=outputs, opset=OPSET, ir_version=10, weights=weights)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def converted(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model in float32, which must be valid and have the same interface and all names."""
    model = ir.from_proto(proto)
    assert len(to_float32(model)) == 1
    result = ir.to_proto(model)
    onnx.checker.check_model(result, full_check=True)
    for side in ("input", "output"):
        assert [(v.name, v.type) for v in getattr(result.graph, side)] == [
            (v.name, v.type) for v in getattr(proto.graph, side)
        ]
    assert names_of(proto.graph) <= names_of(result.graph)
    return result


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for attribute in (attribute for node in graph.node for attribute in node.attribute if attribute.HasField("g")):
        yield from graphs_of(attribute.g)


def names_of(graph: onnx.GraphProto) -> set[str]:
    values = [value.name for g in graphs_of(graph) for value in (*g.input, *g.output, *g.initializer)]
    return {*values, *(name for g in graphs_of(graph) for node in g.node for name in node.output)}


def halves_inside(model: onnx.ModelProto) -> set[str]:
    """Names of values of a half type that are neither inputs nor outputs of the model."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    interface = {value.name for value in (*model.graph.input, *model.graph.output)}
    found = set()
    for graph in graphs_of(inferred.graph):
        for value in (*graph.value_info, *graph.input, *graph.output):
            if value.type.tensor_type.elem_type in HALF_TYPES:
                found.add(value.name)
        found.update(tensor.name for tensor in graph.initializer if tensor.data_type in HALF_TYPES)
    return found - interface


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """In onnxruntime, without its optimizer."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    providers = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers).run(None, feeds)


def run_in_float32(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Halves are fed and read as float32: numpy has no bfloat16."""
    wrapped = in_float32(model)
    fed = {value.name for value in wrapped.graph.input}
    return run(wrapped, {f"{name}/fed" if f"{name}/fed" in fed else name: x for name, x in feeds.items()})


def in_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with inputs and outputs of halves cast, from float32 and to it."""
    wrapped = onnx.ModelProto()
    wrapped.CopyFrom(model)
    del wrapped.graph.node[:]
    ends = []
    for value, side in [(v, "fed") for v in wrapped.graph.input] + [(v, "read") for v in wrapped.graph.output]:
        half = value.type.tensor_type.elem_type
        if half not in HALF_TYPES:
            continue
        name, value.name = value.name, f"{value.name}/{side}"
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        if side == "fed":
            wrapped.graph.node.append(onnx.helper.make_node("Cast", [value.name], [name], to=half))
        else:
            ends.append(onnx.helper.make_node("Cast", [name], [value.name], to=onnx.TensorProto.FLOAT))
    wrapped.graph.node.extend([*model.graph.node, *ends])
    return wrapped


BRANCHES = (
    "then_branch = a () => (T[2,3] t) { t = Mul(x, w) }, "
    "else_branch = b () => (T[2,3] e) { f = Cast<to = 1>(x) h = Cast<to = TYPE>(f) e = Add(h, w) }"
)
LOOP = (
    "body = step (int64 i, bool going, T[2,3] h) => (bool on, T[2,3] n, T[2,3] r) "
    "{ on = Identity(going) n = Mul(h, w) r = Neg(n) }"
)
ROWS, ANY = "T[2,3] x", "T[2,3] y"

CASES = {
    "product": ("h = MatMul(x, m) y = Softmax(h)", ROWS, "T[2,4] y"),
    "a value that is read is an output": ("h = Exp(x) y = Mul(h, w)", ROWS, "T[2,3] y, T[2,3] h"),
    "an output that is an input": ("y = Neg(x)", ROWS, "T[2,3] y, T[2,3] x"),
    "an input that nobody reads": ("y = Exp(w)", ROWS, ANY),
    "an input of float32": ("c = Cast<to = TYPE>(f) y = Add(c, x)", f"{ROWS}, float[2,3] f", ANY),
    "an output of float32": ("h = Add(x, w) y = Cast<to = 1>(h)", ROWS, "float[2,3] y"),
    "a weight that is an output": ("y = Add(x, w)", ROWS, "T[2,3] y, T[2,3] w"),
    "a cast like another": ("f = Cast<to = 1>(x) y = CastLike(f, x)", ROWS, ANY),
    "a fill value": ("s = Shape(x) c = ConstantOfShape(s) h = Cast<to = TYPE>(c) y = Sub(x, h)", ROWS, ANY),
    "types as attributes": ("e = EyeLike<dtype = TYPE>(x) y = Add(e, x)", ROWS, ANY),
    "normalization": ("y = LayerNormalization<stash_type = 1>(x, g, g)", ROWS, ANY),
    "quantization": ("q = QuantizeLinear(x, scale, zero) y = DequantizeLinear(q, scale, zero)", ROWS, ANY),
    "branches": (f"y = If<{BRANCHES}>(c)", f"{ROWS}, bool c", ANY),
    "loop": (f"y, z = Loop<{LOOP}>(count, true, x)", ROWS, "T[2,3] y, T[3,2,3] z"),
    "sequence": ("s = SequenceConstruct(x, w) y = ConcatFromSequence<axis = 0>(s)", ROWS, "T[4,3] y"),
    "recurrence": ("u = Unsqueeze(x, axes) y = RNN<hidden_size = 2>(u, wi, wr)", ROWS, "T[1,1,2,2] y"),
}

WEIGHTS = {
    "w": random(2, 3),
    "m": random(3, 4),
    "g": random(3),
    "scale": np.abs(random(1))[0] + np.float32(0.1),
    "zero": np.uint8(100),
    "count": np.int64(3),
    "true": np.bool_(True),
    "axes": np.array([0]),
    "wi": random(1, 2, 3),
    "wr": random(1, 2, 2),
}


def weights_of(body: str, dtype: np.dtype) -> dict[str, np.ndarray]:
    """Those that the text names, rounded to halves."""
    named = {name: np.asarray(w) for name, w in WEIGHTS.items() if name in set(re.findall(r"\w+", body.split("=", 1)[1]))}
    return {name: w.astype(dtype).astype(np.float32) if w.dtype.kind == "f" else w for name, w in named.items()}


@pytest.mark.parametrize("kind", NUMPY)
@pytest.mark.parametrize(("body", "inputs", "outputs"), CASES.values(), ids=CASES)
def test_half_models_compute_what_float32_computes(body: str, inputs: str, outputs: str, kind: str):
    weights = weights_of(body, NUMPY[kind])
    result = converted(half_model(body, kind, inputs, outputs, **weights))
    assert halves_inside(result) == set()
    feeds = {"x": random(2, 3).astype(NUMPY[kind]).astype(np.float32), "f": random(2, 3), "c": np.array(True)}
    feeds = {value.name: feeds[value.name] for value in result.graph.input}
    for choice in (True, False) if "c" in feeds else (True,):
        feeds |= {"c": np.array(choice)} if "c" in feeds else {}
        in_single = half_model(body, "float", inputs, outputs, **weights)
        for value, *arrays in zip(result.graph.output, run_in_float32(result, feeds), run(in_single, feeds), strict=True):
            is_half = value.type.tensor_type.elem_type in HALF_TYPES
            got, expected = (array.astype(NUMPY[kind]).astype(np.float32) if is_half else array for array in arrays)
            np.testing.assert_array_equal(got, expected)


def test_float16_models_are_near_what_float16_computes():
    """That the oracle above is one: the half model itself, in onnxruntime's float16."""
    body, inputs, outputs = CASES["product"]
    proto = half_model(body, "float16", inputs, outputs, **weights_of(body, NUMPY["float16"]))
    feeds = {"x": random(2, 3)}
    (got,), (expected,) = run_in_float32(converted(proto), feeds), run_in_float32(proto, feeds)
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE["rewritten float16"])


@pytest.mark.parametrize("kind", NUMPY)
def test_constants_hold_the_same_numbers(kind: str):
    proto = half_model("y = Add(x, x)", kind, ROWS, ANY)
    numbers = random(2, 3, seed=3).astype(NUMPY[kind])
    tensor = ir.to_proto(ir.tensor(numbers, name="k"))
    proto.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["k"], value=tensor))
    proto.graph.node[1].input[1] = "k"
    result = converted(proto)
    (constant,) = (node.attribute[0].t for node in result.graph.node if node.op_type == "Constant")
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(constant), numbers.astype(np.float32))


def test_a_weight_that_many_read_is_converted_once():
    model = ir.from_proto(half_model("a = Add(x, w) b = Mul(a, w) y = Sub(b, w)", "float16", ROWS, ANY, w=random(2, 3)))
    weight = model.graph.initializers["w"]
    to_float32(model)
    assert [node.op_type for node in model.graph] == ["Cast", "Add", "Mul", "Sub", "Cast"]
    assert list(model.graph.initializers.values()) == [weight]
    assert weight.const_value.dtype == weight.dtype == ir.DataType.FLOAT


def test_a_weight_that_callers_may_override_stays_one():
    proto = half_model("y = Add(x, w)", "float16", f"{ROWS}, T[2,3] w", ANY, w=random(2, 3))
    result = converted(proto)
    assert [tensor.data_type for tensor in result.graph.initializer] == [onnx.TensorProto.FLOAT16]
    x, w = (random(2, 3, seed=i, dtype="float16") for i in (1, 2))
    np.testing.assert_array_equal(run(result, {"x": x, "w": w})[0], x + w)


def test_random_numbers_are_of_float32():
    body = (
        "a = RandomNormalLike<dtype = TYPE>(x) b = RandomUniform<dtype = TYPE, shape = [2,3]>() c = Add(a, b) y = Add(c, x)"
    )
    result = converted(half_model(body, "float16", ROWS, ANY))
    assert halves_inside(result) == set()
    assert np.isfinite(run_in_float32(result, {"x": random(2, 3)})[0]).all()


def test_types_of_empty_optionals_are_changed():
    model = ir.from_proto(half_model("y = Neg(x)", "float16", ROWS, ANY))
    kind = ir.OptionalType(ir.SequenceType(ir.TensorType(ir.DataType.FLOAT16)))
    optional = ir.node("Optional", [], {}, name="none")
    optional.attributes["type"] = ir.AttrTypeProto("type", ir.TypeAndShape(kind.elem_type, None))
    optional.outputs[0].name, optional.outputs[0].type = "none", kind
    model.graph.append(optional)
    to_float32(model)
    expected = ir.SequenceType(ir.TensorType(ir.DataType.FLOAT))
    assert optional.outputs[0].type == ir.OptionalType(expected)
    assert optional.attributes["type"].value.type == expected


def test_new_names_are_free():
    body = '"x/float32" = Neg(x) "y/float32" = Exp("x/float32") y = Add("y/float32", x)'
    result = converted(half_model(body, "float16", ROWS, ANY))
    assert {"x/float32_1", "y/float32_1"} <= names_of(result.graph)


def test_a_model_without_halves_is_left_alone():
    model = ir.from_proto(half_model("h = Cast<to = 11>(x) y = Cast<to = 1>(h)", "float", ROWS, ANY))
    spelled = ir.to_proto(model)
    assert to_float32(model) == []
    assert ir.to_proto(model) == spelled


def test_bits_of_halves_are_refused():
    model = ir.from_proto(build("y = BitCast<to = 5>(x)", inputs="float16[2] x", outputs="int16[2] y", opset=26))
    with pytest.raises(UnsupportedGradient, match=r"\(BitCast, opset 26\): reads the bits of a float16 or bfloat16"):
        to_float32(model)


def test_an_input_that_is_no_tensor_is_refused():
    proto = build("y = ConcatFromSequence<axis = 0>(s)", inputs="seq(float16[2]) s", outputs="float16[n] y")
    with pytest.raises(UnsupportedGradient, match="'s': expected a tensor"):
        to_float32(ir.from_proto(proto))


WHOLE_NUMBERS_ONLY = {("Multinomial", "dtype"), ("QuantizeLinear", "output_dtype")}
REFUSED = {("BitCast", "to")}


def test_every_attribute_that_names_a_type_is_listed():
    """By its name: `dtype`, `to`, or anything with "type" or "precision" in it."""
    found = {
        (schema.name, name)
        for schema in onnx.defs.get_all_schemas_with_history()
        if schema.domain == ""
        for name, attribute in schema.attributes.items()
        if attribute.type == onnx.defs.OpSchema.AttrType.INT and re.search(r"type|precision|^to$", name)
    }
    assert found == set(TYPE_ATTRIBUTES) | WHOLE_NUMBERS_ONLY | REFUSED


def test_every_half_type_is_meant():
    assert {ir.DataType[name.upper()] for name in NUMPY} == HALVES
