"""Masks in bits: which activations are let go, and that gradients are the same to the last bit."""

import numpy as np
import onnx_ir as ir
import pytest
from support.onnx_models import build
from support.packed_masks import (
    ACTIVATIONS,
    CASES,
    LAYERS,
    MACHINES,
    WEIGHTS,
    gradients,
    in_numbers_and_bits,
    network,
    packing,
)
from support.runtime import BACKENDS
from support.targets import TARGETS, by_target
from support.tuned import BLOCKS

from gradserve import objectives as O
from gradserve_server.gradient_graph import derive_file
from gradserve_server.graph.tuning import tune


def gradient_of(proto, backend):
    return derive_file(proto, O.channel_energy("y", 1), backend=backend)


def tuned(model, machine=BLOCKS):
    copy = model.clone()
    tune(copy, machine)
    return copy


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_gradients_are_the_same_to_the_last_bit(activation, backend):
    expected, got = gradients(in_numbers_and_bits(network(activation), BLOCKS, backend), 32)
    assert np.isnan(expected).any()
    assert (expected[1] != 0).any()
    np.testing.assert_array_equal(got, expected)


@pytest.fixture(scope="module")
def on_each_target(tmp_path_factory):
    return by_target("support.packed_masks", tmp_path_factory.mktemp("packed"))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layout", MACHINES)
@pytest.mark.parametrize("name", CASES)
def test_the_instructions_of_each_target_pack_the_same_bits(on_each_target, name, layout, target):
    """Of rows that are whole words, and of such that are not (33 x 33 numbers)."""
    expected, got = (on_each_target[target][f"{name}, {layout}, {form}"] for form in ("numbers", "bits"))
    assert np.isnan(expected).any()
    assert (expected[1:] != 0).any()
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
    assert packing(tuned(gradient_of(network(ACTIVATIONS["Relu"], size=31), "portable"))) == 0


def test_an_activation_that_is_read_later_is_kept():
    proto = network(ACTIVATIONS["Relu"])
    body = build(
        "h = Conv(x, W0) a = Relu(h) s = Mul(a, a) y = Conv(s, W1)", inputs="float[N,32,32,32] x",
        outputs="float[N,32,32,32] y", opset=18, weights={name: WEIGHTS[name] for name in ("W0", "W1")},
    )  # fmt: skip
    assert packing(tuned(gradient_of(proto, "portable"))) > 0
    assert packing(tuned(gradient_of(body, "portable"))) == 0


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_no_program_makes_a_mask_again(activation):
    """Each is made once, where it is packed: again, it would keep what it reads."""
    model = tuned(gradient_of(network(activation), "portable"))
    programs = [node.attributes["program"].value for node in model.graph if node.op_type == "Fused"]
    assert sum(program.count("hard_sigmoid") for program in programs) == LAYERS * (1 + ("q{0}" in activation))


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_a_mask_that_is_an_output_is_kept_in_numbers(machine):
    model = gradient_of(network(ACTIVATIONS["Relu"]), "portable")
    *_, mask = (node.outputs[0] for node in model.graph if node.op_type == "HardSigmoid")  # of the first layer
    model.graph.outputs.append(mask)
    usual = tuned(gradient_of(network(ACTIVATIONS["Relu"]), "portable"), machine)
    assert packing(tuned(model, machine)) == packing(usual) - 1
