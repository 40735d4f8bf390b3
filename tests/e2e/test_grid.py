"""`gradserve grid`: layers and channels as one picture, their ascents as batches."""

import json

import numpy as np
import pytest
from PIL import Image
from support.paths import MODELS

from gradserve import objectives as O
from gradserve.cli import main
from gradserve.runs import Run
from gradserve_server import Engine, EngineConfig, ServerConfig
from gradserve_server.rpc.app import Server
from gradserve_server.runtime import events

DIGITS = str(MODELS / "digits")
TILE = 224
GAP = 12


def size_of(path):
    with Image.open(path) as opened:
        return opened.size


def images_of(capsys):
    return json.loads(capsys.readouterr().out)["images"]


def test_every_convolution_and_its_first_ten_channels_by_default(tmp_path, capsys, engine):
    assert main(["grid", DIGITS, "--steps", "2", "--json", "-o", str(tmp_path / "a.png")]) == 0
    convolutions = [layer.name for layer in engine.layers("digits") if layer.op == "Conv"]
    assert [image["objective"] for image in images_of(capsys)] == [f"{name}:{c}" for name in convolutions for c in range(10)]
    width, height = size_of(tmp_path / "a.png")
    assert width == 10 * (TILE + GAP) + GAP
    assert height == len(convolutions) * (TILE + GAP + 2 * 17) + GAP


def test_lines_may_differ_in_length_and_order_is_as_asked(tmp_path, capsys):
    layers = ["--layers", "relu5", "logits", "relu1", "--channels", "3", "8-11"]
    assert main(["grid", DIGITS, *layers, "--steps", "1", "--json", "-o", str(tmp_path / "a.png")]) == 0
    asked = {"relu5": [3, 8, 9, 10, 11], "logits": [3, 8, 9], "relu1": [3, 8, 9, 10, 11]}
    assert [image["objective"] for image in images_of(capsys)] == [f"{name}:{c}" for name, cs in asked.items() for c in cs]
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.width == 5 * (TILE + GAP) + GAP
        line = GAP + TILE + GAP + 2 * 17
        gap = np.asarray(sheet.crop((GAP + 3 * (TILE + GAP), line, sheet.width, line + TILE)))
    assert (gap == 255).all(), "logits has no channels 10 and 11"


@pytest.mark.parametrize(
    ("kind", "text"), [("channel", "relu3:4"), ("channel_energy", "relu3:4^2"), ("neuron", "relu3:4@7,7")]
)
def test_a_tile_is_what_ascend_makes_of_the_same_objective(tmp_path, capsys, engine, kind, text):
    shape = next(layer.shape for layer in engine.layers("digits") if layer.name == "relu3")
    text = text.replace("7,7", f"{shape[2] // 2},{shape[3] // 2}")
    settings = ["--steps", "4", "--seed", "3", "--json"]
    one = ["--layers", "relu3", "--channels", "4", "--objective-kind", kind]
    assert main(["grid", DIGITS, *one, *settings, "-o", str(tmp_path / "a.npy")]) == 0
    (tile,) = images_of(capsys)
    assert main(["ascend", DIGITS, "--objective", text, *settings, "-o", str(tmp_path / "b.npy")]) == 0
    (image,) = images_of(capsys)
    assert tile["value"] == image["value"]
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_the_ascents_on_a_layer_run_as_batches_on_the_server(tmp_path):
    seen: list[events.Event] = []
    with (
        Engine(MODELS, config=EngineConfig(load_model=("digits",)), observe=seen.append) as engine,
        Server(engine, ServerConfig(port=0, drain_seconds=2)) as server,
    ):
        arguments = ["--layers", "relu5", "--channels", "0-7", "--steps", "200", "--server", server.address]
        assert main(["grid", "digits", *arguments, "-o", str(tmp_path / "a.npy")]) == 0
    batches = [event.samples for event in seen if isinstance(event, events.Run)]
    assert sum(batches) >= 8 * 201
    assert np.average(batches, weights=batches) > 2, "a step shares its run with another or more, on average"


def test_it_goes_on_where_it_was(tmp_path):
    common = ["grid", DIGITS, "--layers", "relu1", "relu5", "--channels", "0-2"]
    assert main([*common, "--steps", "12", "-o", str(tmp_path / "whole.npy")]) == 0
    kept = str(tmp_path / "grid.ckpt")
    assert main([*common, "--steps", "5", "--checkpoint", kept, "-o", str(tmp_path / "a.npy")]) == 0
    assert main([*common, "--steps", "12", "--resume", kept, "-o", str(tmp_path / "b.npy")]) == 0
    assert (tmp_path / "b.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_its_record_repeats_it_as_the_same_picture(tmp_path):
    files = ["-o", str(tmp_path / "a.png"), "--record", str(tmp_path / "grid.json")]
    assert main(["grid", DIGITS, "--layers", "relu1", "logits", "--channels", "8-11", "--steps", "3", *files]) == 0
    again = ["--from-record", str(tmp_path / "grid.json"), "-o", str(tmp_path / "b.png")]
    assert main(["ascend", *again]) == 0
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "a.png").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--layers", "relu99"], "layer 'relu99': expected one of"),
        (["--op", "Sin"], "--op: expected an operator that makes layers, one of Conv, Relu"),
        (["--layers", "relu1", "--channels", "1000"], "layer 'relu1': --channels: expected some below 24, got none"),
    ],
)
def test_what_is_not_there_is_1(tmp_path, capsys, arguments, complaint):
    assert main(["grid", DIGITS, *arguments, "-o", str(tmp_path / "a.png")]) == 1
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("channels", ["x", "3-1", "-1", "1-"])
def test_channels_are_numbers_or_ranges(tmp_path, channels):
    with pytest.raises(SystemExit, match="2"):
        main(["grid", DIGITS, f"--channels={channels}", "-o", str(tmp_path / "a.png")])


def test_a_dead_channel_is_called_dead(engine):
    """Its gradient is 0 from the first step to the last, so its picture is that of the start."""
    description = engine.inspect("digits").input("image")
    captions = {}
    for channel in range(10):
        run = Run(f"relu1:{channel}", O.channel("relu1", channel), description)
        for step in engine.ascend("digits", run.objective, steps=2):
            run.take(step)
        assert run.is_dead(0) == (run.history[0].gradient_norm == run.history[-1].gradient_norm == 0)
        captions[channel] = run.tile(0)[1]
    assert {caption.endswith(" dead") for caption in captions.values()} == {True, False}
