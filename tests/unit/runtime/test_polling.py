"""The repository as it changes: what is new, changed or gone, and nothing that is still being written."""

import os
import shutil

import pytest
from support.repositories import answer, put, spoil, states
from support.waiting import wait_for

from gradserve_server import Engine, EngineConfig

FOREVER = 1e6
"""Seconds: the engine does not look by itself."""


@pytest.fixture
def engine(tmp_path):
    put(tmp_path, "a", 1)
    with Engine(tmp_path, config=EngineConfig(model_control_mode="poll", repository_poll_seconds=FOREVER)) as engine:
        yield engine


def look(engine, times=1):
    for _ in range(times):
        engine._control._poller.look()


def test_nothing_happens_if_nothing_changes(engine):
    before = engine.model("a")
    look(engine, 3)
    assert engine.model("a") is before


def test_a_change_counts_when_two_looks_see_the_same(engine, tmp_path):
    put(tmp_path, "a", 2)
    look(engine)
    assert answer(engine, "a") == 1
    put(tmp_path, "a", 3)  # it is still being written
    os.utime(tmp_path / "a/1/model.onnx", ns=(1, 1))
    look(engine)
    assert answer(engine, "a") == 1
    look(engine)
    assert answer(engine, "a") == 3


def test_models_come_and_go(engine, tmp_path):
    put(tmp_path, "b", 5)
    look(engine, 2)
    assert (answer(engine, "a"), answer(engine, "b")) == (1, 5)
    shutil.rmtree(tmp_path / "a")
    look(engine)
    assert answer(engine, "a") == 1
    look(engine)
    assert states(engine) == [("b", "1", "READY")]
    put(tmp_path, "a", 7)
    look(engine, 2)
    assert answer(engine, "a") == 7


def test_what_is_gone_is_unloaded_once(engine, tmp_path, monkeypatch):
    unloaded = []
    monkeypatch.setattr(engine._registry, "unload", unloaded.append)
    shutil.rmtree(tmp_path / "a")
    look(engine, 4)
    assert unloaded == ["a"]


def test_a_size_is_a_change_whatever_the_clock_says(engine, tmp_path):
    before, file = engine.model("a"), tmp_path / "a/1/model.onnx"
    when = file.stat().st_mtime_ns
    put(tmp_path, "a", 1, size=3)
    os.utime(file, ns=(when, when))
    look(engine, 2)
    assert engine.model("a") is not before


def test_versions_come_and_go(engine, tmp_path):
    put(tmp_path, "a", 2, version=2, config="version_policy { all {} }")
    look(engine, 2)
    assert (answer(engine, "a", "1"), answer(engine, "a", "2")) == (1, 2)
    shutil.rmtree(tmp_path / "a/2")
    look(engine, 2)
    assert states(engine) == [("a", "1", "READY"), ("a", "2", "UNAVAILABLE")]


@pytest.mark.parametrize("file", ["config.pbtxt", "1/weights.bin", "labels.txt"])
def test_any_file_of_the_model_is_a_change(engine, tmp_path, file):
    before = engine.model("a")
    (tmp_path / "a" / file).write_text("")
    look(engine, 2)
    assert engine.model("a") is not before
    before = engine.model("a")
    os.utime(tmp_path / "a" / file, ns=(1, 1))
    look(engine, 2)
    assert engine.model("a") is not before


def test_what_cannot_be_loaded_is_tried_again_when_it_changes(engine, tmp_path, monkeypatch):
    spoil(tmp_path, "a")
    tried = []
    load = engine._registry.load
    monkeypatch.setattr(engine._registry, "load", lambda name: (tried.append(name), load(name)))
    look(engine, 4)
    assert tried == ["a"]
    assert answer(engine, "a") == 1
    (status,) = engine.models()
    assert status.reason.startswith("not loaded again: ")
    put(tmp_path, "a", 2)
    look(engine, 2)
    assert tried == ["a", "a"]
    assert answer(engine, "a") == 2


def test_a_repository_that_cannot_be_read_takes_nothing_away(engine, tmp_path):
    away = tmp_path.with_name(tmp_path.name + "_away")
    tmp_path.rename(away)
    try:
        for _ in range(3):
            with pytest.raises(OSError, match="No such file"):
                look(engine)
        assert answer(engine, "a") == 1
    finally:
        away.rename(tmp_path)


def test_a_defect_does_not_end_it(engine, tmp_path, monkeypatch):
    put(put(tmp_path, "a", 2), "b", 3)
    load = engine._registry.load
    monkeypatch.setattr(engine._registry, "load", lambda name: load(name) if name == "b" else 1 // 0)
    look(engine, 2)
    assert answer(engine, "b") == 3


def test_it_looks_by_itself(tmp_path):
    put(tmp_path, "a", 1)
    with Engine(tmp_path, config=EngineConfig(model_control_mode="poll", repository_poll_seconds=0.05)) as engine:
        put(tmp_path, "b", 2)
        wait_for(lambda: ("b", "1", "READY") in states(engine))
        assert answer(engine, "b") == 2
    assert not engine._control._poller._thread.is_alive()


def test_one_file_is_followed_too(tmp_path):
    put(tmp_path, "m", 1)
    file = (tmp_path / "m/1/model.onnx").rename(tmp_path / "net.onnx")
    config = EngineConfig(model_control_mode="poll", repository_poll_seconds=FOREVER)
    with Engine(file, config=config) as engine:
        put(tmp_path, "m", 2)
        (tmp_path / "m/1/model.onnx").rename(file)
        look(engine, 2)
        assert answer(engine, "net") == 2
