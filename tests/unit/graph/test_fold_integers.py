"""Integers computed from constants become constants, and nothing else does."""

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from gradserve_server.graph.inference_form import to_inference_form
from gradserve_server.graph.inference_form.fold_integers import fold_integers
from gradserve_server.graph.values import constant, shape_of


def folded(body: str, constants: dict[str, np.ndarray], inputs: str = "float[N, 3] X") -> tuple[ir.Model, list[str]]:
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]> g ({inputs}) => (float[] Y) {{ {body} }}')
    for name, array in constants.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    loaded = ir.from_proto(model)
    return loaded, fold_integers(loaded)


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("Mod(a, b)", [1]),
        ("Add(a, b)", [1]),
        ("Concat<axis = 0>(a, b, a)", [-1, 2, -1]),
        ("Slice(b, a, b)", [2]),
        ("Mul(a, a)", [1]),
    ],
)
def test_value(operator, expected):
    body = f"c = {operator} Y = Reshape(X, c)"
    model, words = folded(body, {"a": np.array([-1]), "b": np.array([2])})
    assert constant(model.graph.initializers["c"]).tolist() == expected
    assert ([node.op_type for node in model.graph], words) == (["Reshape"], ["computed 1 integer constants"])


def test_a_chain_goes_as_a_whole_and_gives_a_rank():
    body = """
        axis = Mod(back, rank) end = Reshape(axis, minus) s = Shape(X) head = Slice(s, zero, end)
        shape = Concat<axis = 0>(head, minus) Z = Reshape(X, shape) Y = Relu(Z)
    """
    constants = {"back": [-1], "rank": [2], "minus": [-1], "zero": [0]}
    arrays = {name: np.array(values) for name, values in constants.items()}
    model, words = folded(body, arrays)
    assert words == ["computed 2 integer constants"]
    (relu,) = (node for node in to_inference_form(model).model.graph if node.op_type == "Relu")
    assert len(shape_of(relu.outputs[0]) or ()) == 2


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        ("c = Add(i, a) Y = Reshape(X, c)", "float[N, 3] X, int64[1] i"),
        ("c = Div(a, a) Y = Reshape(X, c)", "float[N, 3] X"),
        ("c = Add(f, f) Y = Mul(X, c)", "float[N, 3] X"),
        ("c = Concat<axis = 0>(large, large) Y = Reshape(X, c)", "float[N, 3] X"),
    ],
    ids=["an input", "division", "floats", "large"],
)
def test_stays(body, inputs):
    constants = {"a": np.array([-1]), "f": np.ones(1, np.float32), "large": np.ones(60, np.int64)}
    model, words = folded(body, constants, inputs)
    assert (len(list(model.graph)), words) == (2, [])


def test_an_output_keeps_its_node():
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 18]> g (float[1] X) => (int64[1] c) <int64[1] a = {2}> { c = Add(a, a) }'
    )
    loaded = ir.from_proto(model)
    assert fold_integers(loaded) == []
