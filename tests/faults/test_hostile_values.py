"""Values of a stranger: each request is answered, or refused with a sentence, by a server that goes on."""

import json
import os
import resource
import subprocess
import sys

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.hostile import HOSTILE
from support.onnx_models import build, save
from support.paths import WITH_TESTS
from support.server_process import ServerProcess

import gradserve
from gradserve import TensorDescription
from gradserve.errors import InvalidTensor
from gradserve_server import Engine
from gradserve_server.runtime.feeds import CRASH_ON_EMPTY, check_feeds, crashes_on_empty

MEMORY = 8 * 2**30
"""Of the child process: what asks for petabytes is then refused at once, on every machine."""

SAMPLES = np.array([7, -7, np.iinfo(np.int64).min]), np.array([2, 3, 5])
QUOTIENTS, REMAINDERS = [3, -2, -1844674407370955161], [1, 2, 2]


def test_no_row_ends_the_process(tmp_path):
    """All rows in one process, which says what became of each."""
    limit = (MEMORY, MEMORY)
    child = subprocess.run(
        [sys.executable, "-m", "support.hostile", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | WITH_TESTS,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, limit),
    )
    ends = dict(map(json.loads, child.stdout.splitlines()))
    assert (child.returncode, list(ends)) == (0, list(HOSTILE)), (
        f"{child.returncode} after {list(ends)[-1:]}: {child.stderr}"
    )
    wrong = {name: end for name, end in ends.items() if set(end) - {"answered", "RunFailed"}}
    assert not wrong
    assert all(set(end) == {"answered"} for name, end in ends.items() if name.startswith(("Div", "Mod", "Loop")))


@pytest.fixture(scope="module")
def dividing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    inputs, outputs = "int64[N] a, int64[N] b", "int64[N] q, int64[N] r"
    save(build("q = Div(a, b) r = Mod(a, b)", inputs=inputs, outputs=outputs), folder / "divide/1/model.onnx")
    with ServerProcess(repository=folder) as process:
        yield process


@pytest.mark.parametrize("divisors", [[0, 0, 0], [-1, -1, -1], [0, -1, 2]], ids=str)
def test_a_server_divides_by_zero_and_answers_the_next(dividing, divisors):
    a, b = SAMPLES
    with gradserve.Client(dividing.address) as client:
        hostile = client.infer("divide", {"a": a, "b": np.array(divisors)})
        good = client.infer("divide", {"a": a, "b": b})
    assert dividing.alive, dividing.log()
    zero = np.array(divisors) == 0
    assert (hostile["q"][zero] == 0).all()
    assert (hostile["r"][zero] == 0).all()
    np.testing.assert_array_equal(good["q"], QUOTIENTS)
    np.testing.assert_array_equal(good["r"], REMAINDERS)


def test_what_was_guarded_is_told(dividing):
    with gradserve.Client(dividing.address) as client:
        rewrites = client.inspect("divide").rewrites
    assert "guarded 2 integer divisions against divisors of 0 and -1" in rewrites


@pytest.mark.parametrize("operator", sorted(CRASH_ON_EMPTY))
def test_no_empty_axis_comes_near_an_operator_that_crashes_on_it(operator):
    node = ir.node(operator, [], name="n")
    model = ir.Model(ir.Graph([], [], nodes=[node], opset_imports={"": 20}), ir_version=10)
    assert crashes_on_empty(model) == operator
    tensor = TensorDescription("x", "float32", ("N", 3))
    text = rf"^input 'x': expected no axis of size 0, because of operator {operator}, got \[0, 3\]$"
    with pytest.raises(InvalidTensor, match=text):
        check_feeds([tensor], {"x": np.zeros((0, 3), np.float32)}, crashes_on_empty(model))
    assert check_feeds([tensor], {"x": np.zeros((0, 3), np.float32)})["x"].shape == (0, 3)


def test_a_recurrent_network_survives_an_empty_batch(tmp_path):
    weights = {"w": (1, 8, 3), "r": (1, 8, 2)}
    graph = helper.make_graph(
        [helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=2)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, "N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 1, "N", 2])],
        [numpy_helper.from_array(np.full(shape, 0.1, np.float32), name) for name, shape in weights.items()],
    )
    file = tmp_path / "recurrent.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    with Engine(file) as engine:
        with pytest.raises(InvalidTensor, match="because of operator LSTM"):
            engine.infer("recurrent", {"x": np.zeros((4, 0, 3), np.float32)})
        assert engine.infer("recurrent", {"x": np.ones((4, 1, 3), np.float32)})["y"].shape == (4, 1, 1, 2)
