"""Files that torch wrote in training mode, and a state that was never written back: repaired, they are torch's own."""

import itertools
import warnings

import digits_data
import numpy as np
import pytest
from support.examined import codes
from support.tolerances import TOLERANCE

from gradserve_server import Engine, diagnose, repair

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

CHANCE = 0.2
"""Guessing one of ten classes is right once in ten."""


@pytest.fixture(scope="module")
def digits():
    """8x8 scans in [0, 1] and labels: training set, test set."""
    return [
        (part.pixels[:, :, 2:26, 2:26].reshape(-1, 1, 8, 3, 8, 3).mean((3, 5)), part.labels) for part in digits_data.load()
    ]


@pytest.fixture(scope="module")
def trained(digits):
    """Six layers of Conv, BatchNorm, ReLU; a second of training."""
    from torch.nn import functional

    torch.manual_seed(0)
    channels = [1, 16, 16, 16, 16, 16, 16]
    layers = [
        part
        for before, after in itertools.pairwise(channels)
        for part in (torch.nn.Conv2d(before, after, 3, padding=1, bias=False), torch.nn.BatchNorm2d(after), torch.nn.ReLU())
    ]
    network = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Dropout(0.3), torch.nn.Linear(1024, 10))
    pixels, labels = (torch.tensor(array) for array in digits[0])
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    network.train()
    for _ in range(8):
        for batch in torch.randperm(len(pixels)).split(32)[:-1]:
            loss = functional.cross_entropy(network(pixels[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


def export(network, path, *, training: bool = False, opset: int = 17):
    """By the exporter that knows a training mode."""
    mode = torch.onnx.TrainingMode
    was = network.training
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the old exporter, about itself
        torch.onnx.export(
            network,
            (torch.zeros(2, 1, 8, 8),),
            path,
            dynamo=False,
            opset_version=opset,
            training=mode.TRAINING if training else mode.EVAL,
            do_constant_folding=not training,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
        )
    network.train(was)
    return path


def predict(path, pixels):
    with Engine(path) as engine:
        return engine.infer(engine.models()[0].name, {"image": pixels})["logits"]


def in_float64(network, pixels):
    """Torch's inference form."""
    import copy

    with torch.no_grad():
        return copy.deepcopy(network).double().eval()(torch.tensor(pixels, dtype=torch.float64)).numpy()


def accuracy(logits, labels) -> float:
    return float((logits.argmax(1) == labels).mean())


@pytest.mark.parametrize("opset", [9, 13, 17])
def test_a_file_exported_in_training_mode_predicts_as_torch_does_in_evaluation_mode(opset, trained, digits, tmp_path):
    source, out = export(trained, tmp_path / "model.onnx", training=True, opset=opset), tmp_path / "out.onnx"
    pixels = digits[1][0][:32]
    treatment = repair(source, out, inputs={"image": pixels})
    wanted = {"batchnorm-training-form", *(["dropout-training-form"] if opset > 11 else [])}
    assert wanted <= codes(treatment.before)
    assert not treatment.after.has_errors
    expected = in_float64(trained, pixels)
    error = np.abs(predict(out, pixels) - expected).max() / np.abs(expected).max()
    print(f"opset {opset}: relative error after --fix {error:.1e}, change {[s.relative for s in treatment.repairs]}")  # noqa: T201
    assert error < TOLERANCE["float32 network"]


def test_a_state_that_was_never_written_back_is_measured(trained, digits, tmp_path):
    import copy

    lost = copy.deepcopy(trained)
    for module in lost.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
    (train, _), (test, labels) = digits
    source, out = export(lost, tmp_path / "model.onnx"), tmp_path / "out.onnx"
    # The exporter folds into the convolutions what it can: a file in evaluation mode without BatchNorm cannot be repaired.
    source = export(lost, source, training=True)
    treatment = repair(source, out, ["recalibrate"], inputs={"image": train})
    full = accuracy(in_float64(trained, test), labels)
    before, after = accuracy(in_float64(lost, test), labels), accuracy(predict(out, test), labels)
    print(f"accuracy: trained {full:.4f}, state lost {before:.4f}, recalibrated {after:.4f}")  # noqa: T201
    assert before < CHANCE
    assert after >= full - 0.01
    assert "batchnorm-untrained" in codes(treatment.before)
    assert not treatment.after.has_errors


def test_the_trained_network_is_healthy(trained, digits, tmp_path):
    diagnosis = diagnose(export(trained, tmp_path / "model.onnx"), {"image": digits[1][0][:64]})
    assert not diagnosis.has_errors
