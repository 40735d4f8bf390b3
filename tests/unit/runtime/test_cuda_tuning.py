"""What is tuned for a GPU computes what it computed before, by operators that onnxruntime's CUDA provider has."""

import math

import numpy as np
import pytest
from support.onnx_models import build, random
from support.reference import relative_error
from support.tolerances import TOLERANCE
from support.tuned import assert_same, operators_of, tuned_for, tuned_of

from gradserve import objectives as O
from gradserve_server.gradient_graph import derive_file
from gradserve_server.graph.tuning.covered_opset import COVERED
from gradserve_server.graph.tuning.subpixel import convolve_transposed
from gradserve_server.graph.values import opset_of
from gradserve_server.runtime.session import Session
from gradserve_server.runtime.tuned import GPU

TRANSPOSED = {
    "more before than after": ("pads = [1, 1, 0, 0], strides = [2, 2]", 0),
    "and an output padding": ("pads = [3, 2, 2, 1], strides = [3, 3], output_padding = [1, 1]", 0),
    "more than a stride": ("pads = [2, 2, 0, 0], strides = [2, 2]", 1),
    "less than after": ("pads = [0, 0, 1, 1], strides = [2, 2]", 1),
    "one axis so, the other so": ("pads = [1, 0, 0, 2], strides = [2, 2]", 1),
    "dilated": ("pads = [2, 2, 1, 1], strides = [2, 2], dilations = [2, 2]", 0),
    "stride 1": ("pads = [1, 2, 0, 0]", 1),
    "groups": ("pads = [1, 1, 0, 0], strides = [2, 2], group = 2", 0),
    "SAME_UPPER": ('auto_pad = "SAME_UPPER", strides = [2, 2]', 1),
    "SAME_UPPER, dilated": ('auto_pad = "SAME_UPPER", strides = [2, 2], dilations = [2, 2]', 1),
    "SAME_LOWER": ('auto_pad = "SAME_LOWER", strides = [2, 2]', 0),
    "a shape with batch and channels": ("output_shape = [2, 2, 10, 9], strides = [2, 2]", 0),
    "a shape that is asked for": ("output_shape = [10, 9], strides = [2, 2]", 0),
}
"""Attributes of a ConvTranspose [N,4,5,4] with a kernel of 3 x 3, and how many Slices it takes."""


def is_symmetric(node):
    pads = node.attributes.get_ints("pads", [])
    half = len(pads) // 2
    return list(pads[:half]) == list(pads[half:]) and not {"auto_pad", "output_shape"} & node.attributes.keys()


def fits(node):
    """Whether what is padded at the end is less than a stride: what cuDNN takes."""
    rank = len(node.attributes["output_padding"].as_ints())
    strides = node.attributes.get_ints("strides", [1] * rank)
    return all(extra < stride for extra, stride in zip(node.attributes["output_padding"].as_ints(), strides, strict=True))


@pytest.mark.parametrize(("attributes", "slices"), TRANSPOSED.values(), ids=TRANSPOSED)
def test_transposed_convolutions_are_padded_alike_at_both_ends(attributes, slices):
    channels = 1 if "group" in attributes else 2
    proto = build(
        f"y = ConvTranspose<{attributes}, kernel_shape = [3, 3]>(x, W, b)",
        inputs=f"float[N,4,5,4] x, float[4,{channels},3,3] W",
        outputs="float[N,2,?,?] y",
        weights={"b": random(2)},
        opset=18,
    )
    model, changed = tuned_of(proto, GPU)
    (node,) = [node for node in changed.graph if node.op_type == "ConvTranspose"]
    assert is_symmetric(node)
    assert fits(node)
    assert operators_of(changed)["Slice"] == slices
    assert_same(model, changed, {"x": random(2, 4, 5, 4), "W": random(4, channels, 3, 3)})


def test_no_more_is_cut_off_than_must_be():
    """And the kernel's size may be known from the weight alone."""
    proto = build(
        "y = ConvTranspose<pads = [3, 1, 1, 2]>(x, W)",
        inputs="float[N,4,5,4] x, float[4,2,3,3] W",
        outputs="float[N,2,?,?] y",
        opset=18,
    )
    model, changed = tuned_of(proto, GPU)
    (node,) = [node for node in changed.graph if node.op_type == "ConvTranspose"]
    assert node.attributes["pads"].as_ints() == (1, 1, 1, 1)
    assert operators_of(changed)["Slice"] == 1
    assert_same(model, changed, {"x": random(2, 4, 5, 4), "W": random(4, 2, 3, 3)})


@pytest.mark.parametrize(
    "attributes", ["pads = [-1, 0, 0, 0]", "pads = [-1, -1, -1, -1]", 'auto_pad = "SAME_UPPER", strides = [4, 4]']
)
def test_what_cudnn_cannot_pad_stays(attributes):
    proto = build(
        f"y = ConvTranspose<{attributes}>(x, W)",
        inputs="float[N,4,5,4] x, float[4,2,3,3] W",
        outputs="float[N,2,?,?] y",
    )
    model, changed = tuned_of(proto, GPU)
    assert [node.attributes for node in changed.graph] == [node.attributes for node in model.graph]


@pytest.mark.parametrize("attributes", ["pads = [1, 1, 1, 1], strides = [2, 2]", 'auto_pad = "VALID"', "strides = [2, 2]"])
def test_what_is_padded_alike_stays(attributes):
    proto = build(
        f"y = ConvTranspose<{attributes}>(x, W)",
        inputs="float[N,4,5,4] x, float[4,2,3,3] W",
        outputs="float[N,2,?,?] y",
    )
    model, changed = tuned_of(proto, GPU)
    (before,), (after,) = ([*graph.graph] for graph in (model, changed))
    assert after.attributes == before.attributes
    assert after.outputs[0].name == "y"


SUBPIXEL = {
    **{name: attributes for name, (attributes, _) in TRANSPOSED.items()},
    "as large as the stride": "strides = [3, 3]",
    "smaller than the stride": "strides = [4, 5]",
    "smaller, and what is reached begins later": "strides = [5, 5], pads = [1, 1, 1, 1]",
    "smaller, from the last to the first": "strides = [4, 4], pads = [2, 2, 2, 2]",
    "another stride for each axis": "strides = [1, 3], pads = [1, 0, 0, 1]",
    "dilated, with gaps": "strides = [4, 2], dilations = [2, 3], pads = [1, 2, 0, 1]",
    "more cut off than a window holds": "pads = [3, 4, 0, 0], strides = [1, 2]",
    "and at the end": "pads = [0, 0, 4, 3], strides = [2, 1]",
    "more output padding": "strides = [3, 3], output_padding = [2, 1]",
}
"""Attributes of a ConvTranspose with a kernel of 3 x 3, whose weight is constant."""


def transposed(attributes, sizes, *, biased):
    channels = 1 if "group" in attributes else 2
    return build(
        f"y = ConvTranspose<{attributes}, kernel_shape = [3, 3]>(x, W{', b' * biased})",
        inputs=f"float[N,4,{sizes}] x",
        outputs="float[N,2,?,?] y",
        weights={"W": random(4, channels, 3, 3)} | ({"b": random(2)} if biased else {}),
        opset=18,
    )


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("attributes", SUBPIXEL.values(), ids=SUBPIXEL)
def test_transposed_convolutions_are_convolutions(attributes, biased):
    model, changed = tuned_of(transposed(attributes, "5,4", biased=biased), GPU)
    assert "ConvTranspose" not in operators_of(changed)
    assert all(is_symmetric(node) for node in changed.graph if node.op_type == "Conv")
    assert_same(model, changed, {"x": random(2, 4, 5, 4)})


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(
    "attributes",
    [
        "strides = [2, 2], pads = [1, 1, 0, 0]",
        "pads = [1, 2, 0, 0]",
        "strides = [4, 4]",
        "strides = [4, 4], pads = [0, 2, 1, 1]",
    ],
)
def test_transposed_convolutions_of_sizes_that_only_the_run_knows(attributes, biased):
    model, changed = tuned_of(transposed(attributes, "H,W", biased=biased), GPU)
    assert "ConvTranspose" not in operators_of(changed)
    for sizes in ((5, 4), (3, 7)):
        assert_same(model, changed, {"x": random(2, 4, *sizes)})


def test_transposed_convolutions_that_no_convolution_puts_together():
    """Of unknown sizes and several strides."""
    model, changed = tuned_of(transposed("strides = [2, 3]", "H,W", biased=False), GPU)
    assert operators_of(changed)["ConvTranspose"] == 1
    assert_same(model, changed, {"x": random(2, 4, 9, 8)})


def test_transposed_convolutions_that_runtimes_disagree_on_stay():
    """Windows that do not reach one another, and shall give an image without gaps."""
    _, changed = tuned_of(transposed('auto_pad = "SAME_UPPER", strides = [4, 4]', "5,4", biased=False), GPU)
    assert operators_of(changed) == {"ConvTranspose": 1}


def test_transposed_convolutions_of_old_files_stay():
    """Of those that cannot be made newer; the others are."""
    proto = build(
        "y = ConvTranspose<strides = [2, 2]>(x, W)",
        inputs="float[N,4,5,4] x",
        outputs="float[N,2,?,?] y",
        weights={"W": random(4, 2, 3, 3)},
        opset=10,
    )
    model, _ = tuned_of(proto, GPU)
    convolve_transposed(model)
    assert operators_of(model) == {"ConvTranspose": 1}


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_transposed_convolutions_of_signals_and_volumes(rank, stride):
    sizes, kernel = [5, 4, 3][:rank], [3, 2, 1][:rank]
    proto = build(
        f"y = ConvTranspose<strides = {[stride] * rank}, pads = {[1] + [0] * (2 * rank - 1)}>(x, W)",
        inputs=f"float[N,4,{','.join(map(str, sizes))}] x",
        outputs=f"float[N,2{',?' * rank}] y",
        weights={"W": random(4, 2, *kernel)},
        opset=18,
    )
    model, changed = tuned_of(proto, GPU)
    assert "ConvTranspose" not in operators_of(changed)
    assert_same(model, changed, {"x": random(2, 4, *sizes)})


@pytest.mark.parametrize("group", [1, 2, 6])
@pytest.mark.parametrize("size", [8, 9, 10, 11])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 2, 1), (7, 2, 3), (5, 3, 2), (3, 3, 0), (1, 2, 0), (2, 4, 0)])
def test_gradients_of_strided_convolutions_are_convolutions(size, kernel, stride, padding, group):
    """In groups, one by one, and so that the last window does not reach the end."""
    proto = build(
        f"y = Conv<strides = [{stride}, {stride}], pads = {[padding] * 4}, group = {group}>(x, W)",
        inputs=f"float[N,6,{size},{size}] x",
        outputs="float[N,12,?,?] y",
        weights={"W": random(12, 6 // group, kernel, kernel)},
        opset=18,
    )
    model = derive_file(proto, O.layer("y"), shapes={"x": ["N", 6, size, size]})
    changed = tuned_for(GPU, model)
    assert "ConvTranspose" not in operators_of(changed)
    assert_same(model, changed, {"x": random(2, 6, size, size)})


MAXIMA = {
    "tiles": "kernel_shape = [2, 2], strides = [2, 2]",
    "tiles, padded": "kernel_shape = [2, 3], strides = [3, 3], pads = [1, 0, 0, 1]",
    "tiles, beyond the end": "kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1",
    "gaps": "kernel_shape = [1, 2], strides = [3, 3]",
    "a rest": "kernel_shape = [2, 2], strides = [3, 5]",
    "overlapping": "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]",
    "overlapping, beyond the end": "kernel_shape = [3, 2], strides = [2, 1], pads = [1, 0, 0, 1], ceil_mode = 1",
    "stride 1": "kernel_shape = [3, 3], pads = [1, 1, 1, 1]",
    "dilated": "kernel_shape = [2, 3], strides = [1, 2], dilations = [3, 2], pads = [1, 1, 0, 2]",
    "one window": "kernel_shape = [7, 8]",
}


def of_maxima(attributes, batch, sizes=(7, 8)):
    """The gradient of the squares of a MaxPool, as it is and as it is tuned."""
    height, width = sizes
    proto = build(
        f"y = MaxPool<{attributes}>(x)",
        inputs=f"float[{batch},3,{height},{width}] x",
        outputs=f"float[{batch},3,?,?] y",
        opset=18,
    )
    model = derive_file(proto, O.layer("y"), shapes={"x": [batch, 3, height, width]})
    changed = tuned_for(GPU, model)
    return model, changed


@pytest.mark.parametrize("batch", ["N", 2])
@pytest.mark.parametrize("attributes", MAXIMA.values(), ids=MAXIMA)
def test_gradients_of_maxima_take_no_indices(attributes, batch):
    model, changed = of_maxima(attributes, batch)
    assert not operators_of(changed).keys() & {"MaxUnpool", "ScatterElements", "Shape"}
    assert all(len(node.outputs) == 1 for node in changed.graph if node.op_type == "MaxPool")
    x = {"x": random(2, 3, 7, 8)}
    expected, got = Session(model, 2).run(x), Session(changed, 2).run(x)
    assert np.count_nonzero(expected["grad/x"]) > 2
    np.testing.assert_allclose(got["grad/x"], expected["grad/x"], rtol=TOLERANCE["float32 operator"])


@pytest.mark.parametrize("attributes", MAXIMA.values(), ids=MAXIMA)
def test_of_equal_maxima_the_first_by_rows_has_all(attributes):
    model, changed = of_maxima(attributes, 2)
    x = {"x": np.floor(random(2, 3, 7, 8)) + np.float32(3)}
    expected, got = Session(model, 2).run(x), Session(changed, 2).run(x)
    np.testing.assert_allclose(got["grad/x"], expected["grad/x"], rtol=TOLERANCE["float32 operator"])


def test_windows_that_reach_further_than_an_unpooling_takes():
    """Dilated ones may lie two elements beyond the end with two in the kernel: onnxruntime has no such MaxUnpool."""
    attributes = "kernel_shape = [2, 2], strides = [3, 2], dilations = [2, 1], pads = [1, 1, 1, 1], ceil_mode = 1"
    model, changed = of_maxima(attributes, 2, sizes=(9, 8))
    x = {"x": random(2, 3, 9, 8)}
    expected, got = Session(model, 2).run(x), Session(changed, 2).run(x)
    np.testing.assert_allclose(got["grad/x"], expected["grad/x"], rtol=TOLERANCE["float32 operator"])


@pytest.mark.parametrize("shape", ["s", "t"])
def test_unpooling_into_a_shape_that_is_told(shape):
    """By an array, or by what is known only in the run."""
    sizes = (2, 2, 7, 9)
    proto = build(
        "t = Abs(given) y = MaxUnpool<kernel_shape = [2, 2], strides = [2, 2]>(x, i, " + shape + ")",
        inputs="float[2,2,3,4] x, int64[2,2,3,4] i, int64[4] given",
        outputs="float[?,?,?,?] y",
        weights={"s": np.array(sizes)},
        opset=18,
    )
    model, changed = tuned_of(proto, GPU)
    assert "MaxUnpool" not in operators_of(changed)
    indices = np.random.default_rng(3).permutation(math.prod(sizes))[: 2 * 2 * 3 * 4].reshape(2, 2, 3, 4)
    feeds = {"x": random(2, 2, 3, 4), "i": indices, "given": np.array(sizes)}
    np.testing.assert_array_equal(Session(changed, 2).run(feeds)["y"], Session(model, 2).run(feeds)["y"])


def test_an_unpooling_that_is_told_no_shape_stays():
    proto = build(
        "y = MaxUnpool<kernel_shape = [2, 2], strides = [2, 2]>(x, i)",
        inputs="float[N,2,3,4] x, int64[N,2,3,4] i",
        outputs="float[N,2,6,8] y",
        opset=18,
    )
    _, changed = tuned_of(proto, GPU)
    assert operators_of(changed) == {"MaxUnpool": 1}


def test_sizes_that_the_forward_pass_knows_are_not_asked_for_in_the_run():
    """The CUDA provider would compute them on the processor; and a NonZero waits for the GPU."""
    proto = build(
        "s = Sigmoid(x) h = Add(x, s) y = Gather<axis = 1>(h, first)",
        inputs="float[N,3,4] x",
        outputs="float[N,4] y",
        weights={"first": np.array(0)},
        opset=18,
    )
    model = derive_file(proto, O.layer("y"))
    assert "NonZero" not in operators_of(model)
    x = random(2, 3, 4)
    sigmoid = 1 / (1 + np.exp(-x[:, 0].astype(np.float64)))
    expected = np.zeros((2, 3, 4))
    expected[:, 0] = 2 * (x[:, 0] + sigmoid) / 4 * (1 + sigmoid * (1 - sigmoid))
    assert relative_error(Session(model, 2).run({"x": x})["grad/x"], expected) < TOLERANCE["float32 operator"]


@pytest.mark.parametrize("activation", ["Gelu", "HardSwish", "Sigmoid"])
def test_newer_opsets_are_lowered(activation):
    """Gelu is of opset 20, so its body takes its place."""
    proto = build(
        f"h = Conv(x, W) a = {activation}(h) p = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(a) y = Pad(p, edges)",
        inputs="float[N,3,7,7] x",
        outputs="float[N,4,?,?] y",
        weights={"W": random(4, 3, 2, 2), "edges": np.array([0, 0, 1, 0, 0, 0, 0, 1])},
        opset=21,
        ir_version=10,
    )
    model = derive_file(proto, O.layer("y"))
    changed = tuned_for(GPU, model)
    assert opset_of(model) == 21
    assert opset_of(changed) == COVERED
    assert_same(model, changed, {"x": random(2, 3, 7, 7)})


def test_what_no_older_opset_says_stays():
    proto = build(
        "y = QuantizeLinear<block_size = 2, axis = 1>(x, s)",
        inputs="float[2,4] x",
        outputs="uint8[2,4] y",
        weights={"s": np.full((2, 2), 0.5, np.float32)},
        opset=21,
        ir_version=10,
    )
    _, changed = tuned_of(proto, GPU)
    assert opset_of(changed) == 21
    assert operators_of(changed) == {"QuantizeLinear": 1}
