"""`gradserve doctor` as a user runs it, and the RPC: on files, on a server, in a repository with what cannot be served."""

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from PIL import Image
from support.gallery import GALLERY
from support.onnx_models import save, trained
from support.paths import MODELS
from support.siamese import siamese
from support.small_network import Network, healthy, pictures

import gradserve
from gradserve.cli import main
from gradserve.errors import GradserveError, InvalidTensor, ModelNotFound
from gradserve_server import Engine, EngineConfig, ServerConfig, diagnose
from gradserve_server.rpc.app import Server

BROKEN = {entry.name: entry for entry in GALLERY}["batchnorm in training form, opset 15"].model
UNTRAINED = {entry.name: entry for entry in GALLERY}["training form, never written back"].model


def run(capsys, *arguments):
    """Exit code, standard output, standard error."""
    code = main(["doctor", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


# ---- the command -----------------------------------------------------------------------------------------------------


def test_an_error_is_exit_code_1_and_names_the_node(tmp_path, capsys):
    code, out, _ = run(capsys, save(BROKEN, tmp_path / "model.onnx"))
    assert code == 1
    assert re.search(r"ERROR +batchnorm-training-form +s\n", out)
    assert "repair: `--fix`" in out


def test_no_error_is_exit_code_0(tmp_path, capsys):
    code, out, _ = run(capsys, save(healthy(), tmp_path / "model.onnx"))
    assert (code, "nothing found" in out) == (0, True)


def test_json_is_the_diagnosis(tmp_path, capsys):
    path = save(BROKEN, tmp_path / "model.onnx")
    code, out, _ = run(capsys, path, "--json")
    found = json.loads(out)
    assert code == 1
    assert [one["code"] for one in found["findings"]] == [one.code for one in diagnose(path).findings]
    assert found["findings"][0].keys() == {"code", "severity", "node", "effect", "detail", "repair"}


def test_with_fix_the_repaired_copy_is_judged(tmp_path, capsys):
    path, fixed = save(BROKEN, tmp_path / "model.onnx"), tmp_path / "fixed.onnx"
    before = path.read_bytes()
    code, out, err = run(capsys, path, "--fix", fixed)
    assert code == 0
    assert "switched" in out
    assert str(fixed) in err
    assert path.read_bytes() == before
    assert diagnose(fixed).findings == ()


def test_what_cannot_be_repaired_stays_an_error(tmp_path, capsys):
    path = save(UNTRAINED, tmp_path / "model.onnx")
    code, out, _ = run(capsys, path, "--fix", tmp_path / "fixed.onnx")
    assert code == 1
    assert "not done" in out


def test_recalibration_by_a_command(tmp_path, capsys):
    path, fixed, data = save(UNTRAINED, tmp_path / "model.onnx"), tmp_path / "fixed.onnx", tmp_path / "data.npz"
    np.savez(data, **pictures(32), labels=np.zeros(32))
    code, out, _ = run(capsys, path, "--fix", fixed, "--repair", "recalibrate", "--data", data, "--json")
    assert code == 0
    found = json.loads(out)
    assert found.keys() == {"before", "repairs", "after"}
    assert [one["repair"] for one in found["repairs"]] == ["switch", "recalibrate"]
    assert found["after"]["findings"] == []


def test_no_error_says_how_to_unpickle(tmp_path, capsys):
    (tmp_path / "data.npz").write_text("not at all")
    code, _, err = run(capsys, save(healthy(), tmp_path / "model.onnx"), "--data", tmp_path / "data.npz")
    assert code == 1
    assert "expected a folder, or an .npy or .npz of plain arrays" in err
    assert "pickle" not in err


def test_a_repair_that_was_asked_for_and_not_made_is_a_failure(tmp_path, capsys):
    data = tmp_path / "data.npz"
    np.savez(data, **pictures(8))
    code, out, _ = run(
        capsys,
        *(save(healthy(), tmp_path / "model.onnx"), "--fix", tmp_path / "out.onnx", "--repair", "recalibrate"),
        *("--data", data),
    )
    assert code == 1
    assert "not done: there is no BatchNormalization in the main graph" in out


def test_a_folder_of_pictures_is_data(tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(9):
        Image.effect_noise((32, 24), 60 + number).convert("RGB").save(photos / f"{number}.png")
    path = save(healthy(), tmp_path / "model.onnx")
    code, out, _ = run(capsys, path, "--data", photos)
    assert code == 0
    assert "9 given samples" in out


def test_pictures_for_several_inputs_lie_in_folders_of_their_names(tmp_path, capsys):
    for side in ("left", "right"):
        (tmp_path / "photos" / side).mkdir(parents=True)
        for number in range(4):
            Image.effect_noise((8, 8), 50 + number).save(tmp_path / "photos" / side / f"{number}.png")
    _, out, _ = run(capsys, save(siamese(), tmp_path / "model.onnx"), "--data", tmp_path / "photos")
    assert "4 given samples" in out


def test_pictures_for_an_input_that_nobody_described(tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    path = save(Network(metadata={}).make(), tmp_path / "model.onnx")
    code, _, err = run(capsys, path, "--data", tmp_path)
    assert code == 1
    assert "describe" in err
    code, out, _ = run(capsys, path, "--data", tmp_path, "--describe", "x.mean=0.5")
    assert code == 0
    assert "1 given sample" in out


@pytest.mark.parametrize(
    ("file", "content", "text"),
    [
        ("data.npz", {"z": np.zeros(3)}, "expected an array 'x'"),
        ("data.npz", {"x": np.zeros((2, 3, 4, 4), np.float32)}, r"expected float32 \[N,3,8,8\], got float32 \[2,3,4,4\]"),
    ],
)
def test_data_that_does_not_fit(file, content, text, tmp_path, capsys):
    np.savez(tmp_path / file, **content)
    code, _, err = run(capsys, save(healthy(), tmp_path / "model.onnx"), "--data", tmp_path / file)
    assert code == 1
    assert re.search(text, err)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--repair", "fold"], "expected --fix"),
        (["--fix", "OUT", "--repair", "polish"], "expected one of switch"),
        (["--fix", "OUT", "--repair", "recalibrate"], "expected data"),
    ],
)
def test_repairs_that_cannot_be_made(arguments, text, tmp_path, capsys):
    path = save(healthy(), tmp_path / "model.onnx")
    code, _, err = run(capsys, path, *(str(tmp_path / "out.onnx") if part == "OUT" else part for part in arguments))
    assert code == 1
    assert text in err


def test_a_file_that_is_no_model_is_a_finding(tmp_path, capsys):
    (tmp_path / "model.onnx").write_bytes(b"no model")
    code, out, _ = run(capsys, tmp_path / "model.onnx")
    assert code == 1
    assert "load-refused" in out


# ---- the report ------------------------------------------------------------------------------------------------------


class Elements(HTMLParser):
    """Counts elements, and what would load something."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.loads = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href")]


def report(tmp_path, capsys, model, *arguments):
    run(capsys, model, "--html", tmp_path / "report.html", *arguments)
    return (tmp_path / "report.html").read_text()


def test_the_report_has_charts_and_loads_nothing(tmp_path, capsys):
    text = report(tmp_path, capsys, MODELS / "digits_batchnorm")
    elements = Elements(text)
    assert elements.loads == []
    assert "script" not in elements.tags
    assert "url(" not in text
    charts = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(charts) == 1 + 8 + 1  # conflicts, a layer each, dead ReLUs
    for chart in charts:
        ElementTree.fromstring(chart)


def test_the_report_tells_of_repairs(tmp_path, capsys):
    text = report(tmp_path, capsys, save(BROKEN, tmp_path / "model.onnx"), "--fix", tmp_path / "fixed.onnx")
    assert "<h2>Repairs</h2>" in text
    assert "switched node" in text


def test_names_from_a_file_are_text_in_the_report(tmp_path, capsys):
    model = Network("s = BatchNormalization(r, gain, offset, mean, variance)", weights=trained(8)).make()
    evil = "<script>alert(1)</script>&\"'"
    for node in model.graph.node:
        node.name = f"{evil}{node.output[0]}"
    model.graph.initializer[6].CopyFrom(
        onnx.numpy_helper.from_array(np.zeros(8, np.float32), model.graph.initializer[6].name)
    )
    text = report(tmp_path, capsys, save(model, tmp_path / "model.onnx"))
    assert "script" not in Elements(text).tags
    for chart in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(chart)


# ---- a server --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[False, True], ids=["in process", "in a trial process"])
def served(request, tmp_path_factory):
    """A repository in which one model cannot be served."""
    root = tmp_path_factory.mktemp("repository")
    save(healthy(), root / "healthy" / "1" / "model.onnx")
    save(UNTRAINED, root / "broken" / "2" / "model.onnx")
    config = EngineConfig(trial=request.param, exit_on_error=False, threads=1)
    with Engine(root, config=config) as engine, Server(engine, ServerConfig(port=0, drain_seconds=2)) as server:
        yield root, server.address


def test_a_server_examines_what_it_serves_and_what_it_cannot_serve(served):
    root, address = served
    with gradserve.Client(address) as client:
        assert client.doctor("healthy").findings == ()
        with pytest.raises(GradserveError):
            client.infer("broken", pictures(1))
        found = client.doctor("broken")
        assert (found.version, found.has_errors) == ("2", True)
        assert found == diagnose(root / "broken")
        data = pictures(12)
        assert client.doctor("healthy", data).samples == 12
        with pytest.raises(InvalidTensor, match="x"):
            client.doctor("healthy", {"x": np.zeros((1, 3, 4, 4), np.float32)})
        for model, version in (("nobody", ""), ("healthy", "7"), ("healthy", "x")):
            with pytest.raises(ModelNotFound):
                client.doctor(model, version=version)


def test_predictions_are_the_same_while_a_model_is_examined(served):
    _, address = served
    with gradserve.Client(address) as client:
        before = client.infer("healthy", pictures(3))["y"]
        client.doctor("healthy", pictures(64))
        assert client.infer("healthy", pictures(3))["y"].tobytes() == before.tobytes()


def test_the_command_asks_a_server(served, capsys):
    _, address = served
    code, out, _ = run(capsys, "broken", "--server", address)
    assert code == 1
    assert "batchnorm-untrained" in out
    code, _, err = run(capsys, "healthy", "--server", address, "--fix", "out.onnx")
    assert code == 1
    assert "expected a file" in err
