"""What a model's weights take while nothing reads them, and the session that predicts while nobody wants predictions."""

import gc
import sys
import weakref
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support.onnx_models import build, random, save

from gradserve import objectives as O
from gradserve_server import Engine, EngineConfig
from gradserve_server.graph.weights import constants
from gradserve_server.runtime import weights_file
from gradserve_server.runtime.session import Session
from gradserve_server.runtime.weights_file import WeightsFile

WIDTH = 256
X = {"x": random(3, WIDTH)}


def proto():
    return build(
        "h = MatMul(x, w) t = Tanh(h) y = MatMul(t, v)",
        inputs=f"float[N,{WIDTH}] x",
        outputs=f"float[N,{WIDTH}] y",
        weights={name: random(WIDTH, WIDTH, seed=seed) / 16 for seed, name in enumerate("wv")},
    )


@pytest.fixture(autouse=True)
def _small_ones_too(monkeypatch):
    monkeypatch.setattr(weights_file, "WORTH_A_FILE", 1)


@pytest.fixture
def engine(tmp_path):
    save(proto(), tmp_path / "m/1/model.onnx")
    with Engine(tmp_path, config=EngineConfig(threads=1)) as engine:
        yield engine


def gradient(engine):
    return engine.gradient("m", X, O.unit("y", 0)).gradients["x"]


def predict(engine):
    return engine.infer("m", X)["y"]


# ---- the file --------------------------------------------------------------------------------------------------------


def arrays(model):
    return {name: tensor.numpy() for name, tensor in constants(model)}


def resident_of_file(address):
    """Bytes of the mapping at an address that are in memory."""
    size, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        if "-" in first and not first.endswith(":"):
            begin, end = (int(part, 16) for part in first.split("-"))
            inside = begin <= address < end
        elif inside and first == "Rss:":
            size += int(line.split()[1]) * 1024
    return size


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_the_same_numbers_are_read_from_the_file(dtype):
    weights = {"w": random(WIDTH, 128, dtype=dtype), "v": random(128, 300, seed=1, dtype=dtype)}
    kind = {"float32": "float", "float64": "double", "float16": "float16"}[dtype]
    body, inputs, outputs = "h = MatMul(x, w) y = MatMul(h, v)", f"{kind}[N,{WIDTH}] x", f"{kind}[N,300] y"
    model = ir.from_proto(build(body, inputs=inputs, outputs=outputs, weights=weights))
    file = WeightsFile(model)
    for _ in range(2):
        for name, array in arrays(model).items():
            assert not array.flags.writeable
            assert array.dtype == weights[name].dtype
            np.testing.assert_array_equal(array, weights[name])
        file.let_go()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_nothing_reads_is_not_resident():
    model = ir.from_proto(proto())
    file = WeightsFile(model)
    where = arrays(model)["w"]
    where.sum()
    assert resident_of_file(where.ctypes.data) >= where.nbytes
    file.let_go()
    assert resident_of_file(where.ctypes.data) == 0


def test_sessions_read_the_file_itself():
    """Each weight is in memory once: onnxruntime is handed the addresses in the file."""
    model = ir.from_proto(proto())
    file = WeightsFile(model)
    there = {array.ctypes.data for array in arrays(model).values()}
    sessions = [Session(model, 1) for _ in range(2)]
    for session in sessions:
        assert {value.data_ptr() for value in session._given.values()} == there
    before = sessions[0].run(X)["y"]
    file.let_go()
    np.testing.assert_array_equal(sessions[0].run(X)["y"], before)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_file_has_no_name_and_goes_with_its_arrays(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model = ir.from_proto(proto())
    WeightsFile(model)
    assert list(tmp_path.iterdir()) == []
    maps = Path("/proc/self/maps")
    assert str(tmp_path) in maps.read_text()
    for value in model.graph.initializers.values():
        value.const_value = None
    del model
    gc.collect()
    assert str(tmp_path) not in maps.read_text()


def test_without_room_for_a_file_weights_stay_where_they_are(monkeypatch, caplog):
    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights_file, "TemporaryFile", full)
    model = ir.from_proto(proto())
    before = {name: array.ctypes.data for name, array in arrays(model).items()}
    WeightsFile(model).let_go()
    assert {name: array.ctypes.data for name, array in arrays(model).items()} == before
    assert "weights stay in memory" in caplog.text
    assert "No space left" in caplog.text


def test_little_is_not_worth_a_file(monkeypatch):
    monkeypatch.setattr(weights_file, "WORTH_A_FILE", 2 * 4 * WIDTH**2 + 1)
    monkeypatch.setattr(weights_file, "TemporaryFile", lambda **_: pytest.fail("one was made"))
    WeightsFile(ir.from_proto(proto()))


# ---- the session that predicts ---------------------------------------------------------------------------------------


def test_it_rests_while_only_gradients_are_asked_for(engine):
    predictor = engine.model("m")._predictor
    session = weakref.ref(predictor._open)
    gradient(engine)
    assert not predictor.is_open
    assert session() is None, "somebody else holds it"


def test_it_predicts_the_same_bytes_once_it_is_wanted(engine, tmp_path):
    with Engine(tmp_path, config=EngineConfig(threads=1)) as untouched:
        expected = predict(untouched)
    gradient(engine)
    np.testing.assert_array_equal(predict(engine), expected)
    session = engine.model("m")._predictor._open
    gradient(engine)
    np.testing.assert_array_equal(predict(engine), expected)
    assert engine.model("m")._predictor._open is session, "who predicts keeps what is open"


def test_it_stays_where_predictions_came_first(engine):
    predict(engine)
    session = engine.model("m")._predictor._open
    gradient(engine)
    assert engine.model("m")._predictor._open is session


def test_activations_alone_do_not_send_it_to_rest(engine):
    engine.activations("m", X, layers=["t"])
    assert engine.model("m")._predictor.is_open


def test_activations_of_an_output_are_the_prediction(tmp_path, monkeypatch):
    """To the last bit: their matrices are packed, too."""
    monkeypatch.setattr("gradserve_server.runtime.session.TINY_BYTES", 0)
    save(proto(), tmp_path / "m/1/model.onnx")
    with Engine(tmp_path, config=EngineConfig(threads=1)) as engine:
        for rows in (1, 3, 16):
            x = {"x": random(rows, WIDTH, seed=rows)}
            np.testing.assert_array_equal(engine.activations("m", x, ["y"])["y"], engine.infer("m", x)["y"])


def test_its_room_stays_reserved(engine):
    """A prediction is never refused for want of memory."""
    before = engine.model("m").own_bytes
    gradient(engine)
    assert engine.model("m").own_bytes == before
