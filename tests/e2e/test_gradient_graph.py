"""A gradient as a file: made by the command or in Python, run by onnxruntime and by onnx's reference evaluator."""

import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator
from support import golden
from support.onnx_models import build, random, save
from support.paths import MODELS
from support.reference import relative_error
from support.tolerances import TOLERANCE

from gradserve import objectives as O
from gradserve.errors import InvalidObjective, UnknownInput
from gradserve_server import Engine, gradient_graph, save_gradient_graph
from gradserve_server.graph.autodiff import ort_training

DIGITS = MODELS / "digits" / "1" / "model.onnx"
OPEN = "h = Conv<pads = [1, 1, 1, 1]>(x, w) r = Relu(h) s = Softplus(r) y = GlobalAveragePool(s)"


CLI = [sys.executable, "-m", "gradserve.cli"]
NETWORK = TOLERANCE["float32 network"]


def command(*arguments):
    return subprocess.run([*CLI, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)


def run(model, feeds):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return dict(zip([out.name for out in session.get_outputs()], session.run(None, feeds), strict=True))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A convolution whose sizes are all open."""
    model = build(OPEN, inputs="float[N,3,H,W] x", outputs="float[N,4,1,1] y", opset=18, weights={"w": random(4, 3, 3, 3)})
    return save(model, tmp_path_factory.mktemp("small") / "small.onnx")


BACKENDS = ["portable", *(["training"] if ort_training.available() else [])]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_command_writes_what_the_engine_computes(tmp_path, engine, backend):
    path = tmp_path / "seven.grad.onnx"
    asked = ("--objective", "logits:7", "--backend", backend)
    done = command("gradient-graph", MODELS / "digits", *asked, "-o", path, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [tensor["name"] for tensor in document["outputs"]] == ["objective/value", "grad/image"]
    assert not any("." in operator for operator in document["operators"]), "only standard operators"
    onnx.checker.check_model(path, full_check=True)
    got = run(path, {"image": golden.digits()})
    expected = engine.gradient("digits", {"image": golden.digits()}, O.unit("logits", 7))
    assert relative_error(got["objective/value"], expected.values) < NETWORK
    assert relative_error(got["grad/image"], expected.gradients["image"]) < NETWORK


@pytest.mark.parametrize("text", ["h:2", "h:2^2", "r:1@2,3", "r", "y:3"])
def test_the_same_in_onnxruntime_and_in_the_reference_evaluator(small, text):
    model = gradient_graph(small, text, shapes={"x": ["N", 3, 5, 6]})
    onnx.checker.check_model(model, full_check=True)
    x = random(2, 3, 5, 6, seed=4)
    got = run(model.SerializeToString(), {"x": x})
    with np.errstate(over="ignore"):
        values, gradient = ReferenceEvaluator(model).run(["objective/value", "grad/x"], {"x": x})
    with Engine(small) as engine:
        from gradserve.objectives import parse

        expected = engine.gradient("small", {"x": x}, parse(text, {"h": 4, "r": 4, "y": 4}))
    for one in ({"objective/value": values, "grad/x": gradient}, got):
        assert relative_error(one["objective/value"], expected.values) < NETWORK
        assert relative_error(one["grad/x"], expected.gradients["x"]) < NETWORK


def test_cotangents_tangents_and_second_derivatives(small, tmp_path):
    x, t, v = random(2, 3, 5, 6, seed=4), random(2, 3, 5, 6, seed=5), random(2, 4, 1, 1, seed=6)
    with Engine(small) as engine:
        _, pulled = engine.vjp("small", {"x": x}, {"y": v})
        _, pushed = engine.jvp("small", {"x": x}, {"x": t})
        curved = engine.hvp("small", {"x": x}, O.unit("y", 1), {"x": t})
    paths = {kind: tmp_path / f"{kind}.onnx" for kind in ("vjp", "jvp", "hvp")}
    assert command("gradient-graph", small, "--cotangent", "y", "-o", paths["vjp"]).returncode == 0
    assert command("gradient-graph", small, "--tangent", "y", "-o", paths["jvp"]).returncode == 0
    shape = ("--shape", "x=N,3,5,6")
    assert command("gradient-graph", small, "--objective", "y:1", "--hvp", *shape, "-o", paths["hvp"]).returncode == 0
    assert relative_error(run(paths["vjp"], {"x": x, "cotangent/y": v})["grad/x"], pulled["x"]) < NETWORK
    assert relative_error(run(paths["jvp"], {"x": x, "tangent/x": t})["tangent/y"], pushed["y"]) < NETWORK
    got = run(paths["hvp"], {"x": x, "tangent/x": t})
    assert relative_error(got["hvp/x"], curved.products["x"]) < NETWORK


def test_a_model_in_memory_needs_no_file():
    model = gradient_graph(onnx.load(DIGITS), O.unit("logits", 7) - O.unit("logits", 1))
    assert [out.name for out in model.graph.output] == ["objective/value", "grad/image"]


def test_large_weights_go_to_a_file_beside_it(small, tmp_path, monkeypatch):
    import importlib

    # The package's attribute of that name is the function.
    monkeypatch.setattr(importlib.import_module("gradserve_server.graph.save"), "EMBEDDED_BYTES", 16)
    save_gradient_graph(small, tmp_path / "out.onnx", layers=["y"])
    assert (tmp_path / "out.onnx.data").stat().st_size >= 4 * 3 * 9 * 4
    assert run(tmp_path / "out.onnx", {"x": random(1, 3, 4, 4), "cotangent/y": random(1, 4, 1, 1)})["grad/x"].any()


def test_what_is_wrong_is_said(small, tmp_path):
    done = command("gradient-graph", small, "--objective", "h:2", "-o", tmp_path / "out.onnx")
    assert done.returncode == 1
    assert "layer 'h': expected sizes known from the file, got" in done.stderr
    assert command("gradient-graph", small, "-o", tmp_path / "out.onnx").returncode == 2
    with pytest.raises(UnknownInput, match="input 'q': expected one of 'x'"):
        gradient_graph(small, "y:1", shapes={"q": [1]})
    with pytest.raises(InvalidObjective, match="expected an objective, or"):
        gradient_graph(small)


def test_inspect_checks_gradients():
    done = command("inspect", MODELS / "digits", "--check-gradient", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["check"]
    assert {check["layer"] for check in found} >= {"relu1", "logits"}
    for check in found:
        assert check["difference"] < 2e-2, check  # of float32 predictions, across kinks
        assert check["adjoint"] < 1e-4, check


def test_the_check_finds_a_wrong_gradient():
    """A verb whose gradient is 1 % too large."""
    from gradserve import checks

    class Wrong:
        def __init__(self, engine):
            self.activations, self.jvp, self._engine = engine.activations, engine.jvp, engine

        def vjp(self, *arguments, **settings):
            outputs, gradients = self._engine.vjp(*arguments, **settings)
            return outputs, {name: np.asarray(g * 1.01, np.float32) for name, g in gradients.items()}

    with Engine(MODELS / "digits") as engine:
        inputs = checks.random_inputs(engine.inspect("digits"), {})
        (right,) = checks.check_gradient(engine, "digits", inputs, ["bn1"])
        (wrong,) = checks.check_gradient(Wrong(engine), "digits", inputs, ["bn1"])
    assert right.difference < 2e-3
    assert wrong.difference > 8e-3
    assert right.adjoint < 1e-5
    assert wrong.adjoint > 8e-3
