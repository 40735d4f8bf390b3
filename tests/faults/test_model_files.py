"""Model files from a stranger: each ends in `InvalidModel` or is served, here and in the trial process, and never hurts."""

import inspect
import json
import linecache
import os
import resource
import shutil
import sys
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from support.malicious import CASES, CRASHES, SECRET, beside, external, small, weights, write
from support.onnx_models import build, save
from support.paths import MODELS
from support.runtime import TOO_OLD

import gradserve
from gradserve.errors import InvalidModel
from gradserve_server import Engine, EngineConfig, ServerConfig
from gradserve_server.graph.contained import domains, files, limits, tensors
from gradserve_server.graph.contained.limits import Limits
from gradserve_server.graph.load import load, read
from gradserve_server.rpc.app import Server
from gradserve_server.runtime.device import Device
from gradserve_server.runtime.trial import Trial, TrialLimits

SETTINGS = {"threads": 1, "device": Device.CPU, "max_plans": 1}


@pytest.fixture(scope="module")
def trial():
    with Trial(TrialLimits(seconds=60, bytes=8 * 2**30)) as trial:
        yield trial


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "m").mkdir()
    return tmp_path / "m"


# ---- the gallery -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_a_file_that_must_not_load(folder, trial, name):
    path = write(CASES[name], folder)
    with pytest.raises(InvalidModel) as here, Engine(path):
        pass
    assert CASES[name].error in str(here.value)
    with pytest.raises(InvalidModel) as there:
        trial.load("m", 1, path, **SETTINGS)
    assert str(there.value) == str(here.value)


def test_refusing_takes_no_memory(folder):
    """Of hundreds of claims between a terabyte and an exabyte."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name in (
        "tensor: petabytes",
        "external: the same bytes a thousand times",
        "file: too large",
        "tensor: nothing in it",
    ):
        for entry in folder.iterdir():
            entry.unlink()
        with pytest.raises(InvalidModel):
            load(write(CASES[name], folder))
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 2**27


def test_the_same_model_without_malice_is_served(folder, trial):
    weights(folder)
    path = save(external("weights.bin", checksum="0"), folder / "m.onnx")
    trial.load("m", 1, path, **SETTINGS)
    with Engine(path) as engine:
        np.testing.assert_array_equal(engine.infer("m", {"x": np.ones((1, 12), np.float32)})["y"], SECRET[None])


def test_every_refusal_is_in_the_gallery(tmp_path, monkeypatch):
    """Each line that refuses something is reached by a file, but for what only a change while it is read can bring about."""
    reached = set()
    init = files.Refused.__init__

    def record(self, *arguments):
        caller = sys._getframe(1)
        reached.add((caller.f_globals["__name__"], linecache.getline(caller.f_code.co_filename, caller.f_lineno).strip()))
        init(self, *arguments)

    monkeypatch.setattr(files.Refused, "__init__", record)
    for number, case in enumerate(CASES.values()):
        (folder := tmp_path / f"{number}/m").mkdir(parents=True)
        with suppress(InvalidModel):  # what it computes is refused later
            load(write(case, folder))
    refusals = {
        (module.__name__, line.strip())
        for module in (files, tensors, limits, domains)
        for line in inspect.getsource(module).splitlines()
        if line.strip().startswith("raise Refused(")
    }
    assert refusals - reached == {(files.__name__, 'raise Refused(str(len(content)), f"at most {most} bytes")')}


def test_every_operator_that_does_more_than_compute_is_in_the_gallery():
    assert {f"operator: {domain}.{op_type}" for domain, op_type in domains.REFUSED} <= CASES.keys()


def test_a_file_that_grows_while_it_is_read(folder, monkeypatch):
    path = save(small(), folder / "m.onnx")
    monkeypatch.setattr(files, "_regular", lambda _: SimpleNamespace(st_size=0))
    with pytest.raises(InvalidModel, match="expected at most 100 bytes, got "):
        load(path, Limits(max_bytes=100))


def test_weights_that_shrink_while_they_are_read(folder, monkeypatch):
    path = weights(folder)
    monkeypatch.setattr(tensors, "_size", lambda _: os.truncate(path, 40) or SECRET.nbytes)
    with pytest.raises(InvalidModel, match=r"got a file 'weights\.bin' that became shorter while it was read"):
        load(save(external("weights.bin"), folder / "m.onnx"))


def test_a_link_that_is_made_while_it_is_opened(folder, monkeypatch):
    beside(folder)
    monkeypatch.setattr(files, "_steps", lambda *_: ("link.bin",))
    (folder / "link.bin").symlink_to("../secret.bin")
    with pytest.raises(InvalidModel, match=r"got 'link\.bin', which cannot be opened"):
        load(save(external("link.bin"), folder / "m.onnx"))


def test_links_within_the_folder_are_followed(folder):
    """As Kubernetes mounts a volume: each name is a link into a folder that is a link."""
    (folder / "..2026").mkdir()
    weights(folder / "..2026")
    save(external("weights.bin"), folder / "..2026/m.onnx")
    (folder / "..data").symlink_to("..2026")
    for name in ("m.onnx", "weights.bin"):
        (folder / name).symlink_to(f"..data/{name}")
    np.testing.assert_array_equal(load(folder / "m.onnx").model.graph.initializers["w"].const_value.numpy(), SECRET)


def test_settings_of_a_session_in_metadata_are_dropped(folder, monkeypatch):
    """onnxruntime would write a file, if the environment let it."""
    monkeypatch.setenv("ORT_LOAD_CONFIG_FROM_MODEL", "1")
    model = small()
    config = {"session_options": {"enable_profiling": 1}}
    onnx.helper.set_model_props(model, {"ort_config": json.dumps(config), "author": "me"})
    monkeypatch.chdir(folder)
    path = save(model, folder / "m.onnx")
    assert load(path).model.metadata_props == {"author": "me"}
    with Engine(path):
        assert [entry.name for entry in folder.iterdir()] == ["m.onnx"]


def test_tensors_of_a_model_in_memory_lie_nowhere_else(folder, monkeypatch):
    weights(folder)
    monkeypatch.chdir(folder)
    with pytest.raises(InvalidModel, match="^model: expected .*got external data of 'w' where there can be none"):
        read(external("weights.bin"))


# ---- the trial protects ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CRASHES)
def test_a_file_that_crashes_native_code(folder, trial, name):
    path = save(CRASHES[name](), folder / "m.onnx")
    with suppress(InvalidModel):  # a newer onnxruntime may take it, or refuse it
        trial.load("m", 1, path, **SETTINGS)
    trial.load("good", 1, MODELS / "digits/1/model.onnx", **SETTINGS)


@pytest.mark.skipif(not TOO_OLD, reason="a newer onnxruntime may not crash")
def test_the_error_says_how_it_crashed(folder):
    path = save(CRASHES["a stride of 0"](), folder / "m.onnx")
    expected = r"^model 'm': expected a file that loads, got a crash \(SIGFPE\) in a trial process$"
    with pytest.raises(InvalidModel, match=expected), Engine(path, config=EngineConfig(trial=True)):
        pass


@pytest.mark.parametrize("name", CRASHES)
def test_a_server_stays_up_when_it_is_told_to_load_such_a_file(tmp_path, name):
    shutil.copytree(MODELS / "digits", tmp_path / "digits")
    save(CRASHES[name](), tmp_path / "evil/1/model.onnx")
    config = EngineConfig(trial=True, model_control_mode="explicit", load_model=("digits",))
    image = np.random.default_rng(0).random((1, 1, 28, 28), np.float32)
    with (
        Engine(tmp_path, config=config) as engine,
        Server(engine, ServerConfig(port=0)) as server,
        gradserve.Client(server.address) as client,
    ):
        before = client.infer("digits", {"image": image})["logits"]
        with suppress(InvalidModel):  # a newer onnxruntime may take it
            client.load("evil")
        np.testing.assert_array_equal(client.infer("digits", {"image": image})["logits"], before)


def test_a_loop_without_end(folder):
    body = "body (int64 i, bool c, float[N,12] s) => (bool d, float[N,12] t) { d = Identity(c) t = Neg(s) }"
    loop = f"y = Loop<body = {body}>(many, yes, x)"
    weights_of = {"many": np.array(2**62, np.int64), "yes": np.array(True)}
    path = save(build(loop, inputs="float[N,12] x", outputs="float[N,12] y", weights=weights_of), folder / "m.onnx")
    expected = r"^model 'm': expected a file that loads, got none after 3 s \(load_timeout_seconds\) in a trial process$"
    with Trial(TrialLimits(seconds=3, bytes=2**33)) as impatient, pytest.raises(InvalidModel, match=expected):
        impatient.load("m", 1, path, **SETTINGS)


def test_memory_beyond_the_limit(folder):
    body = "h = ConstantOfShape<value = float[1] {1}>(s) r = ReduceSum<keepdims = 0>(h) y = Mul(x, r)"
    proto = build(body, inputs="float[N,12] x, int64[1] s", outputs="float[N,12] y")
    proto.graph.input.pop()
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2**30]), "s"))  # 4 GiB
    path = save(proto, folder / "m.onnx")
    with Trial(TrialLimits(seconds=60, bytes=2**31)) as small_one:
        with pytest.raises(InvalidModel):
            small_one.load("m", 1, path, **SETTINGS)
        small_one.load("good", 1, MODELS / "digits/1/model.onnx", **SETTINGS)


# ---- files at random -------------------------------------------------------------------------------------------------

DIGITS = MODELS / "digits/1/model.onnx"


def test_a_file_cut_off_anywhere(folder, trial):
    content = DIGITS.read_bytes()
    path = folder / "m.onnx"
    for length in sorted({*range(100), *np.linspace(0, len(content) - 1, 300, dtype=int).tolist()}):
        path.write_bytes(content[:length])
        with pytest.raises(InvalidModel):
            trial.load("m", 1, path, **SETTINGS)


def test_bytes_at_random(folder, trial):
    """Each file is refused or served; GRADSERVE_FLIPS says how many."""
    content = DIGITS.read_bytes()
    structure = np.ones(len(content), bool)
    for tensor in onnx.load_from_string(content).graph.initializer:
        start = content.find(tensor.raw_data)
        structure[start : start + len(tensor.raw_data)] = False
    places = np.flatnonzero(structure)
    path, served = folder / "m.onnx", 0
    count = int(os.environ.get("GRADSERVE_FLIPS", "1000"))
    for seed in range(count):
        random = np.random.default_rng(seed)
        changed = bytearray(content)
        for place in random.choice(places, random.integers(1, 4)):
            changed[place] = random.integers(256)
        path.write_bytes(changed)
        with suppress(InvalidModel):
            trial.load("m", 1, path, **SETTINGS)
            served += 1
    assert 0 < served < count
