"""`gradserve export` as a user types it: what it prints, its exit codes, and what lies in the repository afterwards."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from support.paths import ROOT

from gradserve.cli.commands.export import _assignment, _input
from gradserve_server.runtime.image_descriptions import descriptions
from gradserve_server.runtime.model_config import read_config, read_images

pytest.importorskip("skl2onnx", reason="gradserve-server[export-sklearn]")

MODULE = """
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

random = np.random.default_rng(0)
X = random.normal(size=(90, 4))
Y = np.asarray(["setosa", "versicolor", "virginica"])[np.digitize(X[:, 0] - X[:, 2], [-0.5, 0.5])]

def iris(regularization: float):
    return make_pipeline(StandardScaler(), LogisticRegression(C=regularization)).fit(X, Y)

def talkative():
    print("fitting")
    return iris(1.0)

def tree():
    return make_pipeline(StandardScaler(), DecisionTreeClassifier()).fit(X, Y)
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "flowers.py").write_text(MODULE)
    (tmp_path / "latin.txt").write_bytes("trois\nété\n".encode("latin-1"))

    def command(*arguments, code=0):
        done = subprocess.run(
            [sys.executable, "-m", "gradserve.cli", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return command


def test_what_is_exported_can_be_asked(run, tmp_path):
    done = run("export", "flowers:iris", "--set", "regularization=0.5", "-o", "models")
    assert re.search(r"^probabilities +\[2,3\] +\d.\de-\d\d", done.stdout, re.MULTILINE)
    assert re.search(r"^d probabilities / d x +\[2,4\] +\d.\de-\d\d", done.stdout, re.MULTILINE)
    assert "wrote models/iris/1/model.onnx: version 1 of iris, opset 1" in done.stderr
    np.save(tmp_path / "x.npy", np.float32([[2, 0, -2, 0]]))
    inspected = json.loads(run("inspect", "models/iris", "--json").stdout)
    assert inspected["outputs"][0]["labels"] == ["setosa", "versicolor", "virginica"]
    answer = run("infer", "models/iris", "--input", "x=x.npy", "--top", "1").stdout
    assert "virginica" in answer


def test_the_report_as_json(run):
    done = run("export", "flowers:iris", "--set", "regularization=1", "--name", "mine", "-o", "models", "--json")
    report = json.loads(done.stdout)
    assert report["file"] == "models/mine/1/model.onnx"
    assert [check["what"] for check in report["checks"]] == ["probabilities", "d probabilities / d x"]
    assert report["inputs"][0]["shape"] == ["batch", 4]
    again = run("export", "flowers:iris", "--set", "regularization=1", "--name", "mine", "-o", "models", "--json")
    assert json.loads(again.stdout)["version"] == 2


def test_what_the_networks_code_prints_is_not_in_the_report(run):
    done = run("export", "flowers:talkative", "-o", "models", "--json")
    assert json.loads(done.stdout)["model"] == "talkative"
    assert "fitting" in done.stderr


def test_a_repository_that_is_a_file(run):
    said = "gradserve: error: repository 'flowers.py': expected a folder, or nothing yet, got a file\n"
    assert run("export", "flowers:tree", "-o", "flowers.py", code=1).stderr == said


def test_a_script_that_ends_the_process_is_no_success(run, tmp_path):
    (tmp_path / "script.py").write_text("import sys\nsys.exit(0)\n")
    assert "importing 'script' raised SystemExit" in run("export", "script:model", "-o", "models", code=1).stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("flowers:iris",), "expected values for its arguments 'regularization': --set regularization=VALUE"),
        (("flowers:rose",), "expected one of"),
        (("flowers:tree",), "step 'decisiontreeclassifier' (DecisionTreeClassifier)"),
        (("flower:iris",), "got no module 'flower'"),
        (("flowers.pkl",), "runs whatever code is in it"),
        (("flowers:tree", "--labels", "missing.txt"), "missing.txt"),
        (("flowers:tree", "--labels", "latin.txt"), "labels 'latin.txt': expected text in UTF-8"),
    ],
)
def test_what_is_at_fault_is_one_line_and_nothing_is_written(run, tmp_path, arguments, said):
    done = run("export", *arguments, "-o", "models", code=1)
    assert said in done.stderr
    assert done.stderr.startswith("gradserve: error: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    "arguments",
    [("--input", "3x"), ("--input", "0x3"), ("--input", "1x3:complex64"), ("--set", "novalue"), ("--opset", "5")],
)
def test_wrong_usage(run, arguments):
    assert "expected" in run("export", "flowers:tree", "-o", "models", *arguments, code=2).stderr


def test_how_inputs_and_arguments_are_written():
    assert _input("1x3x224x224") == ("", (1, 3, 224, 224), "float32")
    assert _input("ids=1x128:int64") == ("ids", (1, 128), "int64")
    assert _assignment("a=3") == ("a", 3)
    assert _assignment("a=[1, 2]") == ("a", [1, 2])
    assert _assignment("a=resnet50") == ("a", "resnet50")
    assert _assignment("a=x=y") == ("a", "x=y")


def test_help_has_examples_that_parse(run):
    told = run("export", "--help").stdout
    assert "examples:" in told
    for option in re.findall(r"--[a-z-]+", told):
        assert option in (ROOT / "docs" / "export.md").read_text(), "the document explains every option"


@pytest.mark.torch
def test_an_image_description_is_written_as_it_is_read(run, tmp_path):
    pytest.importorskip("torch", reason="an exporter: scripts/test --torch installs it")
    (tmp_path / "nets.py").write_text(
        "import torch\ndef net():\n    torch.manual_seed(0)\n    return torch.nn.Conv2d(3, 2, 3)\n"
    )
    image = ("--mean", "0.1", "0.2", "0.3", "--std", "0.5", "--range", "-1", "1", "--channel-order", "BGR")
    run("export", "nets:net", "--input", "image=1x3x8x8", *image, "--exporter", "torchscript", "-o", "models")
    (found,) = descriptions(read_images(read_config(tmp_path / "models" / "net"), "net")).items()
    assert found[0] == "image"
    assert (found[1].channels, found[1].mean, found[1].std) == ("BGR", (0.1, 0.2, 0.3), (0.5,))
    assert (found[1].low, found[1].high) == (-1.0, 1.0)
