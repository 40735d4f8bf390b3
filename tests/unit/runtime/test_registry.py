"""Loading and unloading: states, reasons, versions, modes; what runs finishes on what it began with."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.repositories import answer, explicit, put, spoil, states
from support.waiting import WAIT, wait_for

from gradserve import Sgd
from gradserve import objectives as O
from gradserve.errors import ControlDisabled, InvalidModel, ModelNotFound, ServerUnavailable
from gradserve_server import Engine, EngineConfig
from gradserve_server.runtime import loading

ALL = "version_policy { all {} }"


def reasons(engine):
    return {(status.name, status.version): status.reason for status in engine.models()}


# ---- modes -----------------------------------------------------------------------------------------------------------


def test_all_at_the_start_and_none_on_request(tmp_path):
    put(put(tmp_path, "a", 1), "b", 2)
    with Engine(tmp_path) as engine:
        assert states(engine) == [("a", "1", "READY"), ("b", "1", "READY")]
        for change in (engine.load, engine.unload):
            with pytest.raises(ControlDisabled, match="only with model_control_mode 'explicit', got 'none'$"):
                change("a")
        assert answer(engine, "b") == 2


@pytest.mark.parametrize(("load", "ready"), [((), set()), (("b",), {"b"}), (("*",), {"a", "b"}), (("a", "b"), {"a", "b"})])
def test_what_is_loaded_at_the_start(tmp_path, load, ready):
    put(put(tmp_path, "a", 1), "b", 2)
    with explicit(tmp_path, *load) as engine:
        assert {model.name for model in engine.versions} == ready
        expected = [(name, *(("1", "READY") if name in ready else ("", "UNKNOWN"))) for name in ("a", "b")]
        assert states(engine) == expected
        assert engine.ready


def test_a_model_to_load_that_is_not_there(tmp_path):
    with pytest.raises(ModelNotFound, match=r"^model 'c': expected one in the repository \('a'\)$"):
        explicit(put(tmp_path, "a", 1), "c")


def test_a_repository_may_be_empty_if_models_come_later(tmp_path):
    for mode in ("explicit", "poll"):
        with Engine(tmp_path, config=EngineConfig(model_control_mode=mode)) as engine:
            assert engine.models() == []
            with pytest.raises(ModelNotFound, match="^model 'a': no model is loaded$"):
                answer(engine, "a")
    with pytest.raises(ModelNotFound, match="got no model$"):
        Engine(tmp_path)


def test_an_error_at_the_start_ends_it_or_not(tmp_path):
    spoil(put(put(tmp_path, "a", 1), "b", 2), "b")
    with pytest.raises(InvalidModel):
        Engine(tmp_path)
    with Engine(tmp_path, config=EngineConfig(exit_on_error=False)) as engine:
        assert states(engine) == [("a", "1", "READY"), ("b", "1", "UNAVAILABLE")]
        assert "expected a readable ONNX model" in reasons(engine)["b", "1"]
        assert not engine.ready
        assert answer(engine, "a") == 1


def test_a_configuration_that_cannot_be_read_is_told_without_a_version(tmp_path):
    put(put(tmp_path, "a", 1), "b", 2, config="nonsense")
    with Engine(tmp_path, config=EngineConfig(exit_on_error=False)) as engine:
        assert states(engine) == [("a", "1", "READY"), ("b", "", "UNAVAILABLE")]
        assert "config.pbtxt" in reasons(engine)["b", ""]
    with explicit(tmp_path) as engine:
        with pytest.raises(InvalidModel):
            engine.load("b")
        put(tmp_path, "b", 2, config="")
        engine.load("b")
        assert states(engine) == [("a", "", "UNKNOWN"), ("b", "1", "READY")]


# ---- loading again ---------------------------------------------------------------------------------------------------


def test_load_unload_load(tmp_path):
    put(tmp_path, "a", 1)
    with explicit(tmp_path) as engine:
        (loaded,) = engine.load("a")
        assert (loaded.version, loaded.state, loaded.reason) == ("1", "READY", "")
        assert loaded.memory_bytes > 0
        assert answer(engine, "a") == 1
        (gone,) = engine.unload("a")
        assert (gone.state, gone.reason, gone.memory_bytes) == ("UNAVAILABLE", "unloaded", 0)
        with pytest.raises(ModelNotFound):
            answer(engine, "a")
        assert engine.ready
        put(tmp_path, "a", 3)
        engine.load("a")
        assert answer(engine, "a") == 3
        assert states(engine) == [("a", "1", "READY")]


def test_what_is_not_loaded_is_unloaded_without_more_ado(tmp_path):
    with explicit(put(tmp_path, "a", 1)) as engine:
        assert engine.unload("a") == []
        assert states(engine) == [("a", "", "UNKNOWN")]
        for change in (engine.load, engine.unload):
            with pytest.raises(ModelNotFound, match="^model 'x': expected one in the repository"):
                change("x")
        assert states(engine) == [("a", "", "UNKNOWN")]


def test_a_failed_load_leaves_what_was_there(tmp_path):
    put(tmp_path, "a", 1)
    with explicit(tmp_path, "a") as engine:
        spoil(tmp_path, "a")
        with pytest.raises(InvalidModel):
            engine.load("a")
        assert answer(engine, "a") == 1
        assert states(engine) == [("a", "1", "READY")]
        assert reasons(engine)["a", "1"].startswith("not loaded again: model file 'model.onnx': expected a readable")
        assert engine.ready  # it serves what it served
        put(tmp_path, "a", 5)
        engine.load("a")
        assert reasons(engine)["a", "1"] == ""
        assert answer(engine, "a") == 5


def test_a_failed_first_load_is_told_until_it_is_mended_or_unloaded(tmp_path):
    spoil(put(tmp_path, "a", 1), "a")
    with explicit(tmp_path) as engine:
        for mend in (lambda: engine.unload("a"), lambda: (put(tmp_path, "a", 1), engine.load("a"))):
            with pytest.raises(InvalidModel):
                engine.load("a")
            assert states(engine) == [("a", "1", "UNAVAILABLE")]
            assert not engine.ready
            mend()
            assert engine.ready


def test_a_defect_tells_nobody_what_it_is(tmp_path, monkeypatch):
    put(tmp_path, "a", 1)
    monkeypatch.setattr(loading, "Model", lambda *_, **__: 1 // 0)
    with explicit(tmp_path) as engine:
        with pytest.raises(ZeroDivisionError):
            engine.load("a")
        assert reasons(engine)["a", "1"] == "a defect of the server, whose log says more"


# ---- versions --------------------------------------------------------------------------------------------------------


def test_versions_are_one_unit(tmp_path):
    put(put(tmp_path, "a", 1, version=1), "a", 2, version=2, config=ALL)
    with explicit(tmp_path, "a") as engine:
        assert (answer(engine, "a", "1"), answer(engine, "a", "2"), answer(engine, "a")) == (1, 2, 2)
        put(tmp_path, "a", 10, version=1)
        put(tmp_path, "a", 30, version=3)
        spoil(tmp_path, "a", 2)
        with pytest.raises(InvalidModel):
            engine.load("a")
        assert (answer(engine, "a", "1"), answer(engine, "a", "2"), answer(engine, "a")) == (1, 2, 2)
        assert states(engine) == [("a", "1", "READY"), ("a", "2", "READY"), ("a", "3", "UNAVAILABLE")]
        assert engine.ready  # the model is served
        put(tmp_path, "a", 20, version=2)
        engine.load("a")
        assert [answer(engine, "a", version) for version in "123"] == [10, 20, 30]


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        ("", {"3"}),
        ("version_policy { latest { num_versions: 2 } }", {"2", "3"}),
        ("version_policy { specific { versions: [ 1, 3 ] } }", {"1", "3"}),
        (ALL, {"1", "2", "3"}),
    ],
)
def test_the_policy_counts_at_each_load(tmp_path, policy, served):
    put(put(tmp_path, "a", 1), "a", 2, version=2, config=ALL)
    with explicit(tmp_path, "a") as engine:
        put(tmp_path, "a", 3, version=3, config=policy)
        engine.load("a")
        told = {status.version: (status.state, status.reason) for status in engine.models()}
        assert {version for version, (state, _) in told.items() if state == "READY"} == served
        assert all(told[version] == ("UNAVAILABLE", "unloaded") for version in told.keys() - served)
        assert {str(model.version) for model in engine.versions} == served


# ---- what runs -------------------------------------------------------------------------------------------------------


def test_a_call_stays_with_the_version_that_it_began_with(tmp_path):
    put(tmp_path, "a", 2)
    with explicit(tmp_path, "a") as engine:
        held = engine.model("a")
        steps = engine.ascend(
            "a", O.unit("y", 0), steps=6, start=np.ones((1, 2), np.float32), optimizer=Sgd(0.5), report_every=1
        )
        first = next(steps)
        put(tmp_path, "a", 100)
        engine.load("a")
        assert answer(engine, "a") == 100
        assert engine.infer_with(held, {"x": np.ones((1, 2), np.float32)}, ())["y"][0, 0] == 2
        later = list(steps)
        np.testing.assert_allclose(first.gradient_norm, 2)
        assert all(step.gradient_norm == first.gradient_norm for step in later)
        # An unloaded model is unloading until its last call has ended.
        engine.unload("a")
        assert states(engine) == [("a", "1", "UNLOADING")]
        held = None
        del steps
        assert states(engine) == [("a", "1", "UNAVAILABLE")]


def test_a_model_goes_with_its_last_call(tmp_path):
    put(tmp_path, "a", 2)
    gc.disable()  # it must go by itself
    try:
        with explicit(tmp_path, "a") as engine:
            steps = engine.ascend("a", O.unit("y", 0), steps=100, report_every=1)
            next(steps)
            engine.gradient("a", {"x": np.ones((1, 2), np.float32)}, O.unit("y", 0))
            engine.layers("a")
            gone = weakref.ref(engine.model("a"))
            engine.unload("a")
            assert gone() is not None
            next(steps)
            steps.close()
            del steps
            assert gone() is None
    finally:
        gc.enable()


def test_loads_of_one_model_are_one_after_the_other_and_hold_up_nobody(tmp_path, monkeypatch):
    put(put(tmp_path, "a", 1), "b", 2)
    real, entered, go, inside = loading.Model, threading.Semaphore(0), threading.Event(), []

    def slow(name, *arguments, **options):
        if name == "a" and armed:
            inside.append(name)
            assert len(inside) == 1, "two at a time"
            entered.release()
            assert go.wait(WAIT)
            inside.pop()
        return real(name, *arguments, **options)

    armed = False
    monkeypatch.setattr(loading, "Model", slow)
    monkeypatch.setattr(loading, "warm_up", lambda *_: None)
    with explicit(tmp_path, "a") as engine, ThreadPoolExecutor(4) as threads:
        armed = True
        loads = [threads.submit(engine.load, "a") for _ in range(3)]
        assert entered.acquire(timeout=WAIT)
        # While it is loaded: it serves, others serve, others load and unload.
        assert answer(engine, "a") == 1
        assert states(engine)[0] == ("a", "1", "READY")
        engine.load("b")
        assert answer(engine, "b") == 2
        engine.unload("b")
        unload = threads.submit(engine.unload, "a")
        assert not unload.done()
        go.set()
        for load in loads:
            load.result(WAIT)
        unload.result(WAIT)


def test_what_is_being_loaded_says_so(tmp_path, monkeypatch):
    put(tmp_path, "a", 1)
    seen = []
    with explicit(tmp_path) as engine:
        monkeypatch.setattr(loading, "warm_up", lambda *_: seen.extend(states(engine)))
        engine.load("a")
    assert seen == [("a", "1", "LOADING")]


def test_listeners_hear_of_every_change(tmp_path):
    put(tmp_path, "a", 1)
    with explicit(tmp_path) as engine:
        heard = []
        forget = engine.on_change(lambda: heard.append([model.name for model in engine.versions]))
        engine.load("a")
        engine.unload("a")
        spoil(tmp_path, "a")
        with pytest.raises(InvalidModel):
            engine.load("a")
        forget()
        put(tmp_path, "a", 1)
        engine.load("a")
        assert heard == [[], ["a"], [], []]


def test_a_closed_engine_loads_nothing(tmp_path):
    put(tmp_path, "a", 1)
    engine = explicit(tmp_path, "a")
    engine.close()
    with pytest.raises(ServerUnavailable):
        engine.load("a")
    with pytest.raises(ModelNotFound):
        answer(engine, "a")


def test_thousands_of_predictions_while_it_is_loaded_again_and_again(tmp_path):
    """Nothing fails, and every answer is of some version that was served."""
    put(tmp_path, "a", 1)
    loads = 12
    with explicit(tmp_path, "a") as engine, ThreadPoolExecutor(4) as threads:
        stop = threading.Event()

        def ask():
            seen = []
            while not stop.is_set() or len(seen) < 500:
                seen.append(answer(engine, "a"))
            return seen

        asking = [threads.submit(ask) for _ in range(4)]
        for factor in range(2, 2 + loads):
            put(tmp_path, "a", factor)
            engine.load("a")
            assert answer(engine, "a") == factor
        stop.set()
        for future in asking:
            seen = future.result(WAIT)
            assert seen == sorted(seen)
            assert set(seen) <= set(range(1, 2 + loads))
        assert sum(len(future.result()) for future in asking) >= 2000
        wait_for(lambda: states(engine) == [("a", "1", "READY")])
