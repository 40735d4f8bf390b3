"""The configuration that clients are told: config.pbtxt's, completed from the graph and held against it."""

import pytest
from support.onnx_models import build, save

from gradserve.errors import InvalidModel
from gradserve_server import Engine


def served(tmp_path, config=None, *, inputs="float[N,3,H,4] x", outputs="float[N,3,H,4] y"):
    save(build("y = Relu(x)", inputs=inputs, outputs=outputs), tmp_path / "m" / "1" / "model.onnx")
    if config is not None:
        (tmp_path / "m" / "config.pbtxt").write_text(config)
    with Engine(tmp_path) as engine:
        return engine.model("m").config


def dims(config):
    return [(entry.name, list(entry.dims)) for entry in (*config.input, *config.output)]


def test_without_a_file_all_is_the_graphs(tmp_path):
    config = served(tmp_path)
    assert dims(config) == [("x", [-1, 3, -1, 4]), ("y", [-1, 3, -1, 4])]
    assert (config.name, config.max_batch_size, config.default_model_filename) == ("m", 0, "model.onnx")


def test_a_file_by_itself_is_named(tmp_path):
    save(build("y = Relu(x)"), tmp_path / "net.onnx")
    with Engine(tmp_path / "net.onnx") as engine:
        assert engine.model("net").config.default_model_filename == "net.onnx"


def test_sizes_do_not_count_the_batch(tmp_path):
    assert dims(served(tmp_path, "max_batch_size: 8")) == [("x", [3, -1, 4]), ("y", [3, -1, 4])]


def test_what_the_graph_leaves_open_the_file_says(tmp_path):
    config = served(
        tmp_path, 'max_batch_size: 8 input { name: "x" data_type: TYPE_FP32 dims: [3, 5, -1] format: FORMAT_NCHW }'
    )
    assert dims(config) == [("x", [3, 5, 4]), ("y", [3, -1, 4])]
    assert config.input[0].format == 2


def test_the_order_is_the_graphs(tmp_path):
    save(
        build("y = Add(a, b)", inputs="float[N,2] a, float[N,2] b", outputs="float[N,2] y"),
        tmp_path / "m" / "1" / "model.onnx",
    )
    (tmp_path / "m" / "config.pbtxt").write_text('input { name: "b" } input { name: "a" dims: [-1, 2] }')
    with Engine(tmp_path) as engine:
        assert [entry.name for entry in engine.model("m").config.input] == ["a", "b"]


def test_other_fields_stay(tmp_path):
    config = served(
        tmp_path, 'dynamic_batching {} version_policy { all {} } parameters { key: "k" value { string_value: "v" } }'
    )
    assert config.WhichOneof("scheduling_choice") == "dynamic_batching"
    assert config.version_policy.WhichOneof("policy_choice") == "all"
    assert config.parameters["k"].string_value == "v"


def test_a_reshape_is_told_as_the_shape_that_the_graph_takes(tmp_path):
    config = served(tmp_path, 'input { name: "x" dims: [1] reshape { shape: [-1, 3, 7, 4] } }')
    assert dims(config)[0] == ("x", [-1, 3, 7, 4])
    assert not config.input[0].HasField("reshape")


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ('input { name: "z" }', "input 'z': expected one of 'x'"),
        ('output { name: "x" }', "output 'x': expected one of 'y'"),
        (
            'input { name: "x" data_type: TYPE_INT8 dims: [-1, 3, -1, 4] }',
            r"input 'x': expected TYPE_FP32 \[-1, 3, -1, 4\], got TYPE_INT8 \[-1, 3, -1, 4\]",
        ),
        (
            'max_batch_size: 2 input { name: "x" dims: [1, 3, -1, 4] }',
            r"expected TYPE_FP32 \[3, -1, 4\], got TYPE_INVALID \[1",
        ),
        ('output { name: "y" dims: [-1, 3, -1, 5] }', r"output 'y': expected TYPE_FP32 \[-1, 3, -1, 4\]"),
        ("max_batch_size: -1", "max_batch_size: expected 0 or more, got -1"),
    ],
)
def test_contradictions(tmp_path, config, text):
    with pytest.raises(InvalidModel, match=text) as error:
        served(tmp_path, config)
    assert str(error.value).startswith("model 'm': config.pbtxt: ")


def test_batches_of_a_graph_that_has_none(tmp_path):
    with pytest.raises(InvalidModel, match="input 'x': expected a first axis of any size, .* got 1"):
        served(tmp_path, "max_batch_size: 8", inputs="float[1,3] x", outputs="float[1,3] y")
