"""A convolution over its whole image becomes a product with the same array; what is none stays a convolution."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from support.onnx_models import build, random
from support.reference import evaluate, relative_error
from support.runtime import BACKENDS
from support.tolerances import TOLERANCE

from gradserve_server.graph import dense_convolutions
from gradserve_server.graph.contrib_shapes import infer_shapes
from gradserve_server.graph.dense_convolutions import to_products
from gradserve_server.graph.derivatives import Backend, Policy, Wanted, derive


@pytest.fixture(autouse=True)
def _small_ones_too(monkeypatch):
    monkeypatch.setattr(dense_convolutions, "WORTH_BYTES", 1)


def conv(attributes: str = "", *, bias: bool = True, image=(6, 4, 3), kernel=(5, 6, 4, 3)) -> onnx.ModelProto:
    weights = {"w": random(*kernel)} | ({"b": random(kernel[0])} if bias else {})
    body = f"h = Conv{attributes}({', '.join(('x', *weights))}) y = Tanh(h)"
    inputs, outputs = f"float[N,{','.join(map(str, image))}] x", f"float[N{',?' * len(image)}] y"
    return build(body, inputs=inputs, outputs=outputs, opset=18, weights=weights)


def rewritten(proto: onnx.ModelProto) -> ir.Model:
    model = ir.from_proto(proto)
    infer_shapes(model)
    to_products(model)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    return model


def operators(model: ir.Model) -> set[str]:
    return {node.op_type for node in model.graph}


DENSE = {
    "whole": conv(),
    "without a bias": conv(bias=False),
    "strides that take no step": conv("<strides = [2, 3]>"),
    "VALID": conv('<auto_pad = "VALID">'),
    "one pixel": conv(image=(6, 1, 1), kernel=(5, 6, 1, 1)),
    "one axis": conv(image=(6, 7), kernel=(5, 6, 7)),
    "three axes": conv(image=(2, 3, 4, 2), kernel=(5, 2, 3, 4, 2)),
}

OTHERS = {
    "two positions": conv(kernel=(5, 6, 4, 2)),
    "padded": conv("<pads = [1, 0, 0, 0]>"),
    "SAME": conv('<auto_pad = "SAME_UPPER">'),
    "groups": conv("<group = 2>", kernel=(4, 3, 4, 3)),
    "dilated": conv("<dilations = [2, 1], pads = [3, 0, 0, 0]>"),
    "unknown size": conv(image=(6, "H", "W")),
}


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("proto", DENSE.values(), ids=DENSE)
def test_the_product_is_the_convolution(proto, samples):
    model = rewritten(proto)
    assert operators(model) == {"Reshape", "Gemm", "Tanh"}
    size = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim[1:]]
    feeds = {"x": random(samples, *size) / 4}
    got, expected = (np.asarray(evaluate(each)(feeds)) for each in (ir.to_proto(model), proto))
    assert got.shape == expected.shape
    assert relative_error(got, expected) < TOLERANCE["float32 operator"]


@pytest.mark.parametrize("proto", OTHERS.values(), ids=OTHERS)
def test_others_stay(proto):
    assert operators(rewritten(proto)) == {"Conv", "Tanh"}


def test_little_stays_in_blocks(monkeypatch):
    monkeypatch.setattr(dense_convolutions, "WORTH_BYTES", 4 * 5 * 6 * 4 * 3 + 1)
    assert operators(rewritten(conv())) == {"Conv", "Tanh"}


def test_values_keep_their_names_and_weights_their_memory():
    model = ir.from_proto(conv())
    infer_shapes(model)
    weight = random(5, 6, 4, 3)
    model.graph.initializers["w"].const_value = ir.tensor(weight)
    to_products(model)
    names = {value.name for node in model.graph for value in node.outputs}
    assert {"h", "y"} <= names
    (matrix,) = (v.const_value.numpy() for v in model.graph.initializers.values() if v.shape == (5, 72))
    assert np.shares_memory(matrix, weight)
    assert "w" not in model.graph.initializers


@pytest.mark.parametrize("backend", BACKENDS)
def test_both_directions_of_a_gradient_read_one_matrix(backend):
    model = ir.from_proto(conv())
    infer_shapes(model)
    derived = derive(model, Wanted(("x",), ("y",)), Policy(Backend(backend))).model
    readers = [[n.op_type for n, _ in v.uses()] for v in derived.graph.initializers.values() if v.shape == (5, 72)]
    assert readers == [["Gemm", "Gemm"]]
    assert not operators(derived) & {"Conv", "ConvTranspose"}
