"""Masks in bits: which activations are let go, and that gradients are the same to the last bit."""

import numpy as np
import onnx_ir as ir
import pytest
from support.onnx_models import build, random
from support.tuned import BLOCKS, OURS

from gradserve import objectives as O
from gradserve_server.gradient_graph import derive_file
from gradserve_server.graph.tuning import tune
from gradserve_server.graph.tuning.fused import packed
from gradserve_server.runtime.session import Session

ACTIVATIONS = {
    "Relu": "Relu({})",
    "ReLU6": "Clip({}, low, high)",
}
WEIGHTS = {
    **{f"W{i}": random(32, 32, 1, 1, seed=i) / 6 for i in range(6)},
    "low": np.array(0, np.float32),
    "high": np.array(0.5, np.float32),
}


def network(activation, size=32):
    """Six convolutions, an activation after each."""
    layers = [f"h{i} = Conv({f'a{i - 1}' if i else 'x'}, W{i}) a{i} = {activation.format(f'h{i}')}" for i in range(6)]
    used = {name: array for name, array in WEIGHTS.items() if f"{name}" in " ".join(layers)}
    image = f"float[N,32,{size},{size}]"
    return build(" ".join(layers) + " y = Neg(a5)", inputs=f"{image} x", outputs=f"{image} y", opset=18, weights=used)


def gradient_of(proto, backend):
    return derive_file(proto, O.channel_energy("y", 1), backend=backend)


def packing(model):
    return sum(any(node.attributes["packed_outputs"].value) for node in model.graph if node.op_type == "Fused")


def tuned(model):
    copy = model.clone()
    tune(copy, BLOCKS)
    return copy


@pytest.mark.parametrize("backend", ["portable", "training"])
@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_gradients_are_the_same_to_the_last_bit(activation, backend, monkeypatch):
    if backend == "training":
        pytest.importorskip("onnxruntime.training")
    model = gradient_of(network(activation), backend)
    bits = tuned(model)
    monkeypatch.setattr(packed, "FEWEST", 2**60)
    numbers = tuned(model)
    assert packing(bits) >= 4
    assert packing(numbers) == 0
    x = random(2, 32, 32, 32)
    x[0, :, 0] = np.nan
    x[0, :, 1] = 0
    x[0, :, 2] = np.inf
    expected, got = (Session(graph, 2).run({"x": x})["grad/x"] for graph in (numbers, bits))
    assert np.isnan(expected).any()
    assert (expected[1] != 0).any()
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_nothing_large_lives_from_forward_to_backward(activation):
    model = tuned(gradient_of(network(activation), "portable"))
    nodes = {node: place for place, node in enumerate(model.graph)}
    for node in list(nodes)[: len(nodes) // 3]:
        for value in node.outputs:
            if isinstance(value.shape, ir.Shape) and value.shape.rank() == 4:
                assert max(nodes[user] for user, _ in value.uses()) < nodes[node] + 8, value.name


def test_small_activations_are_kept():
    assert packing(tuned(gradient_of(network("Relu({})", size=31), "portable"))) == 0


def test_an_activation_that_is_read_later_is_kept():
    proto = network("Relu({})")
    body = build(
        "h = Conv(x, W0) a = Relu(h) s = Mul(a, a) y = Conv(s, W1)", inputs="float[N,32,32,32] x",
        outputs="float[N,32,32,32] y", opset=18, weights={name: WEIGHTS[name] for name in ("W0", "W1")},
    )  # fmt: skip
    assert packing(tuned(gradient_of(proto, "portable"))) > 0
    assert packing(tuned(gradient_of(body, "portable"))) == 0


@pytest.mark.parametrize("size", [32, 33])
@pytest.mark.parametrize("machine", [BLOCKS, OURS], ids=["blocks", "plain"])
def test_rows_that_are_no_whole_words(machine, size, monkeypatch):
    """A number for each channel makes rows of 32 x 32 or 33 x 33 numbers, where they do not lie in blocks."""
    layers = [f"h{i} = Conv({f's{i - 1}' if i else 'x'}, W{i}) a{i} = Relu(h{i}) s{i} = Mul(a{i}, c)" for i in range(6)]
    weights = {name: WEIGHTS[name] for name in WEIGHTS if name.startswith("W")} | {"c": random(1, 32, 1, 1)}
    image = f"float[N,32,{size},{size}]"
    proto = build(" ".join(layers) + " y = Neg(s5)", inputs=f"{image} x", outputs=f"{image} y", opset=18, weights=weights)
    model = gradient_of(proto, "portable")
    bits, numbers = model.clone(), model.clone()
    tune(bits, machine)
    monkeypatch.setattr(packed, "FEWEST", 2**60)
    tune(numbers, machine)
    assert packing(bits) >= 4
    x = random(3, 32, size, size)
    expected, got = (Session(graph, 2).run({"x": x})["grad/x"] for graph in (numbers, bits))
    np.testing.assert_array_equal(got, expected)
