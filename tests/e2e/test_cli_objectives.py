"""Objectives as the command line writes them: sums, scales that change, terms by name; what is wrong with one is said."""

import json
import subprocess
import sys

import numpy as np
import pytest
from support import golden
from support.paths import MODELS

from gradserve import objectives as O


def command(*arguments):
    line = [sys.executable, "-m", "gradserve.cli", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, golden.digits()[:1])
    return f"image={path}"


def test_a_sum_with_a_penalty(engine, image, tmp_path):
    text = "2 * logits:7 - 0.01 * l2(0.5) + relu6"
    done = command("gradient", MODELS / "digits", "--objective", text, "--input", image, "-o", tmp_path / "g.npz", "--json")
    assert done.returncode == 0, done.stderr
    (sample,) = json.loads(done.stdout)["samples"]
    objective = 2 * O.unit("logits", 7) - 0.01 * O.l2(0.5) + O.layer("relu6")
    expected = engine.gradient("digits", {"image": golden.digits()[:1]}, objective)
    assert sample["value"] == pytest.approx(expected.values[0])
    np.testing.assert_array_equal(np.load(tmp_path / "g.npz")["gradients.image"], expected.gradients["image"])


def test_an_ascent_whose_images_differ(tmp_path):
    objective = "logits:7 - diversity(relu5) - 0.01..0.001 * total_variation()"
    settings = ("--count", "3", "--steps", "16", "--json")
    done = command("ascend", MODELS / "digits", "--objective", objective, *settings, "-o", tmp_path / "a.npy")
    assert done.returncode == 0, done.stderr
    images = json.loads(done.stdout)["images"]
    assert len(images) == 3
    assert all(image["value"] > image["first_value"] for image in images)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("l2(much)", "l2: expected numbers as `gradserve.objectives.l2` takes them, got 'much'"),
        ("total_variation()", "objective: expected at least one term on a layer beside those of the image, got none"),
        ("0..1 * logits:7", "objective, Unit: expected a scale that is a number outside an ascent, got Linear"),
        ("logits:7 - diversity(relu99)", "layer 'relu99': model 'digits' has no such layer"),
    ],
)
def test_what_is_wrong_is_said(image, tmp_path, text, message):
    done = command("gradient", MODELS / "digits", "--objective", text, "--input", image, "-o", tmp_path / "g.npz")
    assert done.returncode == 1
    assert message in done.stderr
