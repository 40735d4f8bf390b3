"""Options of `gradserve ascend` that decide where it may go, when it ends, and what is delivered."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.onnx_models import build, save
from support.paths import MODELS

import gradserve_server
from gradserve import Sgd, presets, records
from gradserve.cli import main
from gradserve.parameterizations import Laplacian


def ascend(model: str | Path, output: Path, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gradserve.cli", "ascend", model, "-o", output, *arguments]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def images(done: subprocess.CompletedProcess[str]) -> list[dict]:
    return json.loads(done.stdout)["images"]


def test_until_the_model_is_sure(tmp_path):
    arguments = (
        "--objective",
        "logits:1",
        "logits:7",
        "--until-probability",
        0.9,
        "--steps",
        200,
        "--json",
        "--keep",
        "best",
    )
    rows = images(ascend(MODELS / "digits", tmp_path / "a.png", *arguments))
    assert {row["stop_reason"] for row in rows} == {"reached"}
    assert all(row["steps"] < 200 for row in rows)
    (row,) = images(ascend(MODELS / "digits", tmp_path / "a.png", "--objective", "logits:7", "--stop-at", 3, "--json"))
    assert (row["stop_reason"], row["value"] >= 3) == ("reached", True)


def test_near_a_start(tmp_path):
    arguments = ("--objective", "logits:7", "--start", "constant:0.5", "--projection", "linf:0.125", "--random-start")
    ascend(MODELS / "digits", tmp_path / "a.npy", *arguments, "--steps", 20)
    offsets = np.abs(np.load(tmp_path / "a.npy") - 0.5)
    assert 0.12 < offsets.max() <= 0.125
    ascend(MODELS / "digits", tmp_path / "a.npy", "--objective", "logits:7", "--projection", "l3:1", code=2)


def test_bounds_from_files(tmp_path):
    np.save(tmp_path / "low.npy", np.linspace(0, 0.5, 28))
    arguments = ("--objective", "logits:7", "--bounds", tmp_path / "low.npy", 1, "--steps", 20)
    ascend(MODELS / "digits", tmp_path / "a.npy", *arguments)
    assert (np.load(tmp_path / "a.npy") >= np.float32(np.linspace(0, 0.5, 28))).all()


def test_a_transparent_picture_is_one(tmp_path):
    arguments = ("--objective", "logits:7", "--alpha", "--alpha-penalty", 3, "--parameterization", "fourier", "--steps", 60)
    ascend(MODELS / "digits", tmp_path / "a.png", *arguments)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "LA"
        opacity = np.asarray(picture)[..., 1]
    assert opacity.min() < 100 < opacity.max()


def test_images_share_what_they_are_told_to(tmp_path):
    arguments = ("--objective", "logits:7", "--count", 3, "--parameterization", "fourier", "--steps", 30, "--noise", 0)
    ascend(MODELS / "digits", tmp_path / "a.npy", *arguments, "--shared", "1/2", "3/4")
    shared = np.load(tmp_path / "a.npy")
    ascend(MODELS / "digits", tmp_path / "a.npy", *arguments)
    assert shared.shape == np.load(tmp_path / "a.npy").shape
    assert np.abs(shared - np.load(tmp_path / "a.npy")).max() > 0.1
    ascend(MODELS / "digits", tmp_path / "a.npy", *arguments, "--shared", "4/2", code=1)
    ascend(MODELS / "digits", tmp_path / "a.npy", *arguments, "--shared", "2", code=2)


def test_a_transparent_picture_in_every_kind_of_file(tmp_path):
    """Over white where a file has no alpha; nobody says what it is worth, which what is behind it decides."""
    arguments = ("--objective", "logits:7", "--alpha", "--steps", 4, "--image-every", 4, "--record", tmp_path / "run.json")
    files = [tmp_path / f"a.{ending}" for ending in ("jpg", "gif", "webp", "npz")]
    done = ascend(MODELS / "digits", tmp_path / "a.png", *files, *arguments)
    assert "8-bit" not in done.stderr
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["alphas_0"].shape == (2, 1, 28, 28)
        # Noise around half transparent over white: lighter than its pixels, which are grey.
        light = float((1 - arrays["alphas_0"][-1] * (1 - arrays["frames_0"][-1])).mean())
    with Image.open(tmp_path / "a.gif") as film:
        film.seek(1)
        assert np.asarray(film.convert("L")).mean() / 255 > 0.8 * light


def test_a_record_knows_the_alpha_of_images(tmp_path):
    path = tmp_path / "run.json"
    ascend(MODELS / "digits", tmp_path / "a.npz", "--objective", "logits:7", "--alpha", "--steps", 4, "--record", path)
    record = records.read(path)
    with gradserve_server.Engine(MODELS / "digits") as engine:
        (again,) = record.runs(engine.inspect("digits").input("image"))
        for step in engine.ascend("digits", again.objective, **again.settings):
            again.take(step)
    assert record.differences([again]) == []
    with np.load(tmp_path / "a.npz") as arrays:
        np.testing.assert_array_equal(arrays["alphas_0"][-1], again.alpha)
    again.alpha[0, 0, 0] += 0.5
    assert record.differences([again]) == ["logits:7"]


def recorded(tmp_path, *arguments):
    ascend(MODELS / "digits", tmp_path / "a.npy", "--objective", "logits:7", *arguments, "--record", tmp_path / "run.json")
    (run,) = records.read(tmp_path / "run.json").runs()
    return run.settings


def test_options_beside_a_preset_go_before_it(tmp_path):
    preset = presets.lucid(28, channels=1)
    bare = ("--preset", "lucid", "--redirect-relu-steps", 0, "--steps", 1)
    settings = recorded(tmp_path, *bare)
    assert (settings["optimizer"], settings["start"]) == (preset["optimizer"], preset["start"])
    assert "redirect_relu_steps" not in settings
    assert recorded(tmp_path, *bare, "--learning-rate", 0.1)["optimizer"] == replace(preset["optimizer"], learning_rate=0.1)
    others = ("--optimizer", "sgd", "--start", "constant:0.5", "--parameterization", "laplacian")
    settings = recorded(tmp_path, *bare, *others)
    assert (settings["optimizer"], settings["start"]) == (Sgd(0.05), 0.5)
    assert isinstance(settings["parameterization"], Laplacian)
    assert settings["transforms"] == preset["transforms"]


@pytest.mark.parametrize(("option", "other"), [(("--random-start",), "--projection"), (("--alpha-penalty", 3), "--alpha")])
def test_what_belongs_to_another_option_says_so(tmp_path, option, other):
    done = ascend(MODELS / "digits", tmp_path / "a.npy", "--objective", "logits:7", *option, code=2)
    assert f"{option[0]}: expected {other} beside it, got none" in done.stderr


@pytest.fixture
def dead_model(tmp_path):
    weights = {"w": np.ones((4, 2), np.float32), "b": np.float32([-9, 0])}
    body = "f = MatMul(x, w) g = Add(f, b) y = Relu(g)"
    return save(build(body, inputs="float[N,4] x", outputs="float[N,2] y", weights=weights), tmp_path / "dead.onnx")


def test_a_dead_unit_says_so_and_redirecting_wakes_it(dead_model, tmp_path):
    arguments = ("--objective", "y:0", "--optimizer", "sgd", "--learning-rate", 0.2, "--steps", 40, "--json")
    done = ascend(dead_model, tmp_path / "a.npy", *arguments)
    assert images(done)[0]["stop_reason"] == "dead"
    assert "dead" in done.stderr
    assert "--redirect-relu-steps" in done.stderr
    assert done.stderr.count("dead, not grey") == 1
    (row,) = images(ascend(dead_model, tmp_path / "a.npy", *arguments, "--redirect-relu-steps", 17))
    assert (row["stop_reason"], row["value"] > 0) == ("finished", True)


def test_which_of_several_images_are_dead_is_said(dead_model, tmp_path):
    """Noise of one image is above the bias, that of others below."""
    arguments = ("--objective", "y:0", "--noise", 3, "--bounds", -20, 20, "--count", 6, "--steps", 3, "--json")
    done = ascend(dead_model, tmp_path / "a.npy", *arguments)
    reasons = [row["stop_reason"] for row in images(done)]
    assert set(reasons) == {"dead", "finished"}
    numbers = "".join(f" #{n}" for n, reason in enumerate(reasons) if reason == "dead")
    assert f"y:0{numbers}: stopped at step 3: no gradient but zero" in done.stderr


@pytest.fixture
def signal_model(tmp_path):
    weights = {"w": np.ones((1, 2, 3), np.float32)}
    model = build("y = Conv(x, w)", inputs="float[N,2,8] x", outputs="float[N,1,6] y", weights=weights)
    return save(model, tmp_path / "signal.onnx")


DESCRIBED = ("--describe", "x.range=0 1", "x.mean=0.1 0.2")


def test_the_mean_of_a_signal_is_a_start(signal_model, tmp_path):
    arguments = ("--objective", "y:0", "--start", "mean", "--optimizer", "sgd", "--learning-rate", 1e-30, "--steps", 1)
    ascend(signal_model, tmp_path / "a.npy", *arguments, *DESCRIBED)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.float32([[[0.1] * 8, [0.2] * 8]]))


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("ascend", ["--objective", "y:0", "--start"]),
        ("dream", ["--objective", "y", "--octaves", "1", "--image"]),
        ("invert", ["--layers", "y", "--image"]),
    ],
)
def test_a_photograph_for_an_input_that_takes_none(signal_model, tmp_path, capsys, command, arguments):
    Image.new("L", (8, 8)).save(tmp_path / "photo.png")
    files = [str(tmp_path / "photo.png"), "-o", str(tmp_path / "a.npy")]
    assert main([command, str(signal_model), *DESCRIBED, *arguments, *files]) == 1
    assert "input 'x': expected one that takes images, [N,C,H,W] or [N,H,W,C], got ['N', 2, 8]" in capsys.readouterr().err
