"""The gradient of an image of few channels, as one operator of ours: what it computes, and where it is chosen."""

import numpy as np
import onnx_ir as ir
import pytest
from support.image_gradients import BLOCKS, CASES, Case, computed, defined, in_blocks, session_of
from support.onnx_models import build, random
from support.reference import relative_error
from support.runtime import BACKENDS
from support.targets import TARGETS, by_target
from support.tolerances import TOLERANCE
from support.tuned import BLOCKS as MACHINE
from support.tuned import assert_same, operators_of

from gradserve import objectives as O
from gradserve.errors import InvalidModel, RunFailed
from gradserve_server.gradient_graph import derive_file
from gradserve_server.graph.contrib_shapes import infer_shapes
from gradserve_server.graph.tuning import Machine, tune
from gradserve_server.graph.tuning.blocked.images import LARGEST_PATCH, MOST_CHANNELS
from gradserve_server.runtime.session import Session

in_layout = pytest.mark.skipif(MACHINE.block is None, reason="this onnxruntime has no blocked layout on this processor")


# ---- the operator ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def on_each_target(tmp_path_factory):
    return by_target("support.image_gradients", tmp_path_factory.mktemp("image_gradients"))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CASES)
def test_each_pixel_gets_what_the_windows_over_it_had(on_each_target, name, target):
    expected = defined(CASES[name])
    for block in BLOCKS:
        got = on_each_target[target][f"{name} {block}"]
        assert got.shape == expected.shape
        assert not got.size or relative_error(got, expected) < TOLERANCE["float32 operator"], block


def test_targets_that_round_alike_have_the_same_bits(on_each_target):
    for alike in ({"avx512", "avx2"}, {"baseline", "scalar"}):  # with fused multiply-add, and without
        first, *others = [on_each_target[target] for target in TARGETS if target in alike] or [{}]
        for other in others:
            for key, array in first.items():
                np.testing.assert_array_equal(other[key], array, err_msg=key)


@pytest.mark.parametrize("block", BLOCKS)
def test_bits_do_not_depend_on_threads_or_on_other_samples(block):
    case = CASES["worth threads"]
    alone = computed(case, block, threads=1)
    for threads in (2, 3, 5):
        np.testing.assert_array_equal(computed(case, block, threads=threads), alone)
    session = session_of(case, block)
    for n in range(case.samples):
        (one,) = session.run({"dy": in_blocks(case.cotangent[n : n + 1], block)})["dx"]
        np.testing.assert_array_equal(one, alone[n])


@pytest.mark.parametrize("block", BLOCKS)
def test_what_fills_up_a_block_does_no_harm(block):
    case = CASES["3 channels, 4 outputs"]
    np.testing.assert_array_equal(computed(case, block, fill=-7.5), computed(case, block))


SMALL = Case((3, 3), (4, 5), outputs=16)
WRONG = {
    "no such block": (SMALL, {"block": 4}, "blocks of 8 or 16"),
    "one axis": (SMALL, {"strides": [1]}, "expected two axes"),
    "a stride of 0": (SMALL, {"strides": [1, 0]}, "strides and dilations of 1 or more"),
    "a dilation of 0": (SMALL, {"dilations": [0, 1]}, "strides and dilations of 1 or more"),
    "more padding than image": (SMALL, {"pads": [4, 0, 4, 0]}, "more padding than image"),
}


@pytest.mark.parametrize(("case", "attributes", "problem"), WRONG.values(), ids=WRONG)
def test_what_is_no_convolution_is_refused(case, attributes, problem):
    with pytest.raises((InvalidModel, RunFailed), match=problem):
        session_of(case, **{"block": 16} | attributes).run({"dy": in_blocks(case.cotangent, 16)})


@pytest.mark.parametrize("shape", [(1, 32, 4, 5), (1, 20, 4, 5), (16, 4, 5)])
def test_a_cotangent_of_other_channels_is_refused(shape):
    with pytest.raises(RunFailed, match=r"expected dY \[N, O, V, U\] and W \[O, C, kH, kW\]"):
        session_of(SMALL, 16).run({"dy": random(*shape)})


# ---- where it is chosen ----------------------------------------------------------------------------------------------


STEMS = {
    "ResNet": (3, 64, 7, "strides = [2, 2], pads = [3, 3, 3, 3]"),
    "VGG": (3, 64, 3, "pads = [1, 1, 1, 1]"),
    "MobileNet": (3, 32, 3, "strides = [2, 2], pads = [1, 1, 1, 1]"),
    "Inception": (3, 32, 3, "strides = [2, 2]"),
    "AlexNet": (3, 64, 11, "strides = [4, 4], pads = [2, 2, 2, 2]"),
    "a remainder that no window sees": (3, 16, 3, "strides = [3, 4], pads = [0, 1, 0, 0]"),
    "digits": (1, 32, 5, "pads = [2, 2, 2, 2]"),
    "blocks that are not full": (MOST_CHANNELS, 24, 3, "strides = [2, 1], dilations = [1, 2]"),
    "small patches": (3, 32, LARGEST_PATCH, f"strides = [{LARGEST_PATCH}, {LARGEST_PATCH}]"),
}


@in_layout
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("channels", "outputs", "width", "attributes"), STEMS.values(), ids=STEMS)
def test_the_first_convolution_gives_its_image_a_gradient(channels, outputs, width, attributes, backend):
    weights = {"W": random(outputs, channels, width, width) / 9, "b": random(outputs), "V": random(16, outputs, 3, 3) / 9}
    proto = build(
        f"h = Conv<{attributes}>(x, W, b) r = Relu(h) y = Conv(r, V)",
        inputs=f"float[N,{channels},37,38] x",
        opset=18,
        weights=weights,
    )
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")
    model = derive_file(proto, O.channel_energy("y", 1), backend=backend)
    tuned = model.clone()
    tune(tuned, MACHINE)
    found = operators_of(tuned)
    assert found["ImageGradient"] == 1
    assert not found["ConvTranspose"]
    for samples in (1, 3):
        x = {"x": random(samples, channels, 37, 38)}
        got, expected = Session(tuned, 2).run(x)["grad/x"], Session(model, 2).run(x)["grad/x"]
        assert relative_error(got, expected) < TOLERANCE["float32 operator"]


OTHERS = {
    "large patches": ("y = ConvTranspose<strides = [5, 5]>(h, V)", (32, 3, 5, 5)),
    "too many channels": ("y = ConvTranspose(h, V)", (32, MOST_CHANNELS + 1, 3, 3)),
    "groups": ("y = ConvTranspose<group = 2>(h, V)", (32, 2, 3, 3)),
    "a bias": ("y = ConvTranspose(h, V, b)", (32, 3, 3, 3)),
    "automatic padding": ('y = ConvTranspose<auto_pad = "SAME_UPPER">(h, V)', (32, 3, 3, 3)),
    "a shape": ("y = ConvTranspose<strides = [2, 2], output_shape = [18, 16]>(h, V)", (32, 3, 3, 3)),
    "weights from the graph": ("U = Neg(V) y = ConvTranspose(h, U)", (32, 3, 3, 3)),
    "a plain cotangent": (
        "p = Transpose<perm = [0, 1, 3, 2]>(h) q = Cos(p) y = ConvTranspose(q, V)",
        (32, 3, 3, 3),
    ),
}


def model_of(body, filters):
    weights = {"W": random(32, 16, 1, 1) / 4, "V": random(*filters) / 9} | ({"b": random(3)} if ", b)" in body else {})
    proto = build(f"h = Conv(x, W) {body}", inputs="float[N,16,9,8] x", opset=18, weights=weights)
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")
    model = ir.from_proto(proto)
    infer_shapes(model)
    return model


@in_layout
@pytest.mark.parametrize(("body", "filters"), OTHERS.values(), ids=OTHERS)
def test_other_transposed_convolutions_stay(body, filters):
    model = model_of(body, filters)
    tuned = model.clone()
    tune(tuned, MACHINE)
    assert not operators_of(tuned)["ImageGradient"]
    assert_same(model, tuned, {"x": random(2, 16, 9, 8)})


@in_layout
@pytest.mark.parametrize("machine", [Machine(MACHINE.block, operators=False), Machine(None, operators=True)], ids=str)
def test_without_blocks_or_our_operators_it_stays(machine):
    model = model_of("y = ConvTranspose(h, V)", (32, 3, 3, 3))
    tuned = model.clone()
    tune(tuned, machine)
    assert operators_of(tuned)["ConvTranspose"] == 1
    assert_same(model, tuned, {"x": random(2, 16, 9, 8)})


@in_layout
def test_it_reads_the_weights_of_the_forward_convolution():
    weights = {"W": random(32, 3, 3, 3) / 9}
    proto = build("h = Conv(x, W) y = Relu(h)", inputs="float[N,3,9,8] x", outputs="float[N,32,7,6] y", weights=weights)
    model = derive_file(proto, O.channel_energy("y", 1), backend="portable")
    tune(model, MACHINE)
    conv = next(node for node in model.graph if node.op_type == "Conv")
    (gradient,) = (node for node in model.graph if node.op_type == "ImageGradient")
    assert np.shares_memory(conv.inputs[1].const_value.numpy(), gradient.inputs[1].const_value.numpy())
