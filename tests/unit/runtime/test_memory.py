"""The memory limit that models share, what is counted, and that it is true."""

import gc
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from support.onnx_models import build, save
from support.paths import ROOT
from support.repositories import answer, explicit, put, states

from gradserve import objectives as O
from gradserve.errors import LimitExceeded, ModelNotFound
from gradserve_server.runtime import loading
from gradserve_server.runtime.memory import MIB, MemoryBudget

SIZE = 512
MODEL = 2 * 4 * SIZE * SIZE
"""Weights of [512, 512], once as they are and once copied: 2 MiB."""


class Owner:
    pass


# ---- counting --------------------------------------------------------------------------------------------------------


def test_what_is_held_goes_with_its_owner():
    budget, owner = MemoryBudget(1), Owner()
    budget.hold(owner, MIB, "a")
    assert budget.used == MIB
    with pytest.raises(LimitExceeded, match=r"^b: needs 0\.5 MiB, but 1\.0 MiB of 1\.0 MiB \(memory_limit_mib\) are in use"):
        budget.hold(Owner(), MIB // 2, "b")
    del owner
    assert budget.used == 0
    budget.hold(other := Owner(), MIB, "b")
    assert budget.used == MIB
    del other


def test_what_is_reserved_counts_until_the_end():
    budget = MemoryBudget(2)
    with budget.reserved(MIB, "a"), budget.reserved(MIB, "b"), pytest.raises(LimitExceeded):
        budget.hold(Owner(), 1, "c")
    assert budget.used == 0


def test_without_a_limit_it_only_counts():
    budget, owner = MemoryBudget(), Owner()
    budget.hold(owner, 1 << 60, "a")
    assert budget.used == 1 << 60


def test_owners_may_go_anywhere_and_any_time():
    """As in a garbage collection that begins while this very thread counts."""
    budget = MemoryBudget(1)

    def churn():
        for _ in range(500):
            owner = Owner()
            owner.self = owner
            budget.hold(owner, 1, "x")

    threads = [threading.Thread(target=churn) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert budget.used == 0


# ---- models ----------------------------------------------------------------------------------------------------------


def gradient(engine, name, layer="y"):
    engine.gradient(name, {"x": np.ones((1, SIZE), np.float32)}, O.unit(layer, 0))


def sizes(engine):
    return {status.name: status.memory_bytes for status in engine.models() if status.memory_bytes}


def repository(tmp_path, *names):
    """Products written out as elements, whose constant onnxruntime copies; a matrix is read where it lies by plans."""
    weights = {"w": np.ones((SIZE, SIZE), np.float32), "middle": np.array([1]), "last": np.array([2])}
    body = "u = Unsqueeze(x, middle) h = Mul(u, w) y = ReduceSum<keepdims = 0>(h, last)"
    model = build(body, inputs=f"float[N,{SIZE}] x", outputs=f"float[N,{SIZE}] y", opset=18, weights=weights)
    for name in names:
        save(model, tmp_path / name / "1/model.onnx")
    return tmp_path


def test_a_load_that_would_go_over_the_limit_is_not_begun(tmp_path, monkeypatch):
    with explicit(repository(tmp_path, "a", "b"), "a", memory_limit_mib=3) as engine:
        monkeypatch.setattr(loading, "Model", lambda *_, **__: pytest.fail("it was begun"))
        with pytest.raises(LimitExceeded):
            engine.load("b")


def test_a_load_that_would_go_over_the_limit_is_refused(tmp_path):
    with explicit(repository(tmp_path, "a", "b"), "a", memory_limit_mib=3) as engine:
        assert MODEL <= sizes(engine)["a"] < MODEL + 4096
        with pytest.raises(LimitExceeded, match=r"^model 'b' version 1: needs 2\.0 MiB, but 2\.0 MiB of 3\.0 MiB"):
            engine.load("b")
        assert states(engine) == [("a", "1", "READY"), ("b", "1", "UNAVAILABLE")]
        engine.unload("a")
        engine.load("b")
        assert set(sizes(engine)) == {"b"}


def test_both_are_in_memory_while_one_takes_the_others_place(tmp_path):
    with explicit(repository(tmp_path, "a"), "a", memory_limit_mib=3) as engine:
        with pytest.raises(LimitExceeded):
            engine.load("a")
        assert answer_of(engine, "a")["y"].shape == (1, SIZE)
    with explicit(tmp_path, "a", memory_limit_mib=5) as engine:
        for _ in range(3):  # what was replaced is gone
            engine.load("a")


def answer_of(engine, name):
    return engine.infer(name, {"x": np.ones((1, SIZE), np.float32)})


def with_plans(engine):
    return {model.name for model in engine.versions if model.plan_bytes}


def test_plans_go_before_a_load_is_refused_the_oldest_first(tmp_path):
    with explicit(repository(tmp_path, "a", "b", "c"), "a", "b", memory_limit_mib=9) as engine:
        for name in "aba":
            gradient(engine, name)
        assert sizes(engine) == {name: pytest.approx(2 * MODEL, abs=8192) for name in "ab"}
        engine.load("c")
        assert with_plans(engine) == {"a"}  # b's was asked for before it
        gradient(engine, "b")  # another plan makes room for itself as well
        assert with_plans(engine) == {"b"}


def test_a_plan_that_does_not_fit_is_refused(tmp_path):
    with explicit(repository(tmp_path, "a", "b"), "a", "b", memory_limit_mib=5) as engine:
        with pytest.raises(LimitExceeded, match=r"^model 'a': plan for y: needs 2\.0 MiB, but 4\.0 MiB of 5\.0 MiB"):
            gradient(engine, "a")
        assert answer_of(engine, "a")["y"].shape == (1, SIZE)
        engine.unload("b")
        gradient(engine, "a")


# ---- is it true? -----------------------------------------------------------------------------------------------------

_MEASURE = """
import gc, sys, weakref
from pathlib import Path
import numpy as np
from support.onnx_models import build, save
from support.repositories import put
from gradserve import objectives as O
from gradserve_server import Engine, EngineConfig
from gradserve_server.graph.weights import constants
from gradserve_server.runtime.freed_memory import give_back
from gradserve_server.runtime.weights_file import WORTH_A_FILE

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

kind, root = sys.argv[1], Path(sys.argv[2])
size = 1024
if kind == "dense":
    put(root, "m", 1.0, size=2048)
    x = np.zeros((1, 2048), np.float32)
else:
    kernel = np.random.default_rng(0).normal(size=(256, 256, 3, 3)).astype(np.float32)
    weights = {f"w{i}": kernel + np.float32(i) for i in range(6)}
    body = " ".join(f"h{i + 1} = Conv<pads=[1,1,1,1]>(h{i}, w{i})" for i in range(6))
    save(build(body.replace("h0", "x").replace("h6", "y"), inputs="float[N,256,3,3] x", outputs="float[N,256,3,3] y",
               weights=weights), root / "m/1/model.onnx")
    x = np.zeros((1, 256, 3, 3), np.float32)
put(root, "small", 1.0)
with Engine(root, config=EngineConfig(threads=1, model_control_mode="explicit", load_model=("small",))) as engine:
    engine.gradient("small", {"x": np.ones((1, 2), np.float32)}, O.unit("y", 0))
    gc.collect()
    give_back()
    before = resident()
    engine.load("m")
    gc.collect()
    model = engine.model("m")
    plain = sum(tensor.nbytes for _, tensor in constants(model._model))
    print(resident() - before, model.own_bytes, plain if plain >= WORTH_A_FILE else 0)
    engine.infer("m", {"x": x})  # or what predicts would make room for the plan
    loaded = resident()
    engine.gradient("m", {"x": x}, O.unit("y", 0))
    gc.collect()
    print(resident() - loaded, model.plan_bytes)
    del model
    engine.unload("m")
    print(resident() - before, 0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["dense", "convolutions"])
def test_the_count_is_what_becomes_resident_and_goes_again(tmp_path, kind):
    # Freed blocks go back at once, so that resident is what is used.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "200000", "PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, kind, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (loaded, model, in_file), (grown, plan), (left, _) = (map(int, line.split()) for line in done.stdout.splitlines())
    assert model > 20 * MIB
    assert loaded == pytest.approx(model - in_file, rel=0.15)  # nothing reads the file now
    assert grown == pytest.approx(plan + in_file, rel=0.25)  # it reads the file in place
    assert left < 0.2 * model


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_unloaded_model_gives_its_memory_back_whatever_the_allocator_would_keep(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, "dense", str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (_, model, _), _, (left, _) = (map(int, line.split()) for line in done.stdout.splitlines())
    assert left < 0.3 * model


def test_an_unknown_model_is_not_found_whatever_the_limit(tmp_path):
    with explicit(put(tmp_path, "a", 1), "a", memory_limit_mib=1) as engine:
        assert answer(engine, "a") == 1
        with pytest.raises(ModelNotFound):
            engine.load("b")
