"""What the command logs: one line for each call, and the request id wherever a call is worked on."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from support import golden
from support.paths import MODELS
from support.waiting import WAIT

import gradserve
from gradserve import errors
from gradserve import objectives as O

X = {"image": golden.digits()}
SECRET = "c2VjcmV0"


@pytest.fixture(params=["json", "text"])
def lines(request, tmp_path):
    """What a server logs of some calls, and in which format."""
    log = tmp_path / "log"
    arguments = ["--port", "0", "--no-metrics", "--log-level", "info", "--log-format", request.param]
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "gradserve_server", str(MODELS), *arguments],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=os.environ,
        )
        with process:
            address = next(line for line in process.stdout if line.startswith("listening on ")).split()[2]
            ask(address)
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT) == 0
    text = log.read_text()
    assert SECRET not in text
    return request.param, text.splitlines()


def ask(address):
    with gradserve.Client(address) as client, gradserve.metadata({"authorization": f"Basic {SECRET}"}):
        with gradserve.metadata({"x-request-id": "prediction"}):
            client.infer("digits", X)
        with gradserve.metadata({"x-request-id": "gradient"}):
            client.gradient("digits", X, O.unit("logits", 7))
        with gradserve.metadata({"x-request-id": "ascent"}):
            list(client.ascend("digits", O.unit("logits", 7), steps=3))
        with gradserve.metadata({"x-request-id": "mistake"}), pytest.raises(errors.InvalidTensor):
            client.infer("digits", {"image": np.zeros((1, 2), np.float32)})


def test_the_lines(lines):
    format_, text = lines
    if format_ == "json":
        _check_json([json.loads(line) for line in text])
    else:
        calls = [line for line in text if " gradserve_server.access: call rpc=/gradserve.v1.GradientService/" in line]
        assert [line.rpartition("request_id=")[2] for line in calls] == ["prediction", "gradient", "ascent", "mistake"]


def _check_json(lines):
    calls = {line["request_id"]: line for line in lines if line["logger"] == "gradserve_server.access"}
    assert list(calls) == ["prediction", "gradient", "ascent", "mistake"]
    told = {name: (line["rpc"].rpartition("/")[2], line["status"], line["model"]) for name, line in calls.items()}
    assert told == {
        "prediction": ("Infer", "OK", "digits"),
        "gradient": ("Gradient", "OK", "digits"),
        "ascent": ("Ascend", "OK", "digits"),
        "mistake": ("Infer", "INVALID_ARGUMENT", "digits"),
    }
    for name, line in calls.items():
        assert line["level"] == "INFO"
        assert line["duration_ms"] > line["queue_ms"] >= 0
        assert line["version"] == ("" if name == "mistake" else "1")
        assert line["peer"].startswith("ipv4:127.0.0.1:")
        assert (line["bytes_out"] > 0) == (line["status"] == "OK")
    assert calls["prediction"]["bytes_in"] > X["image"].nbytes
    assert calls["prediction"]["bytes_out"] > 4 * 10 * 4
    plans = [line for line in lines if ": plan for " in line["message"]]
    assert [line["request_id"] for line in plans] == ["gradient"]
    before = [line for line in lines if "inference form" in line["message"] or "rewrote" in line["message"]]
    assert before
    assert not any("request_id" in line for line in before)
