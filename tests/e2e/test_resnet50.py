"""A full-size network, served: ResNet-50 with BatchNorm left in the file, seeded weights, a photograph."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator
from support.reference import relative_error
from support.tolerances import TOLERANCE

import gradserve
from gradserve import Sgd, StopReason
from gradserve import objectives as O
from gradserve_server import Engine, ServerConfig, gradient_graph
from gradserve_server.rpc.app import Server

torch = pytest.importorskip("torch", reason="the float64 oracle: scripts/test --torch installs it")
resnet = pytest.importorskip("architectures.resnet")
torch_ops = pytest.importorskip("support.torch_ops")
pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]

UNIT = O.unit("logits", 145)


@pytest.fixture(scope="module", params=[0, 1])
def served(request, tmp_path_factory) -> Iterator[tuple]:
    network = resnet.resnet50(seed=request.param)
    path = tmp_path_factory.mktemp("models") / "resnet50.onnx"
    export(network, path)
    with Engine(path) as engine:
        yield network.double(), engine
    path.unlink()


def export(network, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns about itself
        resnet.export(network, path, keep_batchnorm=True)


def float64_gradient(network, image: np.ndarray) -> np.ndarray:
    pixels = torch.tensor(image, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(pixels)[0, 145], pixels)
    return gradient.numpy()


def on_the_same_piece(monkeypatch, engine, image: np.ndarray) -> None:
    """Makes torch's ReLUs and its max-pooling take the sides that the served float32 network takes.

    A ReLU network is linear in pieces. Of ten million ReLUs a few always lie within float32's rounding of their kink, and
    float64 puts some of them on the other side: another piece, whose gradient differs by about 1e-3 for each. (torch's own
    float32 gradient is 5e-3 from its float64 one.) What can be right is the gradient of the piece that was evaluated.
    """
    relus = [layer.name for layer in engine.layers("resnet50") if layer.op == "Relu"]
    values = engine.activations("resnet50", {"image": image}, relus)
    open_gates = iter([torch.from_numpy(values[name] > 0) for name in relus])
    before_pool = torch.from_numpy(values[relus[0]])
    _, winners = torch.nn.functional.max_pool2d(before_pool, 3, stride=2, padding=1, return_indices=True)
    monkeypatch.setattr(torch.nn.ReLU, "forward", lambda _, x: x * next(open_gates))
    monkeypatch.setattr(
        torch.nn.MaxPool2d,
        "forward",
        lambda _, x: x.flatten(2).gather(2, winners.flatten(2)).reshape(winners.shape),
    )


def test_every_batchnorm_was_folded(served):
    _, engine = served
    description = engine.inspect("resnet50")
    assert sum(rewrite.startswith("folded") for rewrite in description.rewrites) == 53
    assert description.rewrite_error < TOLERANCE["float32 network"]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_in_float64(tmp_path, seed):
    """The network as a float64 file: folded, differentiated, and then evaluated by others, next to autograd of the whole.

    Nothing is fixed here: float64 puts no ReLU on another side. onnxruntime has no float64 convolution on CPUs.
    """
    network = resnet.resnet50(seed=seed).double()
    export(network, tmp_path / "resnet50.onnx")
    model = gradient_graph(tmp_path / "resnet50.onnx", UNIT)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    image = resnet.photograph()
    evaluator = ReferenceEvaluator(model, new_ops=torch_ops.TORCH_OPS)
    (gradient,) = evaluator.run(["grad/image"], {"image": image.astype(np.float64)})
    assert relative_error(gradient, float64_gradient(network, image)) < TOLERANCE["float64 network"]


def test_gradient_equals_float64_autograd(served, monkeypatch):
    network, engine = served
    image = resnet.photograph()
    on_the_same_piece(monkeypatch, engine, image)
    result = engine.gradient("resnet50", {"image": image}, UNIT)
    expected = float64_gradient(network, image)
    assert np.linalg.norm(expected) > 0.1  # a gradient that has vanished proves nothing
    assert relative_error(result.gradients["image"], expected) < TOLERANCE["full-size network"]


def test_fifty_ascent_steps_through_the_server(served):
    _, engine = served
    with Server(engine, ServerConfig(port=0)) as server, gradserve.Client(server.address) as client:
        steps = list(
            client.ascend(
                "resnet50",
                UNIT,
                steps=50,
                start=resnet.photograph()[0],
                optimizer=Sgd(0.02),
                gradient_normalization="rms",
            )
        )
    assert [step.index for step in steps] == list(range(51))
    assert steps[-1].stop_reason is StopReason.FINISHED
    assert steps[-1].image.shape == (1, 3, 224, 224)
    assert steps[-1].value > steps[0].value + 1
