"""Networks of activations whose masks are kept in bits, and their gradients with the masks in bits and in numbers."""

import sys
from unittest.mock import patch

import numpy as np
import onnx
from support.onnx_models import build, random
from support.tuned import BLOCKS, OURS

from gradserve import objectives as O
from gradserve_server.gradient_graph import derive_file
from gradserve_server.graph.tuning import tune
from gradserve_server.graph.tuning.fused import packed
from gradserve_server.runtime.session import Session

LAYERS = 6
ACTIVATIONS = {
    "Relu": "a{0} = Relu(h{0})",
    "ReLU6": "a{0} = Clip(h{0}, low, high)",
    "two of one": "n{0} = Neg(h{0}) p{0} = Relu(h{0}) q{0} = Relu(n{0}) a{0} = Add(p{0}, q{0})",
}
"""From h to a."""
WEIGHTS = {
    **{f"W{i}": random(32, 32, 1, 1, seed=i) / 6 for i in range(LAYERS)},
    "low": np.array(0, np.float32),
    "high": np.array(0.5, np.float32),
}
MACHINES = {"blocks": BLOCKS, "plain": OURS}


def network(activation, size=32):
    """Convolutions, an activation after each."""
    layers = [f"h{i} = Conv({f'a{i - 1}' if i else 'x'}, W{i}) {activation.format(i)}" for i in range(LAYERS)]
    used = {name: array for name, array in WEIGHTS.items() if f"{name}" in " ".join(layers)}
    image = f"float[N,32,{size},{size}]"
    body = f"{' '.join(layers)} y = Neg(a{LAYERS - 1})"
    return build(body, inputs=f"{image} x", outputs=f"{image} y", opset=18, weights=used)


def scaled_network(size):
    """The same, where a number for each channel makes rows of `size` x `size` numbers, unless they lie in blocks."""
    layers = [f"h{i} = Conv({f's{i - 1}' if i else 'x'}, W{i}) a{i} = Relu(h{i}) s{i} = Mul(a{i}, c)" for i in range(LAYERS)]
    weights = {name: WEIGHTS[name] for name in WEIGHTS if name.startswith("W")} | {"c": random(1, 32, 1, 1)}
    image = f"float[N,32,{size},{size}]"
    return build(" ".join(layers) + " y = Neg(s5)", inputs=f"{image} x", outputs=f"{image} y", opset=18, weights=weights)


def packing(model):
    """How many of its programs write bits."""
    return sum(any(node.attributes["packed_outputs"].value) for node in model.graph if node.op_type == "Fused")


def in_numbers_and_bits(proto: onnx.ModelProto, machine, backend="portable"):
    """The tuned gradient of `y`, with its masks in numbers and in bits."""
    model = derive_file(proto, O.channel_energy("y", 1), backend=backend)
    numbers, bits = model.clone(), model.clone()
    with patch.object(packed, "FEWEST", 2**60):
        tune(numbers, machine)
    tune(bits, machine)
    assert packing(bits) >= 4
    assert packing(numbers) == 0
    return numbers, bits


def image(size):
    """Three samples with what a mask may meet."""
    x = random(3, 32, size, size)
    x[0, :, 0] = np.nan
    x[0, :, 1] = 0
    x[0, :, 2] = np.inf
    return x


def gradients(graphs, size):
    """With respect to such an image."""
    return [Session(graph, 2).run({"x": image(size)})["grad/x"] for graph in graphs]


CASES = {
    **{f"{name} {size}": (network(activation, size), size) for name, activation in ACTIVATIONS.items() for size in (32, 33)},
    **{f"scaled {size}": (scaled_network(size), size) for size in (32, 33)},
}

if __name__ == "__main__":
    made = {}
    for name, (proto, size) in CASES.items():
        for layout, machine in MACHINES.items():
            numbers, bits = gradients(in_numbers_and_bits(proto, machine), size)
            made |= {f"{name}, {layout}, numbers": numbers, f"{name}, {layout}, bits": bits}
    np.savez(sys.argv[1], **made)
