"""Images that stay on a device, of models of every form. As in test_resident.py, the device is the processor, too."""

import numpy as np
import pytest
from support.onnx_models import build, random, save
from support.reference import relative_error
from support.tolerances import TOLERANCE

from gradserve import StopReason
from gradserve import objectives as O
from gradserve.numbers import Linear
from gradserve.stopping import Probability
from gradserve_server import Engine
from gradserve_server.ascent import canvases
from gradserve_server.ascent.canvas import is_plain

PLANES = {"W": random(4, 3, 3, 3), "planes": np.array([2, 3])}
COLOURS = {"range": "0 1", "mean": "0.1 0.2 0.3", "std": "0.5 0.6 0.7"}

MODELS = {
    "wide images": (
        build(
            "h = Conv(x, W) s = ReduceMean<keepdims = 0>(h, planes) y = Tanh(s)",
            inputs="float[N,3,5,9] x",
            outputs="float[N,4] y",
            weights=PLANES,
            opset=18,
        ),
        {"layout": "NCHW", **COLOURS},
        {"jitter": 7},
    ),
    "channels last": (
        build(
            "t = Transpose<perm = [0, 3, 1, 2]>(x) h = Conv(t, W) s = ReduceMean<keepdims = 0>(h, planes) y = Tanh(s)",
            inputs="float[N,9,5,3] x",
            outputs="float[N,4] y",
            weights=PLANES,
            opset=18,
        ),
        {"layout": "NHWC", **COLOURS},
        {"jitter": 7},
    ),
    "vectors of a fixed batch": (
        build("h = MatMul(x, W) y = Tanh(h)", inputs="float[2,9] x", outputs="float[2,4] y", weights={"W": random(9, 4)}),
        {},
        {"jitter": 2},
    ),
    "more inputs": (
        build(
            "h = MatMul(x, W) e = Gather(E, t) a = Add(h, e) m = Mul(a, gain) c = Cast<to = 1>(on) y = Mul(m, c)",
            inputs="float[N,9] x, int64[N] t, float gain, bool[1] on",
            outputs="float[N,4] y",
            weights={"W": random(9, 4), "E": random(7, 4)},
        ),
        {},
        {"inputs": {"t": np.array([3, 1]), "gain": np.float32(2), "on": np.array([True])}},
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_an_ascent_is_that_of_the_processor_whatever_the_model_takes(name, tmp_path, monkeypatch):
    proto, described, settings = MODELS[name]
    objective = Linear(2.0, 0.5) * O.unit("y", 1) + 0.5 * O.unit("y", 2)
    settings = {"input": "x", "steps": 5, "count": 2, "image_every": 1, "redirect_relu_steps": 2, **settings}
    settings["stop_at"] = Probability(1.0, layer="y", index=1)
    images = {f"x.{key}": text for key, text in described.items()}
    with Engine(save(proto, tmp_path / "model.onnx"), images=images) as engine:
        here = list(engine.ascend("model", objective, **settings))
        monkeypatch.setattr(canvases, "stays", lambda spec, _: is_plain(spec))
        there = list(engine.ascend("model", objective, **settings))
    assert len({step.image.tobytes() for step in here}) == len(here) == 6
    for expected, got in zip(here, there, strict=True):
        assert relative_error(got.image, expected.image) < TOLERANCE["float32 network"]
        assert relative_error(got.gradient_norms, expected.gradient_norms) < TOLERANCE["float32 network"]
        np.testing.assert_allclose(got.values, expected.values, rtol=0, atol=TOLERANCE["float32 network"])
        np.testing.assert_allclose(got.measured, expected.measured, rtol=0, atol=TOLERANCE["float32 network"])


def test_images_that_no_gradient_moves_are_dead(tmp_path, monkeypatch):
    monkeypatch.setattr(canvases, "stays", lambda spec, _: is_plain(spec))
    proto = build(
        "h = Neg(x) r = Relu(h) y = MatMul(r, W)", inputs="float[N,9] x", outputs="float[N,4] y", weights={"W": random(9, 4)}
    )
    start = np.stack([np.ones(9), -np.ones(9)]).astype(np.float32)
    with Engine(save(proto, tmp_path / "model.onnx")) as engine:
        *_, last = engine.ascend("model", O.unit("y", 1), steps=2, count=2, start=start)
        assert last.dead.tolist() == [True, False]
        *_, last = engine.ascend("model", O.unit("y", 1), steps=2, start=start[0])
        assert last.stop_reason is StopReason.DEAD
