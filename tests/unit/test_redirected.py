"""Redirected gradients against Lucid's rule in torch, and ascents that begin where their unit does not fire."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from support.reference import relative_error
from support.tolerances import TOLERANCE

from gradserve import Noise, StopReason
from gradserve import objectives as O
from gradserve.optimizers import Sgd
from gradserve_server import Engine, EngineConfig
from gradserve_server.graph.autodiff.names import cotangent_name, gradient_name
from gradserve_server.graph.derivatives import Backend, Wanted

RNG = np.random.default_rng(0)
SHAPE = (1, 6, 6)


def weights(*shape):
    return (RNG.standard_normal(shape) * 0.4).astype(np.float32)


INITIALIZERS = {
    "w1": weights(4, 1, 3, 3),
    "b1": np.float32([-0.5, 0.2, -3.0, 0.1]),
    "low": np.float32(0.0),
    "high": np.float32(6.0),
    "w2": weights(3, 4, 3, 3) * 8,
    "b2": np.float32([-20.0, 2.0, 12.0]),
    "w3": weights(5, 3 * 4),
    "b3": np.float32([-2, 0, 0, 30, -0.5]),
}
"""Biases that leave some units of some samples on the flat side of their activations altogether."""


def network():
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["conv1"]),
        helper.make_node("Relu", ["conv1"], ["relu1"]),
        helper.make_node("Conv", ["relu1", "w2", "b2"], ["conv2"]),
        helper.make_node("Clip", ["conv2", "low", "high"], ["relu6"]),
        helper.make_node("Flatten", ["relu6"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["gemm"], transB=1),
        helper.make_node("Relu", ["gemm"], ["units"]),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", *SHAPE])],
        [helper.make_tensor_value_info("units", onnx.TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(array, name) for name, array in INITIALIZERS.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.fixture(scope="module", params=["auto", "portable"])
def small(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("redirected") / "network.onnx"
    onnx.save(network(), path)
    with Engine(path, config=EngineConfig(backend=request.param)) as engine:
        yield engine


def lucids(torch, low, high):
    """Lucid's gradient of a clamp, as an autograd function; it ascends, so signs are the other way round."""

    class Redirected(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.clamp(low, high)

        @staticmethod
        def backward(ctx, gradient):
            (x,) = ctx.saved_tensors
            loss = -gradient
            flat = (x < low) | (x > high) if high is not None else x < low
            relu_grad = torch.where(flat, torch.zeros_like(loss), loss)
            filtered = (x < low) & (loss > 0)
            if high is not None:
                filtered |= (x > high) & (loss < 0)
            redirected_grad = torch.where(filtered, torch.zeros_like(loss), loss)
            magnitude = relu_grad.reshape(len(x), -1).norm(dim=1).reshape(-1, *[1] * (x.ndim - 1))
            return -torch.where(magnitude > 0, relu_grad, redirected_grad)

    return Redirected.apply


def oracle(torch, images, cotangent, *, redirect):
    x = torch.tensor(images, dtype=torch.float64, requires_grad=True)
    w = {name: torch.tensor(array, dtype=torch.float64) for name, array in INITIALIZERS.items()}
    relu = lucids(torch, 0, None) if redirect else torch.relu
    relu6 = lucids(torch, 0, 6) if redirect else (lambda y: y.clamp(0, 6))
    conv = torch.nn.functional.conv2d
    values = relu6(conv(relu(conv(x, w["w1"], w["b1"])), w["w2"], w["b2"]))
    units = relu(values.flatten(1) @ w["w3"].T + w["b3"])
    units.backward(torch.tensor(cotangent, dtype=torch.float64))
    return x.grad.numpy(), units.detach().numpy()


def ours(engine, images, cotangent, *, redirect):
    plan = engine.model("network").plan(Wanted(("x",), ("units",), redirect_relu=redirect))
    assert not redirect or plan.choice.backend is Backend.PORTABLE
    return plan.run({"x": images}, {cotangent_name("units"): cotangent})[gradient_name("x")]


@pytest.mark.torch
@pytest.mark.parametrize("redirect", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_gradients_are_lucids_sample_by_sample(small, seed, redirect):
    import torch

    rng = np.random.default_rng(seed)
    # Dim and bright ones side by side: of some every activation passes something, of others none.
    images = (rng.standard_normal((12, *SHAPE)) * np.geomspace(0.01, 30, 12).reshape(-1, 1, 1, 1)).astype(np.float32)
    cotangent = np.zeros((12, 5), np.float32)
    cotangent[np.arange(12), rng.integers(0, 5, 12)] = rng.choice([-1, 1], 12)
    expected, _ = oracle(torch, images, cotangent, redirect=redirect)
    got = ours(small, images, cotangent, redirect=redirect)
    assert relative_error(got, expected) < TOLERANCE["float32 operator"]
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=TOLERANCE["float32 operator"] * max(np.abs(other).max(), 1e-30))
    plain, _ = oracle(torch, images, cotangent, redirect=False)
    changed = np.abs(plain - expected).max(axis=(1, 2, 3)) > 0
    assert changed.any() == redirect
    assert not changed.all()


def test_a_sample_does_not_see_its_company(small):
    contrast = np.float32([0.01, 5, 0.01, 20, 1, 0.1]).reshape(-1, 1, 1, 1)
    images = np.random.default_rng(1).standard_normal((6, *SHAPE)).astype(np.float32) * contrast
    cotangent = np.ones((6, 5), np.float32) * np.float32([1, -1, 0, 1, 1])
    together = ours(small, images, cotangent, redirect=True)
    for n in range(6):
        alone = ours(small, images[n : n + 1], cotangent[n : n + 1], redirect=True)
        assert relative_error(alone[0], together[n]) < TOLERANCE["another batch size"]


DEAD = {"steps": 120, "start": Noise(0.01), "optimizer": Sgd(0.5), "gradient_normalization": "l2", "count": 2}
"""Unit 0 does not fire for dim images."""


def test_a_dead_start_is_dead_without_and_alive_with(small):
    *_, dead = small.ascend("network", O.unit("units", 0), **DEAD)
    assert (dead.stop_reason, dead.dead.all(), dead.value) == (StopReason.DEAD, True, 0.0)
    first, *_, last = small.ascend("network", O.unit("units", 0), **DEAD, redirect_relu_steps=100)
    assert first.gradient_norm > 0
    assert last.value > 0
    assert (last.stop_reason, last.dead.any()) == (StopReason.FINISHED, False)


def test_only_the_first_steps_are_redirected(small):
    steps = list(small.ascend("network", O.unit("units", 0), **DEAD, redirect_relu_steps=5))
    norms = [step.gradient_norm > 0 for step in steps]
    assert norms == [True] * 5 + [False] * (DEAD["steps"] - 4)
    more = list(small.ascend("network", O.unit("units", 0), **{**DEAD, "steps": 5}, redirect_relu_steps=99))
    assert [step.gradient_norm > 0 for step in more] == [True] * 5 + [False]
    plain = small.ascend("network", O.unit("units", 3), **DEAD)
    assert [step.values.tobytes() for step in plain] != [step.values.tobytes() for step in steps]


def test_it_goes_on_with_the_same_bytes(small):
    settings = {**DEAD, "steps": 20, "redirect_relu_steps": 8, "image_every": 1}
    whole = list(small.ascend("network", O.unit("units", 0), checkpoint_every=1, **settings))
    for index in (0, 7, 8, 9, 20):
        again = list(small.ascend("network", O.unit("units", 0), resume=whole[index].checkpoint, **settings))
        assert [step.image.tobytes() for step in again] == [step.image.tobytes() for step in whole[index:]]


def test_where_everything_fires_nothing_changes(engine):
    """The digits model, from an image that wakes it: redirected or not, the same picture but for the last bits."""
    settings = {"steps": 10, "start": 0.5, "optimizer": Sgd(1.0)}
    *_, plain = engine.ascend("digits", O.unit("logits", 7), **settings)
    *_, redirected = engine.ascend("digits", O.unit("logits", 7), redirect_relu_steps=17, **settings)
    assert relative_error(redirected.image, plain.image) < TOLERANCE["steps with another batch size"]
