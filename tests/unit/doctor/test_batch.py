"""Models without a batch axis are healthy; those that mix the samples of a batch are not, whatever their axis is called."""

import numpy as np
import pytest
from support.examined import codes, examined
from support.onnx_models import build, random, trained

CONVOLUTION = "u = Unsqueeze(x, ends) c = Conv<pads=[1,1,1,1]>(u, kernel) y = Squeeze(c, ends)"
PICTURE = "c = Conv(u, colours) p = GlobalAveragePool(c) s = Squeeze(p, rest) y = Relu(s)"
# A first axis that nothing is put before: it goes to the end, and comes back.
ALONG = "t = Transpose<perm=[1,0]>(x) u = Unsqueeze(t, second) c = Conv<pads=[1,1]>(u, line) v = Squeeze(c, second) "
ATTENTION = "q = MatMul(x, square) t = Transpose<perm=[1,0]>(x) k = MatMul(q, t) s = Softmax<axis=1>(k) y = MatMul(s, x)"
RECURRENT = "u = Unsqueeze(x, second) z, h = GRU<hidden_size=2>(u, w, r) y = Squeeze(z, middle)"
CENTRED = "m = ReduceMean<axes=[0]>(x) y = Sub(x, m)"
NORMALIZED = "s, m1, v1 = BatchNormalization<training_mode=1>(x, gain, offset, mean, variance) y = Relu(s)"
WEIGHTS = {
    "ends": np.array([0, 1]),
    "first": np.array([0]),
    "one_of_it": np.array([1, 3, 8, 8]),
    "second": np.array([1]),
    "middle": np.array([1, 2]),
    "rest": np.array([0, 2, 3]),
    "kernel": random(1, 1, 3, 3),
    "line": random(1, 1, 3),
    "colours": random(5, 3, 3, 3),
    "square": random(8, 8),
    "w": random(1, 6, 8),
    "r": random(1, 6, 2),
    "down": random(64, 5),
    **trained(8),
}
UNBATCHED = {
    "a picture": (f"u = Unsqueeze(x, first) {PICTURE}", "float[3,8,8] x", "float[5] y"),
    "a picture that is reshaped": (f"u = Reshape(x, one_of_it) {PICTURE}", "float[3,8,8] x", "float[5] y"),
    "a picture of any size, channels last": (
        f"t = Transpose<perm=[2,0,1]>(x) u = Unsqueeze(t, first) {PICTURE}",
        "float[s0,s1,3] x",
        "float[5] y",
    ),
    "a vector": ("m = MatMul(x, down) y = Relu(m)", "float[64] x", "float[5] y"),
    "a vector of any length": ("m = ReduceMean(x) y = Sub(x, m)", "float[s0] x", "float[s0] y"),
    "a plane of fixed size": (CONVOLUTION, "float[8,8] x", "float[8,8] y"),
    "a plane": (CONVOLUTION, "float[s0,s1] x", "float[s0,s1] y"),
    "a sequence by its name": (CENTRED, "float[seq_len,8] x", "float[seq_len,8] y"),
    "a sequence, the batch behind it": (CENTRED, "float[s0,batch] x", "float[s0,batch] y"),
    "a convolution along it": (f"{ALONG} y = Transpose<perm=[1,0]>(v)", "float[s0,8] x", "float[s0,8] y"),
    "a recurrence along it": (RECURRENT, "float[s0,8] x", "float[s0,2] y"),
    "attention along it": (ATTENTION, "float[s0,8] x", "float[s0,8] y"),
    "attention along it, no name": (ATTENTION, "float[?,8] x", "float[?,8] y"),
}
MIXING = {
    "centred": CENTRED,
    "normalized": NORMALIZED,
    "scaled by the largest": "a = Abs(x) m = ReduceMax<axes=[0]>(a) y = Div(x, m)",
}
MIXING_ALTHOUGH = {"a convolution": f"{ALONG} y = Transpose<perm=[1,0]>(v)", "attention": ATTENTION}
"""What is no batch where it is not called so."""


def model(body, inputs, outputs):
    weights = {name: array for name, array in WEIGHTS.items() if any(name in part for part in (f"{body}".split("(")))}
    return build(body, inputs=inputs, outputs=outputs, weights=weights)


@pytest.mark.parametrize("name", UNBATCHED)
def test_a_model_without_a_batch_axis_is_healthy(name, tmp_path):
    diagnosis = examined(model(*UNBATCHED[name]), tmp_path)
    assert diagnosis.findings == ()
    assert diagnosis.samples


@pytest.mark.parametrize("axis", ["N", "batch_size", "s0", "?"])
@pytest.mark.parametrize("name", MIXING)
def test_what_mixes_the_samples_of_a_batch_is_found(name, axis, tmp_path):
    mixing = model(MIXING[name], f"float[{axis},8] x", f"float[{axis},8] y")
    assert "batch-dependent" in codes(examined(mixing, tmp_path))


@pytest.mark.parametrize("name", MIXING_ALTHOUGH)
def test_an_axis_that_is_called_batch_is_one(name, tmp_path):
    mixing = model(MIXING_ALTHOUGH[name], "float[batch,8] x", "float[batch,8] y")
    assert codes(examined(mixing, tmp_path)) == {"batch-dependent"}


@pytest.mark.parametrize("name", ["a convolution along it", "attention along it"])
def test_a_note_says_what_the_axis_was_taken_for(name, tmp_path):
    (note,) = examined(model(*UNBATCHED[name]), tmp_path).notes
    assert note.startswith("the first axis is not taken for the batch")


@pytest.mark.parametrize("opset", [11, 17])
def test_a_softmax_behind_the_first_axis_is_not_along_it(opset, tmp_path):
    body = "s = Softmax<axis=1>(x) m = ReduceMean<axes=[0]>(s) y = Sub(s, m)"
    mixing = build(body, inputs="float[s0,8] x", outputs="float[s0,8] y", opset=opset)
    assert codes(examined(mixing, tmp_path)) == {"batch-dependent"}


def test_given_samples_of_a_picture_are_one(tmp_path):
    picture = model(*UNBATCHED["a picture of any size, channels last"])
    diagnosis = examined(picture, tmp_path, {"x": random(9, 8, 3)})
    assert (diagnosis.findings, diagnosis.samples) == ((), 1)
