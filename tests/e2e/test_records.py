"""`gradserve ascend --record` and `--from-record`: the same bytes again, or a reason why not."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from support.paths import MODELS

import gradserve
from gradserve import Noise, records
from gradserve import objectives as O
from gradserve import transforms as T
from gradserve.cli import main
from gradserve.errors import InvalidAscent
from gradserve.numbers import Linear, Uniform
from gradserve.optimizers import Adam
from gradserve.parameterizations import Phases, magnitude_of
from gradserve.runs import Run

DIGITS = MODELS / "digits"
SETTINGS = ["--steps", "6", "--jitter", "2", "--count", "2", "--seed", "18446744073709551615", "--weight-decay", "0.01"]


def record(folder: Path, *arguments: str) -> Path:
    path = folder / "run.json"
    assert main(["ascend", *arguments, "--record", str(path), "-o", str(folder / "a.npy")]) == 0
    return path


@pytest.mark.parametrize("preset", [[], ["--preset", "lucid"], ["--parameterization", "laplacian", "--optimizer", "nadam"]])
def test_it_is_repeated_to_the_same_bytes(tmp_path, capsys, server, preset):
    path = record(tmp_path, str(DIGITS), "--objective", "logits:7", "relu5:4^2", *SETTINGS, *preset)
    for again in ([], [str(DIGITS)], ["digits", "--server", server.address]):
        assert main(["ascend", *again, "--from-record", str(path), "-o", str(tmp_path / "b.npy")]) == 0
        assert "the same bytes as recorded" in capsys.readouterr().err
        assert (tmp_path / "b.npy").read_bytes() == (tmp_path / "a.npy").read_bytes()


def test_it_holds_every_setting_the_model_and_the_values(tmp_path, capsys):
    path = record(tmp_path, str(DIGITS), "--objective", "logits:7", "--steps", "3", "--json")
    (made,) = json.loads(capsys.readouterr().out)["images"]
    content = json.loads(path.read_text())
    assert content["gradserve"] == gradserve.__version__
    assert content["model"]["sha256"] in main_out(capsys, "inspect", str(DIGITS))
    assert content["model"]["image"]["mean"] == [0.2268]
    (ascent,) = content["ascents"]
    request = ascent["request"]
    assert request["optimizer"]["adam"]["learning_rate"] == {"constant": 0.05}
    assert request["start"] == {"noise": {"standard_deviation": 0.01}}
    assert request["bounds"] == {"low": 0.0, "high": 1.0}
    assert request["objective"]["terms"][0]["layer"] == "logits"
    assert {"seed", "jitter", "count", "weight_decay", "gradient_normalization", "parameterization"} <= request.keys()
    assert (ascent["label"], ascent["values"]) == ("7", [made["value"]])
    assert [row[0] for row in ascent["history"]] == [0, 1, 2, 3]


def main_out(capsys, *arguments: str) -> str:
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def test_arrays_are_in_the_file(tmp_path):
    """A start image, a cotangent, a magnitude: nothing lies beside the record."""
    numbers = np.random.default_rng(1)
    pixels = numbers.uniform(0, 1, (5, 1, 28, 28))
    Image.fromarray(numbers.integers(0, 256, (28, 28), np.uint8)).save(tmp_path / "start.png")
    path = record(tmp_path, str(DIGITS), "--objective", "logits:7", "--start", str(tmp_path / "start.png"), "--steps", "2")
    (tmp_path / "start.png").unlink()
    assert main(["ascend", "--from-record", str(path), "-o", str(tmp_path / "b.npy")]) == 0
    assert (tmp_path / "b.npy").read_bytes() == (tmp_path / "a.npy").read_bytes()

    settings = gradserve.AscentSettings(
        steps=4,
        start=Noise(0.5),
        parameterization=Phases(magnitude_of(pixels, ()), colours=()),
        transforms=[T.Jitter(2), T.Scale(Uniform(0.9, 1.1)), T.Blur(0.5), T.Noisy(0.01)],
        optimizer=Adam(Linear(0.1, 0.01)),
        seed=3,
    )
    cotangent = O.cotangent("logits", numbers.standard_normal((1, 10))) - 0.1 * O.channel("relu3", 4)
    with gradserve_engine() as engine:
        description = engine.inspect("digits")
        first = Run("mixed", cotangent, description.input("image"), settings)
        for step in engine.ascend("digits", cotangent, **settings):
            first.take(step)
        records.write(tmp_path / "api.json", records.make(description, [first]))
        read = records.read(tmp_path / "api.json").check(description)
        (second,) = read.runs(description.input("image"))
        for step in engine.ascend("digits", second.objective, **second.settings):
            second.take(step)
    assert second.pixels.tobytes() == first.pixels.tobytes()
    assert [step.value for step in second.history] == [step.value for step in first.history]
    assert read.differences([second]) == []
    second.frames[-1].image[0] += 1
    assert read.differences([second]) == ["mixed"]


def gradserve_engine():
    from gradserve_server import Engine

    return Engine(MODELS)


def other_model(folder: Path, change) -> Path:
    shutil.copytree(DIGITS, folder / "digits")
    change(folder / "digits")
    return folder / "digits"


def other_weights(folder: Path) -> None:
    model = onnx.load(folder / "1" / "model.onnx")
    kernel = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    kernel.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(kernel), kernel.name))
    onnx.save(model, folder / "1" / "model.onnx")


def other_description(folder: Path) -> None:
    config = folder / "config.pbtxt"
    config.write_text(config.read_text().replace("0.2268", "0.5"))


@pytest.mark.parametrize(("change", "what"), [(other_weights, "sha256"), (other_description, "image")])
def test_another_model_is_refused_unless_any_is_welcome(tmp_path, capsys, change, what):
    path = record(tmp_path, str(DIGITS), "--objective", "logits:7", "--steps", "2")
    other = other_model(tmp_path, change)
    capsys.readouterr()
    arguments = ["ascend", str(other), "--from-record", str(path), "-o", str(tmp_path / "b.npy")]
    assert main(arguments) == 1
    assert f"record: model 'digits': expected {what} " in capsys.readouterr().err
    assert not (tmp_path / "b.npy").exists()
    assert main([*arguments, "--any-model"]) == 0
    assert "logits:7: other images than recorded" in capsys.readouterr().err
    assert (tmp_path / "b.npy").read_bytes() != (tmp_path / "a.npy").read_bytes()


def test_other_images_than_recorded_are_an_error(tmp_path, capsys):
    path = record(tmp_path, str(DIGITS), "--objective", "logits:7", "--steps", "2")
    content = json.loads(path.read_text())
    content["ascents"][0]["request"]["seed"] = "1"
    path.write_text(json.dumps(content))
    assert main(["ascend", "--from-record", str(path), "-o", str(tmp_path / "b.npy")]) == 1
    assert "logits:7: expected the images of the record, got others" in capsys.readouterr().err


def test_settings_are_given_once(tmp_path, capsys):
    path = record(tmp_path, str(DIGITS), "--objective", "logits:7", "--steps", "2")
    with pytest.raises(SystemExit, match="2"):
        main(["ascend", "--from-record", str(path), "--steps", "9", "-o", str(tmp_path / "b.npy")])
    assert "--from-record: expected no other settings beside it, got --steps" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"format": 99, "model": {"sha256": "a"}, "ascents": [1]}', '{"format": 1, "model": {}}'],
)
def test_what_is_no_record_is_refused(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(InvalidAscent, match="expected a record"):
        records.read(tmp_path / "run.json")


def test_a_record_of_a_newer_version_says_so(tmp_path):
    path = record(tmp_path, str(DIGITS), "--objective", "logits:7", "--steps", "2")
    content = json.loads(path.read_text())
    content["ascents"][0]["request"]["telepathy"] = True
    path.write_text(json.dumps(content))
    with pytest.raises(InvalidAscent, match="expected ascents that gradserve .* knows, got .*telepathy"):
        records.read(path).runs()
