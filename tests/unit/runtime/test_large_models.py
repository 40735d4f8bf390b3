"""Constants that onnxruntime gets beside the graph, in memory or in a file; models above protobuf's 2 GiB (--large)."""

import gc
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from support.onnx_models import build, random, save
from support.reference import relative_error
from support.runtime import BACKENDS
from support.tolerances import TOLERANCE

from gradserve_server.graph.weights import large_constants, put_back, serialize_without
from gradserve_server.runtime import session
from gradserve_server.runtime.session import Session

WIDTH = 160  # 100 KiB a matrix: above the size from which constants are handed over


def model(dtype: str = "float32") -> onnx.ModelProto:
    kind = {"float32": "float", "float64": "double", "float16": "float16"}[dtype]
    return build(
        "h = MatMul(x, w) t = Tanh(h) y = MatMul(t, v)",
        inputs=f"{kind}[N,{WIDTH}] x",
        outputs=f"{kind}[N,{WIDTH}] y",
        weights={name: random(WIDTH, WIDTH, seed=seed, dtype=dtype) for seed, name in enumerate("wv")},
    )


def assert_same(proto: onnx.ModelProto, x: np.ndarray) -> None:
    """Our session gives the bytes of onnxruntime's own on the whole serialized model."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    plain = onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
    np.testing.assert_array_equal(Session(ir.from_proto(proto), 1).run({"x": x})["y"], plain.run(["y"], {"x": x})[0])


@pytest.mark.parametrize("large_bytes", [0, 2**60], ids=["file", "memory"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_both_ways_give_the_bytes_of_the_plain_model(monkeypatch, large_bytes, dtype):
    monkeypatch.setattr(session, "LARGE_BYTES", large_bytes)
    assert_same(model(dtype), random(3, WIDTH, dtype=dtype))


@pytest.mark.parametrize("large_bytes", [0, 2**60], ids=["file", "memory"])
def test_constants_that_nothing_reads_are_no_obstacle(monkeypatch, large_bytes):
    monkeypatch.setattr(session, "LARGE_BYTES", large_bytes)
    proto = model()
    proto.graph.initializer.append(onnx.numpy_helper.from_array(random(WIDTH, WIDTH), "unread"))
    assert Session(ir.from_proto(proto), 1).run({"x": random(3, WIDTH)})["y"].shape == (3, WIDTH)


def test_a_session_keeps_what_onnxruntime_only_points_at():
    opened = Session(ir.from_proto(model()), 1)
    x = random(3, WIDTH)
    before = opened.run({"x": x})["y"]
    gc.collect()
    _ = [np.full((WIDTH, WIDTH), np.nan, np.float32) for _ in range(64)]  # what was freed would be written over
    np.testing.assert_array_equal(opened.run({"x": x})["y"], before)


BESIDE_TRANSPOSES = {
    # As ViT adds its positions: onnxruntime pulls the Transpose through, and transposes the constant in place.
    "Add": ("s = Add(t, w)", "[0, 2, 1]", (1, WIDTH, WIDTH)),
    "Add, square": ("s = Add(t, w)", "[0, 2, 1]", (WIDTH, WIDTH)),
    "MatMul": ("s = MatMul(t, w)", "[0, 2, 1]", (WIDTH, WIDTH)),
    "MatMul on the left": ("s = MatMul(w, t)", "[0, 2, 1]", (WIDTH, WIDTH)),
    "MatMul of many": ("s = MatMul(t, w)", "[0, 2, 1]", (2, WIDTH, WIDTH)),
    "Conv": ("s = Conv(t, w)", "[0, 2, 1]", (WIDTH, WIDTH, 1)),
    "ConvTranspose": ("s = ConvTranspose(t, w)", "[0, 2, 1]", (WIDTH, WIDTH, 1)),
    "Gather": ("g = Gather(w, i) s = Add(t, g)", "[0, 2, 1]", (WIDTH, WIDTH)),
    "Gemm": ("f = Reshape(t, flat) p = Gemm(f, w) s = Reshape(p, cube)", "[0, 2, 1]", (WIDTH, WIDTH)),
}


@pytest.mark.parametrize("large_bytes", [0, 2**60], ids=["file", "memory"])
@pytest.mark.parametrize(("middle", "perm", "shape"), BESIDE_TRANSPOSES.values(), ids=BESIDE_TRANSPOSES)
def test_a_constant_beside_transposes_is_not_misread(monkeypatch, large_bytes, middle, perm, shape):
    monkeypatch.setattr(session, "LARGE_BYTES", large_bytes)
    body = f"t = Transpose<perm = {perm}>(x) {middle} r = Relu(s) y = Transpose<perm = {perm}>(r)"
    sizes = f"float[2,{WIDTH},{WIDTH}]"
    others = {"i": np.arange(WIDTH)[::-1].copy(), "flat": np.array([-1, WIDTH]), "cube": np.array([2, WIDTH, WIDTH])}
    weights = {"w": random(*shape)} | {name: array for name, array in others.items() if name in middle}
    proto = build(body, inputs=f"{sizes} x", outputs=f"{sizes} y", weights=weights)
    x = random(2, WIDTH, WIDTH, seed=1)
    assert_same(proto, x)


def test_opening_a_session_leaves_the_model_as_it_was():
    graph = ir.from_proto(model())
    before = ir.to_proto(graph).SerializeToString()
    Session(graph, 1)
    assert ir.to_proto(graph).SerializeToString() == before


def test_constants_left_out_come_back():
    graph = ir.from_proto(model())
    bare = serialize_without(graph, large_constants(graph))
    assert len(bare) < 1000
    again = ir.from_proto(onnx.ModelProto.FromString(bare))
    put_back(again, large_constants(graph))
    for name, value in graph.graph.initializers.items():
        np.testing.assert_array_equal(again.graph.initializers[name].const_value.numpy(), value.const_value.numpy())


# ---- above 2 GiB -----------------------------------------------------------------------------------------------------

SIDE, LAYERS = 8192, 9  # 256 MiB a matrix, 2.25 GiB together


@pytest.fixture(scope="module")
def giant(request, tmp_path_factory) -> Path:
    if not request.config.getoption("--large"):
        pytest.skip("needs 8 GiB of memory and 3 GiB of disk: --large")
    path = tmp_path_factory.mktemp("giant") / "giant.onnx"
    names = [f"w{number}" for number in range(LAYERS)]
    chain = " ".join(f"h{n} = MatMul({f't{n - 1}' if n else 'x'}, w{n}) t{n} = Tanh(h{n})" for n in range(LAYERS))
    proto = build(f"{chain} y = Identity(t{LAYERS - 1})", inputs=f"float[N,{SIDE}] x", outputs=f"float[N,{SIDE}] y")
    with (path.parent / "weights.bin").open("wb") as file:
        for number, name in enumerate(names):
            tensor = proto.graph.initializer.add(name=name, dims=[SIDE, SIDE], data_type=onnx.TensorProto.FLOAT)
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in {"location": "weights.bin", "offset": file.tell(), "length": SIDE * SIDE * 4}.items():
                tensor.external_data.add(key=key, value=str(value))
            file.write(matrix(number).tobytes())
    return save(proto, path)


def matrix(number: int) -> np.ndarray:
    return np.random.default_rng(number).standard_normal((SIDE, SIDE), dtype=np.float32) / np.float32(SIDE**0.5)


def expected_gradient(x: np.ndarray, unit: int) -> np.ndarray:
    """Of the last layer's unit, by hand."""
    slopes = []
    for number in range(LAYERS):
        x = np.tanh(x @ matrix(number))
        slopes.append(1 - x.astype(np.float64) ** 2)
    back = np.zeros_like(slopes[-1])
    back[:, unit] = 1
    for number in reversed(range(LAYERS)):
        back = (back * slopes[number]).astype(np.float32) @ matrix(number).T
    return back


CHILD = """
import resource, sys
import numpy as np
from gradserve import objectives as O
from gradserve_server import Engine, EngineConfig

model, inputs, backend, output = sys.argv[1:]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with Engine(model, config=EngineConfig(backend=backend)) as engine:
    np.save(output, engine.gradient("giant", {"x": np.load(inputs)}, O.unit("y", 5)).gradients["x"])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.timeout(900)
def test_a_model_above_two_gibibytes(giant, tmp_path, backend):
    x = random(2, SIDE)
    np.save(tmp_path / "x.npy", x)
    # In a process of its own, whose peak is the model's alone.
    arguments = [giant, tmp_path / "x.npy", backend, tmp_path / "gradient.npy"]
    child = subprocess.run([sys.executable, "-c", CHILD, *arguments], check=True, capture_output=True, text=True)
    error = relative_error(np.load(tmp_path / "gradient.npy"), expected_gradient(x, 5))
    assert error < TOLERANCE["float32 network"]
    assert int(child.stdout) < 2.5 * LAYERS * SIDE * SIDE * 4
