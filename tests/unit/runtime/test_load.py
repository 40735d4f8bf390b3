"""From a file to a model in memory, and nothing from outside its folder."""

import hashlib

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from support.onnx_models import build, random, save

from gradserve.errors import InvalidModel
from gradserve_server.graph.inference_form import to_inference_form
from gradserve_server.graph.load import MAX_IR_VERSION, load
from gradserve_server.graph.tuning.fused import BLOCKED, DOMAIN

SECRET = np.full(12, 7, np.float32)


def small(**changes):
    return build("y = Mul(x, w)", inputs="float[N,12] x", outputs="float[N,12] y", weights={"w": SECRET}, **changes)


def external(tensor: onnx.TensorProto, location: str, length: int | None = None) -> None:
    """Makes a tensor point at a file, as a file from a stranger may."""
    for field in ("raw_data", "float_data"):
        tensor.ClearField(field)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": str(length or SECRET.nbytes)}.items():
        tensor.external_data.add(key=key, value=value)


# ---- what loads ------------------------------------------------------------------------------------------------------


def test_a_model_and_its_hash(tmp_path):
    path = save(small(), tmp_path / "model.onnx")
    loaded = load(path)
    assert loaded.path == path
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [node.op_type for node in loaded.model.graph] == ["Mul"]


@pytest.mark.parametrize("ir_version", [3, 8, 10, 11, 13])
def test_the_file_format_is_one_that_the_training_wheel_reads(tmp_path, ir_version):
    assert load(save(small(ir_version=ir_version), tmp_path / "m.onnx")).model.ir_version == min(ir_version, MAX_IR_VERSION)


@pytest.mark.parametrize("opset", [1, 6])
def test_an_opset_that_onnxruntime_does_not_run_is_refused(tmp_path, opset):
    with pytest.raises(InvalidModel, match=rf"^model file 'm\.onnx': expected opset 7 or newer, got {opset}"):
        load(save(small(opset=opset), tmp_path / "m.onnx"))


@pytest.mark.parametrize("domain", [DOMAIN, BLOCKED])
def test_operators_of_the_server_itself_are_refused(tmp_path, domain):
    model = build("y = Neg(x)")
    model.graph.node[0].domain = domain
    model.opset_import.append(onnx.helper.make_opsetid(domain, 1))
    path = save(model, tmp_path / "m.onnx")
    with pytest.raises(InvalidModel, match=f"got domain '{domain}', which is for the server's own"):
        load(path)


def test_functions_are_inlined(tmp_path):
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "local" : 1]> g (float[N] x) => (float[N] y) { y = local.twice(x) }'
        '<domain: "local", opset_import: ["" : 17]> twice (a) => (b) { b = Add(a, a) }'
    )
    loaded = load(save(model, tmp_path / "m.onnx")).model
    assert [node.op_type for node in loaded.graph] == ["Add"]
    assert not loaded.functions


def test_external_data_in_the_folder(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(small(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    model = load(path).model
    (tmp_path / "weights.bin").unlink()
    np.testing.assert_array_equal(model.graph.initializers["w"].const_value.numpy(), SECRET)


def test_external_data_in_a_folder_below(tmp_path):
    model = small()
    external(model.graph.initializer[0], "data/weights.bin")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/weights.bin").write_bytes(SECRET.tobytes())
    loaded = load(save(model, tmp_path / "m.onnx")).model
    np.testing.assert_array_equal(loaded.graph.initializers["w"].const_value.numpy(), SECRET)


# ---- what is no model ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x00" * 100, bytes(range(256)), b"PK\x03\x04", b"\x08\x08"])
def test_a_file_that_is_no_model(tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(InvalidModel, match=r"^model file 'm\.onnx': expected a readable ONNX model, got "):
        load(tmp_path / "m.onnx")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file(tmp_path, share):
    content = small().SerializeToString()
    (tmp_path / "m.onnx").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InvalidModel, match=r"^model file 'm\.onnx': "):
        load(tmp_path / "m.onnx")


@pytest.mark.parametrize("make", [lambda path: path, lambda path: path.mkdir() or path])
def test_no_file(tmp_path, make):
    with pytest.raises(
        InvalidModel, match=r"^model file 'm\.onnx': expected a readable ONNX model, got (FileNotFound|IsADirectory)"
    ):
        load(make(tmp_path / "m.onnx"))


# ---- external data from elsewhere ------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A model folder beside a secret, with two kinds of links to it."""
    (tmp_path / "secret.bin").write_bytes(SECRET.tobytes())
    (tmp_path / "m-evil").mkdir()
    (tmp_path / "m-evil/secret.bin").write_bytes(SECRET.tobytes())
    (tmp_path / "m").mkdir()
    (tmp_path / "m/link.bin").symlink_to(tmp_path / "secret.bin")
    (tmp_path / "m/up").symlink_to(tmp_path)
    return tmp_path / "m"


LOCATIONS = [
    "../secret.bin",
    "{root}/secret.bin",
    "link.bin",
    "up/secret.bin",
    "../m-evil/secret.bin",
    "./../m/../secret.bin",
]


@pytest.mark.parametrize("location", LOCATIONS)
def test_weights_outside_the_folder_are_refused(folder, location):
    model = small()
    external(model.graph.initializer[0], location.format(root=folder.parent))
    with pytest.raises(
        InvalidModel, match=r"^model file 'm\.onnx': expected external data of 'w' in its folder, got another"
    ):
        load(save(model, folder / "m.onnx"))


def in_a_constant() -> tuple[onnx.ModelProto, onnx.TensorProto]:
    model = build("w = Constant<value = float[12] {7}>() y = Mul(x, w)", inputs="float[N,12] x", outputs="float[N,12] y")
    return model, model.graph.node[0].attribute[0].t


def in_a_branch() -> tuple[onnx.ModelProto, onnx.TensorProto]:
    branches = (
        "then_branch = t () => (float[N,12] p) { p = Mul(x, v) }, else_branch = e () => (float[N,12] q) { q = Neg(x) }"
    )
    model = build(f"y = If(c) <{branches}>", inputs="float[N,12] x, bool c", outputs="float[N,12] y")
    then = next(a.g for a in model.graph.node[0].attribute if a.name == "then_branch")
    then.initializer.append(onnx.numpy_helper.from_array(SECRET, "v"))
    return model, then.initializer[0]


def in_a_constant_of_a_branch() -> tuple[onnx.ModelProto, onnx.TensorProto]:
    then = "v = Constant<value = float[12] {7}>() p = Mul(x, v)"
    branches = f"then_branch = t () => (float[N,12] p) {{ {then} }}, else_branch = e () => (float[N,12] q) {{ q = Neg(x) }}"
    model = build(f"y = If(c) <{branches}>", inputs="float[N,12] x, bool c", outputs="float[N,12] y")
    graph = next(a.g for a in model.graph.node[0].attribute if a.name == "then_branch")
    return model, graph.node[0].attribute[0].t


def in_a_function() -> tuple[onnx.ModelProto, onnx.TensorProto]:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "local" : 1]> g (float[N,12] x) => (float[N,12] y) { y = local.f(x) }'
        '<domain: "local", opset_import: ["" : 17]> f (a) => (b) { c = Constant<value = float[12] {7}>() b = Mul(a, c) }'
    )
    return model, model.functions[0].node[0].attribute[0].t


PLACES = [in_a_constant, in_a_branch, in_a_constant_of_a_branch, in_a_function]


@pytest.mark.parametrize("place", PLACES)
def test_tensors_anywhere_in_the_model_are_read_from_its_folder_into_memory(folder, place):
    model, tensor = place()
    external(tensor, "weights.bin")
    (folder / "weights.bin").write_bytes(SECRET.tobytes())
    served = ir.to_proto(to_inference_form(load(save(model, folder / "m.onnx")).model).model)
    assert b"weights.bin" not in served.SerializeToString()
    assert SECRET.tobytes() in served.SerializeToString()


@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("place", PLACES)
def test_tensors_anywhere_else_in_the_model_are_refused_too(folder, place, location):
    model, tensor = place()
    external(tensor, location.format(root=folder.parent))
    with pytest.raises(InvalidModel):
        ir.to_proto(to_inference_form(load(save(model, folder / "m.onnx")).model).model)


def test_a_missing_data_file(tmp_path):
    model = small()
    external(model.graph.initializer[0], "weights.bin")
    with pytest.raises(
        InvalidModel,
        match=r"^model file 'm\.onnx': expected external data of 'w' in its folder, got no file 'weights\.bin'$",
    ):
        load(save(model, tmp_path / "m.onnx"))


def test_a_data_file_that_is_a_folder(tmp_path):
    model = small()
    external(model.graph.initializer[0], "weights.bin")
    (tmp_path / "weights.bin").mkdir()
    with pytest.raises(InvalidModel, match=r"^model file 'm\.onnx': "):
        load(save(model, tmp_path / "m.onnx"))


@pytest.mark.parametrize("size", [0, 4, 47])
def test_a_data_file_that_is_too_short(tmp_path, size):
    model = small()
    external(model.graph.initializer[0], "weights.bin")
    (tmp_path / "weights.bin").write_bytes(SECRET.tobytes()[:size])
    with pytest.raises(InvalidModel, match=r"^model file 'm\.onnx': "):
        load(save(model, tmp_path / "m.onnx"))


def test_a_length_that_does_not_fit_the_shape(tmp_path):
    model = small()
    external(model.graph.initializer[0], "weights.bin", length=8)
    (tmp_path / "weights.bin").write_bytes(random(100).tobytes())
    with pytest.raises(InvalidModel, match=r"^model file 'm\.onnx': "):
        load(save(model, tmp_path / "m.onnx"))
