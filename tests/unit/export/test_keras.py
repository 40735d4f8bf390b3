"""Keras 3 on torch: the same exporters, float64 and autograd; files in safe mode only."""

import os
import subprocess
import sys

import numpy as np
import pytest
from support.paths import WITH_TESTS
from support.reference import relative_error
from support.tolerances import TOLERANCE

from gradserve.errors import BackendMissing, InvalidParameter
from gradserve_server import Engine
from gradserve_server.export import Input, export_model
from gradserve_server.export.extras import prefer_torch
from gradserve_server.export.frameworks import keras3

torch = pytest.importorskip("torch", reason="Keras runs on it: scripts/test --torch installs it")
prefer_torch()
keras = pytest.importorskip("keras", reason="gradserve-server[export-keras]: scripts/test --torch installs it")
models = pytest.importorskip("support.exporting.keras_models")
# Keras's own way of writing its files, with NumPy 2.
KERAS_SAVES = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings(KERAS_SAVES)]

EXPORTERS = ["dynamo", "torchscript"]


@pytest.fixture
def export(tmp_path):
    """Exports a model of `support.exporting.keras_models`."""

    def run(factory, **settings):
        return export_model(f"support.exporting.keras_models:{factory}", tmp_path / "repository", **settings)

    return run


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_model_knows_its_inputs_and_outputs(export, tmp_path, exporter):
    report = export("classifier", exporter=exporter, image={"mean": (0.5,)})
    assert report.framework == "Keras"
    assert [(one.name, one.shape) for one in report.inputs] == [("image", ("batch", 8, 8, 1))]
    assert [check.what for check in report.checks] == ["logits", "d logits / d image"]
    (note,) = report.notes
    assert note.startswith("in training form the outputs differ by ")
    assert "(1 BatchNormalization, 1 Dropout)" in note
    image = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype(np.float32)
    expected = models.classifier()(torch.from_numpy(image), training=False).detach().numpy()
    with Engine(tmp_path / "repository") as engine:
        description = engine.inspect("classifier")
        assert description.inputs[0].image.layout == "NHWC"
        assert description.inputs[0].image.channels == "GREY"
        got = engine.infer("classifier", {"image": image})["logits"]
    assert relative_error(got, expected) < TOLERANCE["float32 network"]


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_several_inputs_and_outputs(export, exporter):
    report = export("siamese", exporter=exporter)
    assert [one.name for one in report.inputs] == ["left", "right"]
    assert [one.name for one in report.outputs] == ["gap", "score"]
    assert len(report.checks) == 6
    swapped = export("siamese", exporter=exporter, name="swapped", inputs=[Input((1, 6), "right"), Input((1, 6), "left")])
    assert [one.name for one in swapped.inputs] == ["left", "right"], "in the model's own order"
    renamed = export("siamese", exporter=exporter, name="renamed", inputs=[Input((1, 6), "a"), Input((1, 6), "b")])
    assert [one.name for one in renamed.inputs] == ["a", "b"]


def test_a_sequential_model_and_an_open_size(export):
    assert export("sequential").inputs[0].shape == ("batch", 5)
    with pytest.raises(InvalidParameter, match=r"inputs: expected a size for every axis, .* got image \[None, None, 1\]"):
        export("open_size")
    assert export("open_size", inputs=[Input((1, 12, 10, 1))]).inputs[0].shape == ("batch", 12, 10, 1)
    with pytest.raises(InvalidParameter, match="inputs: expected 1, image, got 2"):
        export("open_size", inputs=[Input((1, 12, 10, 1))] * 2)


def test_a_file_and_weights(export, tmp_path):
    model = models.classifier()
    other = [array + 0.25 for array in model.get_weights()]
    model.set_weights(other)
    model.save(tmp_path / "digits.keras")
    model.save_weights(tmp_path / "digits.weights.h5")
    image = np.ones((2, 8, 8, 1), np.float32)
    expected = model(torch.from_numpy(image), training=False).detach().numpy()
    assert export_model(str(tmp_path / "digits.keras"), tmp_path / "repository").model == "digits"
    export("classifier", weights=tmp_path / "digits.weights.h5")
    with Engine(tmp_path / "repository") as engine:
        for name in ("digits", "classifier"):
            got = engine.infer(name, {"image": image})["logits"]
            assert relative_error(got, expected) < TOLERANCE["float32 network"], name


def test_code_in_a_file_does_not_run(tmp_path):
    models.with_code().save(tmp_path / "lambda.keras")
    with pytest.raises(InvalidParameter, match="model file 'lambda.keras': expected one that Keras reads in safe mode"):
        keras3.read(tmp_path / "lambda.keras")
    (tmp_path / "no.keras").write_bytes(b"no")
    with pytest.raises(InvalidParameter, match="model file 'no.keras': expected one that Keras reads in safe mode"):
        keras3.read(tmp_path / "no.keras")


def test_weights_that_do_not_fit(export, tmp_path):
    models.classifier(width=5).save_weights(tmp_path / "w.weights.h5")
    with pytest.raises(InvalidParameter, match="weights 'w.weights.h5': expected those of the model, got: "):
        export("classifier", weights=tmp_path / "w.weights.h5")
    with pytest.raises(InvalidParameter, match="expected a file that ends in .weights.h5"):
        export("classifier", weights=tmp_path / "w.pt")


def test_another_backend_is_refused_with_a_word_on_what_to_set(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(BackendMissing, match="expected Keras on torch, got Keras on jax: set .* KERAS_BACKEND=torch"):
        keras3.adapt(None, {})


def test_torch_is_the_backend_where_nothing_is_said():
    code = "from gradserve_server.export.frameworks import keras3; print(keras3._keras().config.backend())"
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"} | WITH_TESTS
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert done.stdout.split()[-1:] == ["torch"], done.stderr
