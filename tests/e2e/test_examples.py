"""The scripts of `examples/` do what docs/scenarios.md and docs/imagined.md say of them."""

import importlib
import subprocess
import sys

import numpy as np
import pytest
from support.paths import ROOT

from gradserve_server import Engine

EXAMPLES = ROOT / "examples"


def run(script, folder):
    """A script as a user runs it; what it printed."""
    command = [sys.executable, str(EXAMPLES / script), "--output", str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return done.stdout


def is_picture(path):
    return path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.torch
def test_scenario_a_ours_stay_and_theirs_do_not(tmp_path):
    printed = run("scenario_a_polluted.py", tmp_path)
    assert "0.299850" in printed
    assert "0.284447" in printed
    assert "0.379263" in printed
    assert "98.1% -> 98.1%" in printed
    assert is_picture(tmp_path / "scenario_a.png")


def test_scenario_b_is_found_and_repaired(tmp_path):
    rows = [line.split("│")[1:-1] for line in run("scenario_b_two_forms.py", tmp_path).splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row[2:]] for row in rows] == [
        ["batchnorm-statistics-conflict", "98.1%"],
        ["batchnorm-statistics-conflict", "98.1%"],
        ["batchnorm-training-form", "98.1%"],
    ]
    assert float(rows[0][1].strip().rstrip("%")) < 60
    assert is_picture(tmp_path / "scenario_b.png")


@pytest.mark.torch
def test_scenario_c_a_bar_is_a_seven(tmp_path):
    lines = [line.split() for line in run("scenario_c_two_digits.py", tmp_path).splitlines()]
    seven = {" ".join(words[:-4]): float(words[-1]) for words in lines if len(words) > 4 and words[-2] == "seven"}
    assert seven["a bar"] > 0.9
    assert seven["a one"] < 0.01
    assert seven["a seven"] > 0.99
    assert is_picture(tmp_path / "scenario_c.png")


def test_scenario_d_both_networks_see_the_same(tmp_path):
    (row,) = [line for line in run("scenario_d_unit_picture.py", tmp_path).splitlines() if "as it was made" in line]
    assert row.count("stripes 1.000") == 2
    assert is_picture(tmp_path / "scenario_d.png")


def test_scenario_e_a_star_with_probability_one(tmp_path):
    printed = run("scenario_e_probability_one.py", tmp_path)
    (line,) = [line for line in printed.splitlines() if line.startswith("probability of unit 4: ")]
    assert float(line.rpartition(" ")[2]) >= 0.9999
    assert printed.count("finished") == 1 + 9 * 10
    assert is_picture(tmp_path / "scenario_e.png")


@pytest.mark.parametrize("name", ["shapes", "shapes_judge"])
def test_the_networks_know_the_shapes(name):
    shapes_data = importlib.import_module("shapes_data")
    pictures = shapes_data.generate(240, seed=5)
    with Engine(EXAMPLES / "models") as engine:
        x = engine.inspect(name).input("image").image.normalize(pictures.pixels)
        logits = engine.infer(name, {"image": x})["logits"]
        assert engine.inspect(name).outputs[0].labels == shapes_data.LABELS
    assert (logits.argmax(1) == pictures.labels).mean() > 0.95


@pytest.mark.parametrize("name", ["digits", "shapes"])
def test_an_imagined_picture_is_sure_and_holds(name):
    imagine = importlib.import_module("imagine")
    (study,) = [study for study in imagine.STUDIES if study.name == name]
    with Engine(study.repository) as engine, Engine(imagine.JUDGES) as judges:
        network, judge = imagine.Network(engine, study.name), imagine.Network(judges, study.judge)
        _, sure = imagine.free(network, 4)
        assert sure <= imagine.STEPS
        exact, saved, moved, turned, judged = imagine.scores(network, judge, imagine.robust(network, 4, study.jitter), 4)
    assert min(exact, saved, moved, turned, judged) > 0.9
    assert np.isclose(exact, saved, atol=0.01)
