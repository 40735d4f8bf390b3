"""Models of bfloat16, which onnxruntime computes with on GPUs only: they are computed in float32 behind their own types."""

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from support.onnx_models import build, random, save

from gradserve import objectives as O
from gradserve_server import Engine
from gradserve_server.graph.contrib_shapes import infer_shapes
from gradserve_server.graph.inference_form.to_float32 import needs_float32
from gradserve_server.runtime.session import Session

BF16 = np.dtype(ml_dtypes.bfloat16)
WEIGHT = random(3, 2).astype(BF16)
X = random(4, 3).astype(BF16)
LAYERS = {"inputs": "bfloat16[N,3] x", "outputs": "bfloat16[N,2] y", "opset": 18}


def model(body, **options):
    return ir.from_proto(build(body, **options))


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    proto = build("h = MatMul(x, w) y = Relu(h)", weights={"w": WEIGHT}, **LAYERS)
    with Engine(save(proto, tmp_path_factory.mktemp("models") / "half.onnx")) as engine:
        yield engine


def wide(array):
    return array.astype(np.float32)


def test_a_network(engine):
    got = engine.infer("half", {"x": X})["y"]
    assert got.dtype == BF16
    assert [t.dtype for t in (*engine.inspect("half").inputs, *engine.inspect("half").outputs)] == ["bfloat16"] * 2
    # Rounded once, at the end.
    np.testing.assert_array_equal(got, np.maximum(wide(X) @ wide(WEIGHT), 0).astype(BF16))


def test_its_layers(engine):
    got = engine.activations("half", {"x": X}, ["h"])["h"]
    np.testing.assert_array_equal(got, (wide(X) @ wide(WEIGHT)).astype(BF16))


def test_its_gradient_is_float32(engine):
    result = engine.gradient("half", {"x": X}, O.unit("h", 1))
    assert result.gradients["x"].dtype == np.float32
    np.testing.assert_array_equal(result.gradients["x"], np.broadcast_to(wide(WEIGHT)[:, 1], X.shape))


def test_every_number_passes():
    bits = np.arange(2**16, dtype=np.uint16)
    every, number = bits.view(BF16), bits & 0x7FFF <= 0x7F80  # beyond infinity are the NaNs
    session = Session(model("y = Identity(x)", inputs="bfloat16[N] x", outputs="bfloat16[N] y"), 1)
    got = session.run({"x": every})["y"]
    np.testing.assert_array_equal(got.view(np.uint16)[number], bits[number])
    assert np.isnan(got[~number]).all()


@pytest.mark.parametrize("shape", [(), (0, 3)])
def test_scalars_and_nothing(shape):
    sizes = ",".join("N" if size == 0 else str(size) for size in shape)
    made = model("y = Identity(x)", inputs=f"bfloat16[{sizes}] x", outputs=f"bfloat16[{sizes}] y")
    got = Session(made, 1).run({"x": np.ones(shape, BF16)})["y"]
    assert (got.dtype, got.shape) == (BF16, shape)


def test_other_types_beside_it_stay():
    body = "a = Identity(x) b = Identity(h) c = Identity(n)"
    inputs = "bfloat16[N] x, float16[N] h, int64[N] n"
    session = Session(model(body, inputs=inputs, outputs="bfloat16[N] a, float16[N] b, int64[N] c"), 1)
    feeds = {"x": np.array([1.5], BF16), "h": np.array([0.1], np.float16), "n": np.array([2**60 + 1])}
    got = session.run(feeds)
    assert [got[name].dtype.name for name in "abc"] == ["bfloat16", "float16", "int64"]
    assert [got["a"], got["b"], got["c"]] == [feeds["x"], feeds["h"], feeds["n"]]
    assert session.run(feeds, ["c"]).keys() == {"c"}


def test_what_is_only_rounded_is_still_rounded():
    made = model("h = Cast<to = 16>(x) y = Cast<to = 1>(h)", inputs="float[N] x", outputs="float[N] y")
    infer_shapes(made)
    assert not needs_float32(made)
    assert Session(made, 1).run({"x": np.array([1.001], np.float32)})["y"].tolist() == [1.0]


def test_what_is_computed_between_is_in_float32():
    made = model("h = Cast<to = 16>(x) a = Neg(h) y = Cast<to = 1>(a)", inputs="float[N] x", outputs="float[N] y")
    infer_shapes(made)
    assert needs_float32(made)
    assert Session(made, 1).run({"x": np.array([1.5], np.float32)})["y"].tolist() == [-1.5]
