"""The process that loads models first: what it is told, what it may say, and how it starts and ends."""

import subprocess
import sys
import threading
from multiprocessing import spawn
from pathlib import Path

import pytest
from support.malicious import small
from support.onnx_models import save
from support.paths import MODELS
from support.waiting import wait_for

from gradserve.errors import BackendMissing, InvalidModel, UnsupportedGradient
from gradserve_server import Engine, EngineConfig
from gradserve_server.runtime import trial as module
from gradserve_server.runtime.device import Device
from gradserve_server.runtime.trial import Trial, TrialLimits

LIMITS = TrialLimits(seconds=60, bytes=2**33)
WARM = "trial.warm_up = lambda *_: None\n"
"""What it does after it made one."""

SETTINGS = {"threads": 1, "device": Device.CPU, "max_plans": 1}


def acting(monkeypatch, *lines: str) -> None:
    """The process does something else than make a model, or examine it."""
    body = "".join(f"\n    {line}" for line in lines)
    act = f"import os, time\nfrom gradserve_server.runtime import trial\ndef act(**settings):{body}\n"
    start = module._START.removesuffix("main(int(fd))") + "main"
    monkeypatch.setattr(module, "_START", f"{start}\n{act}trial.Model = trial.examine = act\n{WARM}main(int(fd))")


@pytest.fixture
def path(tmp_path):
    return save(small(), tmp_path / "m.onnx")


def test_an_engine_with_trials_serves_what_one_without_does():
    with Engine(MODELS, config=EngineConfig(trial=True)) as tried, Engine(MODELS) as plain:
        assert [model.description for model in tried.versions] == [model.description for model in plain.versions]


def test_an_engine_in_process_trusts_its_files_and_a_server_does_not():
    assert EngineConfig().trial is False
    assert EngineConfig.__dataclass_fields__["trial"].metadata["served"] is True


@pytest.mark.parametrize("text", ['input [ { name: "other" data_type: TYPE_FP32 dims: [ 12 ] } ]', "max_batch_size: -1"])
def test_the_configuration_is_tried_too(tmp_path, text):
    save(small(), tmp_path / "m/1/model.onnx")
    (tmp_path / "m/config.pbtxt").write_text(text)
    with pytest.raises(InvalidModel) as here:
        Engine(tmp_path)
    with pytest.raises(InvalidModel) as there:
        Engine(tmp_path, config=EngineConfig(trial=True))
    assert str(there.value) == str(here.value)


def test_limits_reach_the_process(path):
    config = EngineConfig(trial=True, max_nodes=2)
    with pytest.raises(InvalidModel, match=r"^model file 'm\.onnx': expected at most 2 nodes"):
        Engine(path, config=config)


def test_warming_up_is_tried_too(tmp_path, monkeypatch):
    save(small(), tmp_path / "m/1/model.onnx")
    monkeypatch.setattr(
        sys.modules[__name__], "WARM", "trial.warm_up = lambda model, folder: folder.is_dir() and os.abort()\n"
    )
    acting(monkeypatch, "return None")
    with pytest.raises(InvalidModel, match=r"got a crash \(SIGABRT\) in a trial process$"):
        Engine(tmp_path, config=EngineConfig(trial=True))


def test_a_process_for_all_models_of_the_start_and_one_for_each_later_load(tmp_path, monkeypatch):
    started = []
    start = module._Process.__init__
    monkeypatch.setattr(module._Process, "__init__", lambda self: started.append(self) or start(self))
    for name in ("a", "b", "later"):
        save(small(), tmp_path / name / "1/model.onnx")
    config = EngineConfig(trial=True, model_control_mode="explicit", load_model=("a", "b"))
    with Engine(tmp_path, config=config) as engine:
        assert len(started) == 1
        engine.load("later")
        assert len(started) == 2
        assert all(process.died for process in started)


def test_one_process_for_all_models(path):
    with Trial(LIMITS) as trial:
        process = trial._process
        for _ in range(3):
            trial.load("m", 1, path, **SETTINGS)
        with pytest.raises(InvalidModel):
            trial.load("m", 1, path.parent, **SETTINGS)
        assert trial._process is process


def test_it_ends_with_the_trial(path):
    with Trial(LIMITS) as trial:
        trial.load("m", 1, path, **SETTINGS)
        child = trial._process._child
    assert child.poll() is not None


PARENT = """
import time
from gradserve_server.runtime.trial import Trial, TrialLimits
with Trial(TrialLimits(9, 2**33)) as trial:
    print(trial._process._child.pid, flush=True)
    time.sleep(60)
"""


def test_it_does_not_outlive_this_process():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
    wait_for(lambda: not Path(f"/proc/{child}").exists())


# ---- what it says ----------------------------------------------------------------------------------------------------


def test_errors_keep_their_class(monkeypatch, path):
    acting(monkeypatch, "from gradserve.errors import UnsupportedGradient", "raise UnsupportedGradient('no rule')")
    with Trial(LIMITS) as trial, pytest.raises(UnsupportedGradient, match="^no rule$"):
        trial.load("m", 1, path, **SETTINGS)


@pytest.mark.parametrize("kind", ["MemoryError", "RecursionError", "by_reason", "SystemError", "DOMAIN"])
def test_whatever_else_goes_wrong_is_the_models_fault(monkeypatch, path, kind):
    acting(monkeypatch, f"raise type('{kind}', (Exception,), {{}})('why')")
    expected = f"^model 'm': expected a file that loads, got {kind}: why$"
    with Trial(LIMITS) as trial, pytest.raises(InvalidModel, match=expected):
        trial.load("m", 1, path, **SETTINGS)


def test_long_errors_are_cut_off(monkeypatch, path):
    acting(monkeypatch, "from gradserve.errors import InvalidModel", "raise InvalidModel('x' * 10**7)")
    with Trial(LIMITS) as trial, pytest.raises(InvalidModel, match="^x{4096}$"):
        trial.load("m", 1, path, **SETTINGS)


SAYINGS = {
    "no JSON": ("b'{'", "nonsense"),
    "no text": ("b'\\xff\\xfe'", "nonsense"),
    "not an object": ("b'[1]'", "nonsense"),
    "too much": ("b' ' * 10**6 + b'{}'", "nonsense"),
    "a pickle": ("b'\\x80\\x04N.'", "nonsense"),
}


def saying(monkeypatch, said: str) -> None:
    """The process says something else."""
    find = (
        "__import__('gc').unfreeze() or next(o for o in __import__('gc').get_objects() if type(o).__name__ == 'Connection')"
    )
    acting(monkeypatch, f"({find}).send_bytes({said})", "time.sleep(60)")


@pytest.mark.parametrize(("said", "expected"), SAYINGS.values(), ids=SAYINGS)
def test_a_process_that_was_taken_over_says_nothing_else(monkeypatch, path, said, expected):
    saying(monkeypatch, said)
    with Trial(LIMITS) as trial, pytest.raises(InvalidModel, match=f"got {expected} in a trial process$"):
        trial.load("m", 1, path, **SETTINGS)


@pytest.mark.parametrize("said", ["{}", '{"result": 5}', '{"result": {}}', '{"result": {"findings": [1]}}', "[]"])
def test_what_is_no_diagnosis_is_none(monkeypatch, path, said):
    saying(monkeypatch, f"b'{said}'")
    with Trial(LIMITS) as trial, pytest.raises(InvalidModel, match="got nonsense in a trial process$"):
        trial.examine("m", 1, path, **SETTINGS)


def test_a_diagnosis_may_be_long(monkeypatch, path):
    acting(
        monkeypatch,
        "from gradserve.diagnosis import Diagnosis",
        "return Diagnosis('m', '1', '', 0, False, notes=('x' * 10**6,))",
    )
    with Trial(LIMITS) as trial:
        assert trial.examine("m", 1, path, **SETTINGS).notes == ("x" * 10**6,)


def test_what_it_prints_is_no_answer(monkeypatch, path, capfd):
    acting(monkeypatch, 'print(\'{"error": "InvalidModel"}\', flush=True)')
    with Trial(LIMITS) as trial:
        trial.load("m", 1, path, **SETTINGS)
    assert capfd.readouterr().out == ""


# ---- how it ends -----------------------------------------------------------------------------------------------------

ENDS = {
    "a segmentation fault": ("__import__('ctypes').string_at(0)", r"a crash \(SIGSEGV\)"),
    "an abort": ("os.abort()", r"a crash \(SIGABRT\)"),
    "the kernel's killer": ("os.kill(os.getpid(), 9)", r"killed \(SIGKILL: no memory left\?\)"),
    "an exit": ("os._exit(3)", r"an exit \(code 3\)"),
    "an exit without error": ("os._exit(0)", r"an exit \(code 0\)"),
}


@pytest.mark.parametrize(("end", "expected"), ENDS.values(), ids=ENDS)
def test_an_end_is_an_error_and_the_next_model_has_a_new_process(monkeypatch, path, end, expected):
    acting(monkeypatch, f"if settings['name'] == 'm': {end}")
    with Trial(LIMITS) as trial:
        trial.load("good", 1, path, **SETTINGS)
        with pytest.raises(
            InvalidModel, match=f"^model 'm': expected a file that loads, got {expected} in a trial process$"
        ):
            trial.load("m", 1, path, **SETTINGS)
        trial.load("good", 1, path, **SETTINGS)


def test_a_crash_that_an_earlier_model_left_behind_is_not_the_next_ones_fault(monkeypatch, path):
    acting(
        monkeypatch,
        "seen = globals().setdefault('seen', [])",
        "seen.append(settings['name'])",
        "if len(seen) == 2: os.abort()",
    )
    with Trial(LIMITS) as trial:
        for name in ("evil", "good", "better"):
            trial.load(name, 1, path, **SETTINGS)


# ---- how it starts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("executable", ["/nonexistent/python", "/bin/false"])
def test_an_interpreter_that_is_none(monkeypatch, path, executable):
    """As in an application that embeds Python."""
    monkeypatch.setattr(spawn, "get_executable", lambda: executable)
    expected = f"^trial process: expected '{executable}' to be a Python that imports gradserve_server, got "
    with pytest.raises(BackendMissing, match=expected), Trial(LIMITS) as trial:
        trial.load("m", 1, path, **SETTINGS)


def test_the_working_folder_is_not_where_it_imports_from(tmp_path, monkeypatch, path):
    (tmp_path / "onnx.py").write_text("raise SystemExit(7)")
    (tmp_path / "json.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    with Trial(LIMITS) as trial:
        trial.load("m", 1, path, **SETTINGS)


def test_from_a_thread_among_others(path):
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait) for _ in range(8)]
    for thread in threads:
        thread.start()
    with Trial(LIMITS) as trial:
        trial.load("m", 1, path, **SETTINGS)
    stop.set()
    for thread in threads:
        thread.join()
