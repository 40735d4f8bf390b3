"""What `gradserve ascend -o` writes, by the ending of the file."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support.paths import MODELS

from gradserve import images, outputs
from gradserve.cli import main
from gradserve.runs import Run

DIGITS = str(MODELS / "digits")
CHECKED = {".png", ".webp", ".jpg", ".jpeg", ".gif", ".mp4", ".npy", ".npz", ".csv", ".svg", ".pdf"}


def test_every_ending_is_checked_here():
    assert set(outputs.ENDINGS) == CHECKED


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two objectives, two images each, one of every file."""
    made = tmp_path_factory.mktemp("out")
    files = [str(made / f"a{ending}") for ending in sorted(CHECKED)]
    common = ["ascend", DIGITS, "--objective", "logits:7", "relu3:4", "--count", "2", "--steps", "12"]
    assert main([*common, "--image-every", "4", "-o", *files, "--record", str(made / "run.json")]) == 0
    return made


def frames_of(path):
    with Image.open(path) as opened:
        return getattr(opened, "n_frames", 1)


def size_of(path):
    with Image.open(path) as opened:
        return opened.size


@pytest.mark.parametrize("ending", [".png", ".jpg", ".jpeg"])
def test_a_picture_of_several_is_a_sheet_with_all_frames(folder, ending):
    """Four images at the steps 0, 4, 8 and 12."""
    width, height = size_of(folder / f"a{ending}")
    tile = images.VIEW_SIZE // 28 * 28
    assert (width // tile, height // tile) == (4, 4)


@pytest.mark.parametrize("ending", [".gif", ".webp"])
def test_an_animation_has_every_frame(folder, ending):
    with Image.open(folder / f"a{ending}") as film:
        assert film.n_frames == 4
        film.seek(0)
        first = np.asarray(film.convert("L"))
        film.seek(3)
        last = np.asarray(film.convert("L"))
        assert film.info["duration"] == 2000
    assert np.abs(first.astype(int) - last).max() > 50


def test_an_mp4_can_be_read(folder):
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    command = [ffmpeg, "-i", folder / "a.mp4", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert b"Video: h264" in done.stderr
    with Image.open(folder / "a.gif") as film:
        film.seek(3)
        expected = np.asarray(film.convert("RGB")).astype(int)
    height, width = expected.shape[:2]
    levels = np.frombuffer(done.stdout, np.uint8).reshape(4 + 24, height + height % 2, width + width % 2, 3)
    assert np.abs(levels[-1, :height, :width] - expected).mean() < 4
    assert np.abs(levels[0, :height, :width] - expected).mean() > 10


def test_arrays_hold_what_was_reported(folder):
    record = json.loads((folder / "run.json").read_text())
    values, norms = ([one for ascent in record["ascents"] for one in ascent[key]] for key in ("values", "gradient_norms"))
    pixels = np.load(folder / "a.npy")
    assert (pixels.shape, pixels.dtype) == ((4, 1, 28, 28), np.float32)
    with np.load(folder / "a.npz") as arrays:
        np.testing.assert_array_equal(arrays["images"], pixels)
        np.testing.assert_array_equal(arrays["values"], values)
        np.testing.assert_array_equal(arrays["gradient_norms"], norms)
        assert arrays["names"].tolist() == ["logits:7", "logits:7", "relu3:4", "relu3:4"]
        np.testing.assert_array_equal(arrays["frame_steps_1"], [0, 4, 8, 12])
        np.testing.assert_array_equal(arrays["frames_1"][-1], pixels[2:])
        assert arrays["values_0"].shape == (13, 2)


def test_a_csv_has_a_line_for_each_report_and_image(folder):
    with (folder / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 13
    record = json.loads((folder / "run.json").read_text())
    assert float(rows[-1]["value"]) == record["ascents"][1]["values"][1]
    assert (rows[0]["objective"], rows[0]["image"], rows[0]["step"]) == ("logits:7", "0", "0")


def test_a_plot_names_its_lines(folder):
    text = (folder / "a.svg").read_text()
    assert "<!-- logits:7 (7) #0 -->" in text
    assert "<!-- relu3:4 #1 -->" in text
    assert (folder / "a.pdf").read_bytes().startswith(b"%PDF")


def test_a_film_has_frames_without_being_asked_for_them(tmp_path):
    arguments = ["ascend", DIGITS, "--objective", "logits:7", "--steps", "96"]
    assert main([*arguments, "-o", str(tmp_path / "a.gif"), str(tmp_path / "a.png")]) == 0
    assert frames_of(tmp_path / "a.gif") > 30
    assert size_of(tmp_path / "a.png") == (224, 224), "a picture is the last one"


@pytest.mark.parametrize(("ending", "module", "extra"), [("mp4", "imageio_ffmpeg", "video"), ("svg", "matplotlib", "plots")])
def test_a_library_that_is_missing_is_named_before_anything_runs(tmp_path, capsys, monkeypatch, ending, module, extra):
    for name in [name for name in sys.modules if name == module or name.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    arguments = ["ascend", DIGITS, "--objective", "logits:7", "--steps", "100000000"]
    assert main([*arguments, "-o", str(tmp_path / f"a.{ending}")]) == 1
    assert f'pip install "gradserve[{extra}]"' in capsys.readouterr().err


def test_an_unknown_ending_is_wrong_usage(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["ascend", DIGITS, "--objective", "logits:7", "-o", str(tmp_path / "a.bmp")])
    assert "expected a file name that ends in" in capsys.readouterr().err


def test_a_run_shows_itself_in_a_notebook(engine):
    description = engine.inspect("digits")
    from gradserve import objectives as O

    run = Run("logits:7", O.unit("logits", 7), description.input("image"))
    assert run._repr_png_() is None
    for step in engine.ascend("digits", run.objective, steps=3, count=2):
        run.take(step)
    assert run._repr_png_().startswith(b"\x89PNG")
    assert run.picture(1).size == (28, 28)
