"""Our other operators for onnxruntime, and what happens where they are not there."""

import numpy as np
import onnx_ir as ir
import pytest
from support.onnx_models import build, random
from support.reference import relative_error
from support.tolerances import TOLERANCE
from support.tuned import BLOCKS, OURS, assert_same, operators_of, tuned_of

from gradserve import objectives as O
from gradserve_server.gradient_graph import derive_file
from gradserve_server.graph.contrib_shapes import infer_shapes
from gradserve_server.graph.tuning import tune
from gradserve_server.runtime import operators
from gradserve_server.runtime.session import Session


def test_this_runtime_has_them():
    assert operators.have_operators()


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


@pytest.mark.parametrize("machine", [OURS, BLOCKS], ids=["plain", "blocked"])
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
