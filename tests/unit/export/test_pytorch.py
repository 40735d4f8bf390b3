"""PyTorch: inference form, inputs and outputs by name, both exporters, and everything that cannot be exported."""

import numpy as np
import pytest
from support.reference import relative_error
from support.tolerances import TOLERANCE

from gradserve.errors import GradserveError, InvalidModel, InvalidParameter
from gradserve_server import Engine
from gradserve_server.export import Input, export_model
from gradserve_server.export.onnx_file import BATCH

torch = pytest.importorskip("torch", reason="an exporter and the float64 oracle: scripts/test --torch installs it")
networks = pytest.importorskip("support.exporting.networks")
pytest.importorskip("onnxscript", reason="torch's newer exporter: scripts/test --torch installs it")
pytestmark = pytest.mark.torch

EXPORTERS = ["dynamo", "torchscript"]
IMAGE = Input((1, 1, 8, 8))
NETWORK = TOLERANCE["float32 network"]


@pytest.fixture
def export(tmp_path):
    """Exports a network of `support.exporting.networks`."""

    def run(factory, *inputs, **settings):
        subject = f"support.exporting.networks:{factory}"
        return export_model(subject, tmp_path / "repository", inputs=inputs, **settings)

    return run


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_network_in_training_form_is_exported_in_inference_form(export, tmp_path, exporter):
    report = export("classifier", IMAGE, arguments={"classes": 3}, exporter=exporter, outputs=["logits"])
    (note,) = report.notes
    assert note.startswith("in training form the outputs differ by ")
    assert note.endswith(" of their largest value (1 BatchNorm2d, 1 Dropout); inference form was exported")
    assert report.framework == "PyTorch"
    assert report.opset == 20
    image = np.random.default_rng(0).normal(size=(4, 1, 8, 8)).astype(np.float32)
    network = networks.three().double().eval()
    x = torch.from_numpy(image).double().requires_grad_()
    expected = network(x)
    (gradient,) = torch.autograd.grad(expected[:, 1].sum(), x)
    with Engine(tmp_path / "repository") as engine:
        assert engine.inspect("classifier").inputs[0].shape == (BATCH, 1, 8, 8)
        got = engine.infer("classifier", {"image": image})["logits"]
        v = np.eye(3, dtype=np.float32)[[1] * 4]
        _, gradients = engine.vjp("classifier", {"image": image}, {"logits": v})
    assert relative_error(got, expected.detach().numpy()) < NETWORK
    assert relative_error(gradients["image"], gradient.numpy()) < NETWORK


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_two_inputs_and_three_outputs(export, exporter):
    inputs = [Input((1, 1, 8, 8), "right"), Input((1, 1, 8, 8), "left")]
    report = export("siamese", *inputs, exporter=exporter)
    assert [one.name for one in report.inputs] == ["right", "left"], "by keyword, in whatever order"
    assert [one.name for one in report.outputs] == ["distance", "left_embedding", "right_embedding"]
    assert [check.what for check in report.checks] == [
        *("distance", "d distance / d right", "d distance / d left"),
        *("left_embedding", "d left_embedding / d left", "right_embedding", "d right_embedding / d right"),
    ]
    chosen = export("siamese", *inputs, outputs=["distance"], name="chosen", exporter=exporter)
    assert [one.name for one in chosen.outputs] == ["distance"]
    renamed = export("siamese", *inputs, outputs=["d", "a", "b"], name="renamed", exporter=exporter)
    assert [one.name for one in renamed.outputs] == ["d", "a", "b"]


def test_weights_of_a_file(export, tmp_path):
    state = {name: tensor * 2 for name, tensor in networks.three().state_dict().items()}
    torch.save(state, tmp_path / "w.pt")
    export("three", Input((1, 1, 8, 8), "picture"), weights=tmp_path / "w.pt")
    network = networks.three().eval()
    network.load_state_dict(state)
    image = np.ones((2, 1, 8, 8), np.float32)
    with Engine(tmp_path / "repository") as engine:
        got = engine.infer("three", {"picture": image})["output"]
    assert relative_error(got, network.double()(torch.ones(2, 1, 8, 8).double()).detach().numpy()) < NETWORK


def test_half_weights_are_exported_as_float32(export):
    assert "weights of bfloat16 were exported as float32" in export("half", IMAGE).notes


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_network_that_computes_with_the_batch_needs_a_fixed_one(export, tmp_path, exporter):
    with pytest.raises(InvalidModel, match="--fixed-batch|disagrees|another batch"):
        export("of_the_batch", Input((3, 4)), exporter=exporter)
    assert not (tmp_path / "repository").exists()
    report = export("of_the_batch", Input((3, 4)), exporter=exporter, fixed_batch=True)
    assert report.inputs[0].shape == (3, 4)


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("noisy", "output 'output': expected the same prediction twice, got two: something is random in inference form"),
        ("stubborn", r"module '1' \(Stubborn\): expected inference form after eval\(\), got training form"),
        ("by_batch", r"module '1' \(BatchNorm1d\): expected running statistics, got each batch's"),
    ],
)
def test_what_has_no_inference_form_is_refused(export, tmp_path, factory, said):
    with pytest.raises(InvalidModel, match=said):
        export(factory, Input((1, 4)))
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize(
    ("factory", "inputs", "settings", "said"),
    [
        ("three", [], {}, "inputs: expected a shape for each, as in --input 1x3x224x224"),
        ("three", [Input((1, 3, 8, 8))], {}, r"got image \[5, 3, 8, 8\], and it raised: RuntimeError: .*channels"),
        ("three", [Input((1, 8))], {}, r"inputs: expected what the network takes, got image \[5, 8\]"),
        ("three", [IMAGE, IMAGE], {}, "input 'input_1': expected one of forward's image, because 'image' is"),
        ("three", [Input((1, 2), "a"), IMAGE], {}, "expected what the network takes, got a .*, input_1 .* TypeError"),
        ("siamese", [IMAGE, Input((1, 1, 8, 8), "other")], {}, "input 'other': expected one of forward's left, right"),
        (
            "three",
            [Input((1, 3, 8, 8), "imagee")],
            {},
            "input 'imagee': expected one of forward's image, or a name that is not",
        ),
        ("siamese", [Input((1, 1, 8, 8), "a"), Input((1, 1, 8, 8), "a")], {}, "expected a name for each, got a, a"),
        ("siamese", [IMAGE, IMAGE], {"outputs": ["x"]}, "outputs: expected some of 'distance', .*, or 3 new names, got 'x'"),
        ("siamese", [IMAGE, IMAGE], {"outputs": ["x", "x", "y"]}, "outputs: expected another name for each"),
        ("three", [IMAGE], {"exporter": "other"}, "exporter: expected one of dynamo, torchscript, got 'other'"),
        ("three", [IMAGE], {"weights": "no.pt"}, "weights 'no.pt': expected a file, got nothing there"),
        ("failing", [IMAGE], {}, "it raised RuntimeError: no such dataset"),
        ("no_network", [IMAGE], {}, "expected a torch.nn.Module, a keras.Model or a scikit-learn estimator, got a list"),
    ],
)
def test_settings_that_do_not_fit(export, tmp_path, factory, inputs, settings, said):
    with pytest.raises(InvalidParameter, match=said):
        export(factory, *inputs, **settings)
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("scripted", "expected a module of Python, got a ScriptModule"),
        ("lazy", "parameter 'weight': expected one that is there, got a lazy one"),
        ("diverged", "parameter 'weight': expected numbers, got 1 NaN"),
        ("complex_numbers", "parameter 'weight': expected real numbers, got complex64"),
        ("total", r"output 'output': expected the batch as its first axis, got \[\] for 5 samples"),
    ],
)
@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
def test_what_makes_no_sense_to_export(export, tmp_path, factory, said):
    with pytest.raises((InvalidModel, InvalidParameter), match=said):
        export(factory, Input((1, 4)))
    assert not (tmp_path / "repository").exists()


def test_a_forward_of_keywords_only_is_given_names(export):
    assert [one.name for one in export("keywords", Input((1, 4), "x")).inputs] == ["x"]


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_an_opset_that_the_exporter_does_not_write(export, exporter):
    opset = {"dynamo": 15, "torchscript": 99}[exporter]
    with pytest.raises(InvalidModel, match=f"expected the exporter to write opset {opset}|torch's exporter '{exporter}'"):
        export("three", IMAGE, exporter=exporter, opset=opset)


@pytest.mark.parametrize(("exporter", "opset"), [("torchscript", 13), ("dynamo", 18), ("dynamo", 21)])
def test_other_opsets(export, exporter, opset):
    assert export("three", IMAGE, exporter=exporter, opset=opset).opset == opset


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_pool_larger_than_the_image_is_a_mean_of_the_image(export, exporter):
    """By its own attributes onnxruntime 1.19 would divide by the kernel: verified against PyTorch like every export."""
    export("whole_pool", IMAGE, exporter=exporter)


def test_a_gradient_that_is_zero_is_told(export):
    notes = export("ordered", Input((1, 4))).notes
    assert notes[-1] == "d output / d x is 0 on the random inputs: its gradient is not verified"


def test_what_does_not_run_in_float64_is_verified_against_float32_and_says_so(export):
    report = export("single_precision", Input((1, 4)))
    (note,) = [note for note in report.notes if "float64" in note]
    assert note.startswith("verified against float32: the network does not run in float64 (RuntimeError: ")
    assert all(check.difference <= check.allowed for check in report.checks)


def test_every_refusal_is_one_of_ours():
    assert issubclass(InvalidModel, GradserveError)
