"""What pooling rules promise at ties, and where runtimes differ: conventions, tested on purpose."""

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from support.tolerances import TOLERANCE

from gradserve.errors import UnsupportedGradient
from gradserve_server.graph.autodiff.judge import PortableJudge
from gradserve_server.graph.autodiff.names import cotangent_name, gradient_name
from gradserve_server.graph.autodiff.path import check
from gradserve_server.graph.autodiff.portable import build_vjp
from gradserve_server.graph.inference_form import to_inference_form
from gradserve_server.runtime.session import Session


def gradient(body: str, x: np.ndarray, dy: np.ndarray | None = None, *, declared: str = "", opset: int = 21) -> np.ndarray:
    """Of sum <Y, dY>, dY of ones by default."""
    shape = declared or ",".join(map(str, x.shape))
    text = f'<ir_version: 10, opset_import: ["" : {opset}]> g (float[{shape}] X) => (float Y) {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    forward = to_inference_form(ir.from_proto(proto)).model
    check(forward, ["X"], ["Y"], PortableJudge(forward, opset))
    if dy is None:
        dy = np.ones_like(Session(forward, 1).run({"X": x})["Y"])
    return Session(build_vjp(forward, ["X"]), 1).run({"X": x, cotangent_name("Y"): dy})[gradient_name("X")]


IMAGE = np.array([[1, 1, 0, 2], [1, 1, 2, 2], [3, 0, 0, 0], [0, 3, 0, 0]], np.float32)[None, None]


@pytest.mark.parametrize("declared", ["", "N,C,H,W"])
def test_of_equal_maxima_the_first_takes_all(declared):
    tiles = gradient("Y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(X)", IMAGE, declared=declared)
    assert tiles[0, 0].tolist() == [[1, 0, 0, 1], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    # The same for windows that overlap: an element gets the sum over the windows where it comes first.
    overlapping = gradient("Y = MaxPool<kernel_shape = [2, 2]>(X)", IMAGE, declared=declared)
    assert overlapping[0, 0].tolist() == [[1, 0, 0, 1], [0, 0, 3, 0], [2, 0, 1, 0], [0, 1, 0, 0]]


@pytest.mark.parametrize("order", [0, 1])
def test_the_first_is_in_rows_whatever_the_storage_order_of_the_indices(order):
    flat = np.zeros((1, 1, 2, 2), np.float32)
    got = gradient(f"Y, I = MaxPool<kernel_shape = [2, 2], storage_order = {order}>(X)", flat)
    assert got.ravel().tolist() == [1, 0, 0, 0]


def test_padding_is_never_the_maximum():
    negative = -np.ones((1, 1, 2, 2), np.float32)
    assert gradient("Y = MaxPool<kernel_shape = [2, 2], strides = [2, 2], pads = [1, 1, 1, 1]>(X)", negative).sum() == 4


def test_equal_maxima_of_everything_share_equally():
    got = gradient("Y = GlobalMaxPool(X)", np.array([[[[1, 3, 3], [0, 3, 2]]]], np.float32))
    assert np.allclose(got.ravel(), [0, 1 / 3, 1 / 3, 0, 1 / 3, 0])


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("op", ["LpPool<kernel_shape = [1, 2], strides = [1, 2], p = {p}>(X)", "GlobalLpPool<p = {p}>(X)"])
def test_a_norm_of_zero_has_the_gradient_zero(op, p):
    assert gradient(f"Y = {op.format(p=p)}", np.zeros((1, 1, 1, 2), np.float32)).tolist() == [[[[0, 0]]]]


AVERAGE = "Y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], {pads}, ceil_mode = 1, count_include_pad = 1>(X)"


@pytest.mark.parametrize("pads", ["pads = [0, 0, 0, 0]", "pads = [1, 1, 1, 1]", 'auto_pad = "VALID"'])
@pytest.mark.parametrize("declared", ["", "N,C,H,W"])
@pytest.mark.parametrize("opset", [18, 21])
def test_an_average_over_the_end_of_the_padding_is_differentiated_as_the_runtime_computes_it(pads, declared, opset):
    """Its divisor is the kernel's size in onnxruntime 1.19, and what lies within the padding in 1.32: both are linear."""
    body = AVERAGE.format(pads=pads)
    x = np.random.default_rng(0).normal(size=(1, 1, 6, 6)).astype(np.float32)
    text = f'<ir_version: 10, opset_import: ["" : {opset}]> g (float[1,1,6,6] X) => (float[1,1,h,w] Y) {{ {body} }}'
    forward = Session(ir.from_proto(onnx.parser.parse_model(text)), 1)
    y = forward.run({"X": x})["Y"]
    dy = np.random.default_rng(1).normal(size=y.shape).astype(np.float32)
    got = gradient(body, x, dy, declared=declared, opset=opset)
    # <dX, X> = <dY, Y> for every linear function without a constant.
    assert abs((got * x).sum() - (dy * y).sum()) <= TOLERANCE["float32 operator"] * np.abs(dy * y).sum()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ('Y = AveragePool<kernel_shape = [1, 1], strides = [5, 5], auto_pad = "SAME_UPPER">(X)', "a stride of 5"),
        ('Y = AveragePool<kernel_shape = [2, 2], dilations = [2, 2], auto_pad = "SAME_LOWER">(X)', "with dilations"),
        (
            "Y = MaxPool<kernel_shape = [2, 2], strides = [2, 2], pads = [1, 1, 1, 1], ceil_mode = 1>(X)",
            "last window that lies in the padding",
        ),
    ],
)
def test_where_runtimes_disagree_on_the_windows_there_is_no_gradient(body, why):
    with pytest.raises(UnsupportedGradient, match=why):
        gradient(body, np.ones((1, 1, 5, 5), np.float32))


def test_a_kernel_far_beyond_the_image_is_no_weight():
    """As transformers' EfficientNet has it: a weight as large as its kernel would not fit any memory."""
    kernel = "kernel_shape = [50000, 50000], strides = [50000, 50000], ceil_mode = 1"
    got = gradient(f"Y = AveragePool<{kernel}>(X)", IMAGE, declared="N,1,4,4")
    np.testing.assert_allclose(got, np.full_like(IMAGE, 1 / 16), rtol=TOLERANCE["float32 operator"])
