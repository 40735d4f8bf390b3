"""What runs before a version is ready: samples of `model_warmup`, and the plans of our own parameter."""

import numpy as np
import pytest
from support.repositories import answer, explicit, put, states

from gradserve.errors import InvalidModel
from gradserve_server.runtime.model import Model

BATCHED = "max_batch_size: 8 "


def sample(what, *, dims="[ 2 ]", dtype="TYPE_FP32", fields=""):
    inputs = f'inputs {{ key: "x" value {{ data_type: {dtype} dims: {dims} {what} }} }}'
    return f'model_warmup {{ name: "s" {inputs} {fields} }}'


@pytest.fixture
def seen(monkeypatch):
    """The inputs that models were run with."""
    runs = []
    real = Model.predict
    monkeypatch.setattr(
        Model, "predict", lambda model, feeds, *rest: (runs.append(feeds["x"]), real(model, feeds, *rest))[1]
    )
    return runs


def load(tmp_path, config):
    with explicit(put(tmp_path, "a", 3, config=config), "a") as engine:
        return engine.model("a")


def test_zeros(tmp_path, seen):
    load(tmp_path, BATCHED + sample("zero_data: true"))
    np.testing.assert_array_equal(seen, np.zeros((1, 1, 2)))


def test_count_and_batch(tmp_path, seen):
    load(tmp_path, BATCHED + sample("random_data: true", fields="count: 3 batch_size: 4"))
    assert [run.shape for run in seen] == [(4, 2)] * 3
    assert len(np.unique(seen[0])) == 2  # one sample, four times
    assert seen[0].dtype == np.float32


def test_dims_are_whole_shapes_without_batches(tmp_path, seen):
    load(tmp_path, sample("zero_data: true", dims="[ 5, 2 ]"))
    assert [run.shape for run in seen] == [(5, 2)]


def test_a_file(tmp_path, seen):
    (tmp_path / "a/warmup").mkdir(parents=True)
    (tmp_path / "a/warmup/raw").write_bytes(np.array([1.5, -2], "<f4").tobytes())
    load(tmp_path, BATCHED + sample('input_data_file: "raw"', fields="batch_size: 2"))
    np.testing.assert_array_equal(seen, [[[1.5, -2]] * 2])


def test_a_plan(tmp_path):
    parameter = 'parameters { key: "gradserve.warmup.objective" value { string_value: "y:1 y" } }'
    model = load(tmp_path, parameter)
    kept = [plan.key for plan in model._plans.kept]
    assert [(key.wrt, key.layers) for key in kept] == [(("x",), ["y"])] * 2
    assert len(set(kept)) == 2


def test_before_it_is_ready(tmp_path, monkeypatch):
    put(tmp_path, "a", 1, config=BATCHED + sample("zero_data: true"))
    seen = []
    with explicit(tmp_path) as engine:
        real = Model.predict
        monkeypatch.setattr(Model, "predict", lambda *rest: (seen.extend(states(engine)), real(*rest))[1])
        engine.load("a")
    assert seen == [("a", "1", "LOADING")]


REFUSED = {
    "shape": (BATCHED + sample("zero_data: true", dims="[ 3 ]"), r"model_warmup 's': input 'x': expected float32 \[N,2\]"),
    "dtype": (BATCHED + sample("zero_data: true", dtype="TYPE_INT64"), "got int64"),
    "no dtype": (BATCHED + sample("zero_data: true", dtype="TYPE_INVALID"), "expected a data_type and dims"),
    "negative": (BATCHED + sample("zero_data: true", dims="[ -1 ]"), "expected a data_type and dims"),
    "huge": (BATCHED + sample("zero_data: true", dims="[ 4611686018427387904, 4 ]"), "expected a data_type and dims"),
    "huge batch": (BATCHED + sample("zero_data: true", fields="batch_size: 4294967295"), "expected a data_type and dims"),
    "batch": (sample("zero_data: true", dims="[ 1, 2 ]", fields="batch_size: 2"), "batch_size: expected 1"),
    "nothing": (BATCHED + sample(""), "expected zero_data, random_data or input_data_file, got none"),
    "input": (BATCHED + 'model_warmup { name: "s" }', "got nothing"),
    "no file": (BATCHED + sample('input_data_file: "raw"'), "expected a file 'raw' in the model's folder 'warmup'"),
    "escape": (BATCHED + sample('input_data_file: "../../secret"'), "expected a file '../../secret' in the model's"),
    "absolute": (BATCHED + sample('input_data_file: "/etc/hostname"'), "expected a file '/etc/hostname'"),
    "link": (BATCHED + sample('input_data_file: "link"'), "expected a file 'link'"),
    "short file": (BATCHED + sample('input_data_file: "short"'), "expected 8 bytes for float32"),
    "layer": ('parameters { key: "gradserve.warmup.objective" value { string_value: "z:1" } }', "has no such layer"),
    "index": ('parameters { key: "gradserve.warmup.objective" value { string_value: "y:z" } }', "has no such layer"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_one_that_fails_is_no_model(tmp_path, case):
    config, text = REFUSED[case]
    (tmp_path / "secret").write_bytes(b"12345678")
    (tmp_path / "a/warmup").mkdir(parents=True)
    (tmp_path / "a/warmup/link").symlink_to(tmp_path / "secret")
    (tmp_path / "a/warmup/short").write_bytes(b"1234")
    with pytest.raises(InvalidModel, match=f"^model 'a': config.pbtxt: .*{text}"):
        load(tmp_path, config)


def test_it_fails_a_load_and_not_what_is_served(tmp_path):
    put(tmp_path, "a", 1, config=BATCHED)
    with explicit(tmp_path, "a") as engine:
        put(tmp_path, "a", 2, config=BATCHED + sample("zero_data: true", dims="[ 7 ]"))
        with pytest.raises(InvalidModel):
            engine.load("a")
        assert answer(engine, "a") == 1
