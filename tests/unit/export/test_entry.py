"""The repository entry and the verification, with a framework that is a few lines of NumPy: no other is needed here."""

import numpy as np
import onnx_ir as ir
import pytest
from support.onnx_models import build

from gradserve.descriptions import ImageDescription
from gradserve.errors import InvalidModel, InvalidParameter
from gradserve_server import Engine
from gradserve_server.export import Input, export_model, run
from gradserve_server.export.frameworks.exportable import Evaluation
from gradserve_server.export.onnx_file import finish
from gradserve_server.runtime.image_descriptions import descriptions, image_parameters
from gradserve_server.runtime.model_config import empty_config, read_config, read_images, read_labels


class Affine:
    """y = x W for images of four axes; `wrong` is what the file has in its place."""

    framework, exporter, labels = "NumPy", "by hand", ()

    def __init__(self, wrong=1.0, doubtful=0.0, zero=False, classes=3):
        self.inputs, self.outputs, self.notes = [Input((2, 1, 2, 2), "x")], ["y"], []
        self.weights = np.random.default_rng(0).normal(size=(4, classes)) * (not zero)
        self.wrong, self.doubtful = wrong, doubtful

    def draw(self, _random, _samples):
        return None

    def compare_forms(self, _feeds):
        return "a sentence"

    def write(self, path, opset, *, fixed_batch):
        shape = "2" if fixed_batch else "N"
        weights = {"w": np.asarray(self.weights * self.wrong, np.float32)}
        model = build(
            "f = Flatten(x) y = MatMul(f, w)",
            inputs=f"float[{shape},1,2,2] x",
            outputs=f"float[{shape},{self.weights.shape[1]}] y",
            opset=opset,
            weights=weights,
        )
        batched = None if fixed_batch else ["y"]
        finish(ir.from_proto(model), path, inputs=["x"], outputs=["y"], opset=opset, batched=batched)

    def evaluate(self, feeds, cotangents, *, double):
        weights = self.weights * (1 + (0 if double else self.doubtful))
        x = feeds["x"].astype(np.float64)
        gradients = {name: {"x": (v @ weights.T).reshape(x.shape)} for name, v in cotangents.items()}
        return Evaluation({"y": x.reshape(len(x), -1) @ weights}, gradients)


@pytest.fixture
def exporting(monkeypatch, tmp_path):
    """Exports an `Affine` into a repository."""

    def export(network=None, **settings):
        monkeypatch.setattr(run, "exportable", lambda _subject, _settings: network or Affine())
        return export_model("numpy:affine", tmp_path / "repository", **settings)

    return export


def files(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_an_entry_has_everything_and_loads(exporting, tmp_path):
    image = {"low": -1.0, "mean": (0.1,), "std": (0.5,), "channels": "GREY"}
    report = exporting(image=image, labels=["a", "b", "ü"], max_batch=8, opset=18)
    repository = tmp_path / "repository"
    assert files(repository) == ["affine/1/model.onnx", "affine/config.pbtxt", "affine/labels.txt"]
    assert (report.model, report.version, report.opset) == ("affine", 1, 18)
    assert report.file == repository / "affine/1/model.onnx"
    assert report.notes == ["a sentence"]
    assert [check.what for check in report.checks] == ["y", "d y / d x"]
    assert all(check.shape[0] == 2 for check in report.checks)
    with Engine(repository) as engine:
        described = engine.inspect("affine")
        assert engine.model("affine").config.max_batch_size == 8
    assert described.inputs[0].image == ImageDescription(channels="GREY", low=-1.0, mean=(0.1,), std=(0.5,))
    assert described.inputs[0].shape == ("batch", 1, 2, 2)
    assert described.outputs[0].labels == ("a", "b", "ü")


def test_the_parameters_of_an_image_are_what_is_read():
    image = ImageDescription("NHWC", "BGR", -1.5, 255.0, (0.485, 1 / 3, 0.406), (0.229, 0.224, 1e-9))
    config = empty_config()
    for key, text in image_parameters("the.image", image).items():
        config.parameters[key].string_value = text
    assert descriptions(read_images(config, "model")) == {"the.image": image}


@pytest.mark.parametrize(
    ("shape", "said", "expected"),
    [
        ((1, 1, 28, 28), {"low": 0.0}, ("NCHW", "GREY")),
        ((1, 28, 28, 1), {"low": 0.0}, ("NHWC", "GREY")),
        ((1, 28, 28, 3), {"low": 0.0}, ("NHWC", "RGB")),
        ((1, 3, 3, 3), {"low": 0.0}, ("NCHW", "RGB")),
        ((1, 3, 28, 28), {"channels": "BGR"}, ("NCHW", "BGR")),
        ((1, 3, 28, 28), {"layout": "NHWC"}, ("NHWC", "RGB")),
    ],
)
def test_what_is_not_said_of_an_image_follows_from_its_shape(shape, said, expected):
    image = run._image(Input(shape, "x"), said)
    assert (image.layout, image.channels) == expected


def test_versions(exporting, tmp_path):
    exporting(version=3)
    assert exporting().version == 4
    config = tmp_path / "repository/affine/config.pbtxt"
    config.write_text(config.read_text().replace("max_batch_size: 64", "max_batch_size: 2"))
    assert exporting(version=1).version == 1
    assert "max_batch_size: 2\n" in config.read_text(), "people add to it"
    with pytest.raises(
        InvalidParameter, match=r"version 3: expected a version that is not in '.*affine' yet, got one of \[1, 3, 4\]"
    ):
        exporting(version=3)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({"image": {"std": (0.5,)}}, {"image": {"std": (0.25,)}}, "images: expected .*0.25.*, got .*0.5"),
        ({"labels": "abc"}, {"labels": "abd"}, "labels: expected .*'d'.*, got .*'c'"),
        ({}, {"labels": "abd"}, "labels: expected"),
        ({}, {"network": Affine(classes=4)}, r"outputs: expected .*\[4\].*, got .*\[3\]"),
        ({}, {"fixed_batch": True}, "max_batch_size: expected 0"),
    ],
)
def test_a_config_that_another_version_has_must_be_right_for_this_one(exporting, tmp_path, first, second, said):
    exporting(**first)
    before = files(tmp_path)
    with pytest.raises(InvalidParameter, match=f"model 'affine': config.pbtxt: {said}"):
        exporting(**second)
    assert files(tmp_path) == before


def test_a_model_without_a_config_gets_one(exporting, tmp_path):
    exporting(labels="abc")
    (tmp_path / "repository/affine/config.pbtxt").unlink()
    (tmp_path / "repository/affine/labels.txt").unlink()
    assert exporting(labels="abc").version == 2
    folder = tmp_path / "repository/affine"
    assert read_labels(read_config(folder), folder) == {"y": ("a", "b", "c")}


@pytest.mark.parametrize("network", [Affine(wrong=1.001), Affine(wrong=float("nan"))])
def test_a_file_that_disagrees_is_not_left(exporting, tmp_path, network):
    with pytest.raises(InvalidModel, match=r"disagrees with NumPy in float64.* y: .*, expected at most 1e-04; d y / d x: "):
        exporting(network)
    assert not (tmp_path / "repository").exists()
    exporting()
    with pytest.raises(InvalidModel, match="disagrees"):
        exporting(network)
    assert files(tmp_path / "repository") == ["affine/1/model.onnx", "affine/config.pbtxt"]
    assert [path.name for path in (tmp_path / "repository").iterdir()] == ["affine"]


def test_what_is_in_doubt_is_allowed_for_up_to_a_limit(exporting):
    (row, *_) = exporting(Affine(wrong=1.001, doubtful=0.001)).checks
    assert row.difference == pytest.approx(1e-3, rel=0.1)
    assert row.allowed == pytest.approx(4e-3, rel=0.1)
    with pytest.raises(
        InvalidModel, match="cannot be verified: NumPy's own float32 is too far from its float64: y by 1.0e-01"
    ):
        exporting(Affine(doubtful=0.1))


def test_a_gradient_that_proves_nothing_is_told(exporting):
    assert any("d y / d x is 0 on the random inputs" in note for note in exporting(Affine(zero=True)).notes)


def test_a_fixed_batch(exporting, tmp_path):
    report = exporting(fixed_batch=True)
    assert report.inputs[0].shape == (2, 1, 2, 2)
    assert "max_batch_size" not in (tmp_path / "repository/affine/config.pbtxt").read_text()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"labels": "ab"}, "labels: expected 3, one for each index of output 'y', got 2"),
        ({"labels": "abc", "labels_output": "z"}, "labels: expected them for one of the outputs y, got 'z'"),
        ({"image": {"low": 0.0}, "image_inputs": ["z"]}, "image: expected an input 'z' of four axes"),
        ({"name": "1"}, "model name '1': expected one that a folder can have"),
        ({"name": "../x"}, "model name '../x'"),
        ({"name": ".x"}, "model name '.x'"),
    ],
)
def test_settings_that_do_not_fit(exporting, tmp_path, settings, said):
    with pytest.raises(InvalidParameter, match=said):
        exporting(**settings)
    assert not (tmp_path / "repository").exists()
    assert not (tmp_path / "x").exists()


def test_two_at_a_time(exporting, tmp_path):
    """Another process writes the same version meanwhile: one of the two says so, and neither is lost."""

    class Slow(Affine):
        def compare_forms(self, _feeds):
            (tmp_path / "repository/affine/1").mkdir(parents=True)
            return ""

    with pytest.raises(InvalidParameter, match="another process wrote it"):
        exporting(Slow())
    assert files(tmp_path) == []
