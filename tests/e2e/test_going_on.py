"""The command, where an ascent is interrupted and goes on; and `gradserve ready`."""

import signal
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.paths import MODELS
from support.waiting import WAIT, wait_for

from gradserve import Checkpoint
from gradserve import objectives as O
from gradserve.cli import main
from gradserve_server import ServerConfig
from gradserve_server.rpc.app import Server

DIGITS = str(MODELS / "digits")
COMMAND = ["ascend", DIGITS, "--objective", "logits:7"]
ENDLESS = "1000000"


@pytest.fixture
def threads():
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture
def ascend(tmp_path):
    """Runs `gradserve ascend` in this process; returns the exit code."""

    def run(model, *arguments, objectives=("logits:7",), output="out.npy", server=None):
        where = ["--server", server] if server else []
        options = ["--jitter", "2", "--objective", *objectives, "-o", str(tmp_path / output), *map(str, arguments)]
        return main(["ascend", model, *where, *options])

    return run


def pixels(tmp_path, name="out.npy"):
    return np.load(tmp_path / name)


# ---- on purpose ------------------------------------------------------------------------------------------------------


def test_a_longer_ascent_goes_on_from_a_shorter_one(ascend, tmp_path):
    objectives = ("logits:7", "relu5:4", "logits:7")
    file = tmp_path / "kept.ckpt"
    assert ascend(DIGITS, "--steps", 60, objectives=objectives, output="whole.npy") == 0
    assert ascend(DIGITS, "--steps", 20, "--checkpoint", file, objectives=objectives) == 0
    with zipfile.ZipFile(file) as archive:
        assert {name: Checkpoint.from_bytes(archive.read(name)).index for name in archive.namelist()} == {
            "logits:7": 20,
            "relu5:4": 20,
        }
    assert ascend(DIGITS, "--steps", 60, "--resume", file, objectives=objectives) == 0
    np.testing.assert_array_equal(pixels(tmp_path), pixels(tmp_path, "whole.npy"))
    # ... and the file has gone on with it.
    with zipfile.ZipFile(file) as archive:
        assert Checkpoint.from_bytes(archive.read("logits:7")).index == 60
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.ckpt", "out.npy", "whole.npy"]


def test_an_objective_that_was_not_there_begins(ascend, tmp_path):
    file = tmp_path / "kept.ckpt"
    assert ascend(DIGITS, "--steps", 5, "--checkpoint", file) == 0
    assert ascend(DIGITS, "--steps", 5, "--resume", file, objectives=("logits:7", "logits:1")) == 0
    assert ascend(DIGITS, "--steps", 5, objectives=("logits:7", "logits:1"), output="whole.npy") == 0
    np.testing.assert_array_equal(pixels(tmp_path), pixels(tmp_path, "whole.npy"))


def test_other_options_are_refused_by_name(ascend, tmp_path, capsys):
    file = tmp_path / "kept.ckpt"
    assert ascend(DIGITS, "--steps", 5, "--checkpoint", file) == 0
    assert ascend(DIGITS, "--steps", 5, "--resume", file, "--seed", "4") == 1
    assert "but seed was 0, is 4" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"garbage"])
def test_another_file_is_refused(ascend, tmp_path, content, capsys):
    (tmp_path / "kept.ckpt").write_bytes(content)
    code = ascend(DIGITS, "--steps", 5, "--resume", tmp_path / "kept.ckpt")
    assert code == 1
    assert "expected a file that --checkpoint has written" in capsys.readouterr().err


def test_no_file(ascend, tmp_path, capsys):
    assert ascend(DIGITS, "--resume", tmp_path / "nowhere.ckpt") == 1
    assert "nowhere.ckpt" in capsys.readouterr().err


# ---- by a server that stops ------------------------------------------------------------------------------------------


def test_a_server_that_stops_leaves_a_checkpoint(engine, ascend, tmp_path, threads, capsys):
    with Server(engine, ServerConfig(port=0, drain_seconds=0.5)) as server:
        command = threads.submit(ascend, "digits", "--steps", ENDLESS, server=server.address)
        wait_for(lambda: server.running_ascents == 1)
    assert command.result(WAIT) == 3
    said = capsys.readouterr()
    assert "the server shuts down" in said.err
    assert f"give the same command with --resume {tmp_path / 'out.checkpoint'}" in said.err
    assert "interrupted" in said.out
    with zipfile.ZipFile(tmp_path / "out.checkpoint") as archive:
        index = Checkpoint.from_bytes(archive.read("logits:7")).index
    with Server(engine, ServerConfig(port=0)) as server:
        goes_on = ["--steps", index + 3, "--resume", tmp_path / "out.checkpoint"]
        assert ascend("digits", *goes_on, server=server.address) == 0
    *_, expected = engine.ascend("digits", O.unit("logits", 7), steps=index + 3, jitter=2)
    np.testing.assert_array_equal(pixels(tmp_path), expected.image)


def test_reconnecting(engine, ascend, tmp_path, threads):
    config = {"drain_seconds": 0.5}
    steps = 3000
    with Server(engine, ServerConfig(port=0, **config)) as server:
        port = server.port
        options = ["--steps", steps, "--report-every", 10, "--reconnect", "60"]
        command = threads.submit(ascend, "digits", *options, server=server.address)
        wait_for(lambda: server.running_ascents == 1)
    assert not command.done()
    with Server(engine, ServerConfig(port=port, drain_seconds=60)):
        assert command.result(3 * WAIT) == 0
    *_, expected = engine.ascend("digits", O.unit("logits", 7), steps=steps, jitter=2, report_every=steps)
    np.testing.assert_array_equal(pixels(tmp_path), expected.image)


def test_nobody_comes_back(engine, ascend, threads):
    with Server(engine, ServerConfig(port=0, drain_seconds=0.5)) as server:
        command = threads.submit(ascend, "digits", "--steps", ENDLESS, "--reconnect", "1", server=server.address)
        wait_for(lambda: server.running_ascents == 1)
    assert command.result(WAIT) == 3


def test_interrupting_the_command_says_how_to_go_on(tmp_path):
    file = tmp_path / "kept.ckpt"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "gradserve.cli",
                *COMMAND,
                "--steps",
                ENDLESS,
                "-o",
                str(tmp_path / "a.png"),
                f"--checkpoint={file}",
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    killer = threading.Timer(4 * WAIT, process.kill)
    killer.start()
    wait_for(file.exists, 3 * WAIT)  # a process starts
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    killer.cancel()
    assert process.returncode == 130
    assert err.splitlines()[-2:] == [
        f"gradserve: to go on, give the same command with --resume {file}",
        "gradserve: interrupted",
    ]
    with zipfile.ZipFile(file) as archive:
        index = Checkpoint.from_bytes(archive.read("logits:7")).index
    assert main([*COMMAND, "--steps", str(index + 1), "-o", str(tmp_path / "a.png"), "--resume", str(file)]) == 0


# ---- ready -----------------------------------------------------------------------------------------------------------


def ready(server, *arguments):
    return main(["ready", "--server", server.address, *arguments])


def test_ready(server):
    assert ready(server) == 0
    assert ready(server, "digits") == 0
    assert ready(server, "digits/1") == 0


def test_no_such_model_is_ready(server, capsys):
    assert ready(server, "huge") == 1
    assert f"the server at {server.address} has no model 'huge'" in capsys.readouterr().err


def test_not_ready_while_it_stops(engine, threads):
    with Server(engine, ServerConfig(port=0, drain_delay_seconds=2)) as server:
        threads.submit(server.stop)
        wait_for(lambda: ready(server) == 1)


def test_waiting_for_a_server(engine, threads):
    with Server(engine, ServerConfig(port=0)) as server:
        pass
    assert ready(server) == 3
    assert ready(server, "--wait", "0.1") == 3
    waits = threads.submit(ready, server, "--wait", "60")
    with Server(engine, ServerConfig(port=server.port)):
        assert waits.result(3 * WAIT) == 0
