"""`gradserve export`: five architectures through the command, verified, served over gRPC, differentiated."""

import importlib
import json

import numpy as np
import pytest
from support.reference import relative_error
from support.tolerances import TOLERANCE

import gradserve
from gradserve import objectives as O
from gradserve.cli import main
from gradserve_server import Engine, ServerConfig
from gradserve_server.rpc.app import Server

torch = pytest.importorskip("torch", reason="an exporter and the float64 oracle: scripts/test --torch installs it")
pytest.importorskip("transformers", reason="the architectures: scripts/test --torch installs it")
models = importlib.import_module("support.exporting.transformers_models")  # not skipped: transformers that break are told
pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]

SUBJECT = "support.exporting.transformers_models:make"
NETWORK = TOLERANCE["full-size network"]  # of as many layers, whatever their width
EXPORTS = [
    *((name, "dynamo") for name in models.ARCHITECTURES),
    *((name, "torchscript") for name in ("mobilenet", "bert")),
]


def shapes(name):
    kinds = {"attention_mask": ":int64"}
    inputs = models.ARCHITECTURES[name][2]
    return ["x".join(map(str, (1, *shape))).join([f"{key}=", kinds.get(key, "")]) for key, shape in inputs.items()]


def float64(name, feeds, unit):
    """The logits, and the gradient of one of them with respect to the first input, by autograd."""
    network = models.make(name).double()
    inputs = {key: torch.from_numpy(array) for key, array in feeds.items()}
    first = next(iter(inputs))
    inputs[first] = inputs[first].double().requires_grad_()
    logits = network(**inputs).logits
    (gradient,) = torch.autograd.grad(logits[:, unit].sum(), inputs[first])
    return first, logits.detach().numpy(), gradient.numpy()


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return tmp_path_factory.mktemp("repository")


@pytest.fixture(scope="module")
def exported(repository):
    """What the command said of each, by name and exporter."""
    said = {}
    for name, exporter in EXPORTS:
        with pytest.MonkeyPatch.context() as patch:
            printed = []
            patch.setattr("sys.stdout.write", printed.append)
            arguments = ["export", SUBJECT, "--set", f"name={name}", "--name", f"{name}_{exporter}"]
            code = main([*arguments, "--exporter", exporter, "--input", *shapes(name), "-o", str(repository), "--json"])
        assert code == 0, (name, exporter)
        said[name, exporter] = json.loads("".join(printed))
    return said


@pytest.fixture(scope="module")
def client(exported, repository):
    del exported
    with (
        Engine(repository) as engine,
        Server(engine, ServerConfig(port=0)) as server,
        gradserve.Client(server.address) as client,
    ):
        yield client


@pytest.mark.parametrize(("name", "exporter"), EXPORTS)
def test_the_report_has_every_output_and_gradient(exported, name, exporter):
    report = exported[name, exporter]
    first = next(iter(models.ARCHITECTURES[name][2]))
    assert [check["what"] for check in report["checks"]] == ["logits", f"d logits / d {first}"]
    for check in report["checks"]:
        assert check["difference"] <= check["allowed"]
        assert check["doubt"] < check["allowed"]
        assert not check["is_zero"]
    assert report["exporter"] == exporter
    assert any(note.startswith("in training form") for note in report["notes"])


@pytest.mark.parametrize(("name", "exporter"), EXPORTS)
def test_an_exported_architecture_is_served_and_differentiated(client, name, exporter):
    feeds = {key: tensor.numpy() for key, tensor in models.draw(name, 2, seed=7).items()}
    first, logits, gradient = float64(name, feeds, unit=2)
    model = f"{name}_{exporter}"
    assert relative_error(client.infer(model, feeds)["logits"], logits) < NETWORK
    got = client.gradient(model, feeds, O.unit("logits", 2), wrt=[first])
    assert np.linalg.norm(gradient) > 1e-3
    assert relative_error(got.gradients[first], gradient) < NETWORK
    assert relative_error(got.values, logits[:, 2]) < NETWORK
