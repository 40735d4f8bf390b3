"""Messages, metadata, names and versions at their limits."""

import grpc
import numpy as np
import pytest
from google.protobuf import json_format
from support import golden, oip
from support.onnx_models import build, save
from tritonclient.grpc import InferenceServerClient, service_pb2
from tritonclient.utils import InferenceServerException

from gradserve_server import ServerConfig
from gradserve_server.rpc.app import Server

X = golden.digits()
MIB = 2**20


# ---- messages --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A server of messages of one MiB, with a model that doubles what comes, and one that halves it."""
    root = tmp_path_factory.mktemp("models")
    for name, body in {"double": "y = Concat<axis = 0>(x, x)", "half": "y, z = Split<axis = 0, num_outputs = 2>(x)"}.items():
        model = build(body, inputs="uint8[N] x", outputs="uint8[M] y", opset=18)
        save(model, root / name / "1" / "model.onnx")
    with oip.served(root, max_message_mib=1) as server, InferenceServerClient(server.address) as client:
        yield client


def ask(client, model, size):
    return client.infer(model, [oip.infer_input("x", np.ones(size, np.uint8))]).as_numpy("y")


def test_requests_up_to_the_limit(small):
    head = service_pb2.ModelInferRequest(model_name="half", raw_input_contents=[bytes(MIB)]).ByteSize() - MIB + 50
    assert len(ask(small, "half", MIB - head)) == (MIB - head) // 2
    with pytest.raises(InferenceServerException) as error:
        ask(small, "half", MIB)
    assert error.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
    assert len(ask(small, "half", 10)) == 5


def test_answers_up_to_the_limit(small):
    assert len(ask(small, "double", MIB // 2 - 100)) == MIB - 200
    with pytest.raises(
        InferenceServerException, match=r"answer: expected at most 1 MiB \(--max-message-mib\), got \d+ bytes"
    ):
        ask(small, "double", MIB // 2)
    assert len(ask(small, "double", 5)) == 10


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_what_is_small_only_on_the_way(small, algorithm):
    with pytest.raises(InferenceServerException) as error:
        small.infer("half", [oip.infer_input("x", np.ones(8 * MIB, np.uint8))], compression_algorithm=algorithm)
    assert error.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
    assert len(ask(small, "half", 10)) == 5


def test_metadata(triton):
    assert triton.is_server_live(headers={"x-trace": "a" * 4000})
    with pytest.raises(InferenceServerException) as error:
        triton.is_server_live(headers={"x-trace": "a" * 100_000})
    assert error.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
    assert triton.is_server_live()


# ---- entries ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sums(tmp_path_factory):
    """A server of one model, y = a + b."""
    root = tmp_path_factory.mktemp("models")
    save(build("y = Add(a, b)", inputs="float[N] a, float[N] b", outputs="float[N] y"), root / "sum" / "1" / "model.onnx")
    with oip.served(root) as server, grpc.insecure_channel(server.address) as channel:
        yield oip.stub(channel)


AB = {"a": np.array([1, 2], np.float32), "b": np.array([10, 20], np.float32)}


def test_inputs_come_in_any_order(sums):
    backwards = dict(reversed(AB.items()))
    for inputs in (AB, backwards):
        assert sums.ModelInfer(oip.request("sum", inputs)).raw_output_contents[0] == np.array([11, 22], "<f4").tobytes()


@pytest.mark.parametrize("entries", [1, 3])
def test_fewer_or_more_entries_than_inputs(sums, entries):
    request = oip.request("sum", AB)
    contents = [*request.raw_input_contents, request.raw_input_contents[0]]
    del request.raw_input_contents[:]
    request.raw_input_contents.extend(contents[:entries])
    assert oip.refused(sums, request) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        f"raw_input_contents: expected 2 entries, one for each input not in shared memory, got {entries}",
    )


def test_one_raw_and_one_typed(sums):
    request = oip.request("sum", AB)
    del request.raw_input_contents[1]
    request.inputs[1].contents.fp32_contents.extend(AB["b"])
    assert oip.refused(sums, request)[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_all_typed(sums):
    request = service_pb2.ModelInferRequest(model_name="sum")
    for name, array in AB.items():
        request.inputs.add(name=name, datatype="FP32", shape=array.shape).contents.fp32_contents.extend(array)
    assert sums.ModelInfer(request).raw_output_contents[0] == np.array([11, 22], "<f4").tobytes()


def test_sizes_that_must_agree(sums):
    code, text = oip.refused(sums, oip.request("sum", AB | {"b": np.ones(3, np.float32)}))
    assert (code, text) == (grpc.StatusCode.INVALID_ARGUMENT, "input 'b': expected N=2 as in input 'a', got N=3")


# ---- names -----------------------------------------------------------------------------------------------------------

NAMES = ["input:0", "a/b/c", "with space", "日本", "'quoted'", "%s {x}", "\t"]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_tensors(tmp_path, name):
    model = build("y = Neg(x)", inputs="float[N] x", outputs="float[N] y")
    model.graph.input[0].name = model.graph.node[0].input[0] = name
    model.graph.output[0].name = model.graph.node[0].output[0] = f"{name}'"
    save(model, tmp_path / "odd" / "1" / "model.onnx")
    with oip.served(tmp_path) as server, InferenceServerClient(server.address) as client:
        assert client.get_model_metadata("odd").inputs[0].name == name
        result = client.infer("odd", [oip.infer_input(name, AB["a"])])
        assert result.as_numpy(f"{name}'").tolist() == [-1, -2]


@pytest.mark.parametrize("name", ["", "\0", "../digits", "日本", "x" * 100_000, "{}", "%s"])
def test_names_of_models_that_are_not_there(stub, name):
    request = oip.request("digits", {"image": X})
    request.model_name = name
    code, text = oip.refused(stub, request)
    assert code is grpc.StatusCode.NOT_FOUND
    assert text.startswith("model '")


@pytest.mark.parametrize("text", ["", "id", "日本", "x" * 10_000, "\n"])
def test_the_id_of_a_request(stub, text):
    request = oip.request("digits", {"image": X}, id=text)
    assert stub.ModelInfer(request).id == text
    (answer,) = stub.ModelStreamInfer(iter([request]))
    assert answer.infer_response.id == text


# ---- versions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "status"),
    [
        ("", "OK"),
        ("1", "OK"),
        ("01", "OK"),
        ("2", "NOT_FOUND"),
        ("0", "NOT_FOUND"),
        ("-1", "INVALID_ARGUMENT"),
        ("+1", "INVALID_ARGUMENT"),
        (" 1", "INVALID_ARGUMENT"),
        ("1.0", "INVALID_ARGUMENT"),
        ("1e0", "INVALID_ARGUMENT"),
        ("one", "INVALID_ARGUMENT"),
        (str(10**30), "INVALID_ARGUMENT"),
    ],
)
def test_versions(stub, version, status):
    request = oip.request("digits", {"image": X}, model_version=version)
    if status == "OK":
        assert stub.ModelInfer(request).model_version == "1"
        assert stub.ModelReady(service_pb2.ModelReadyRequest(name="digits", version=version)).ready
    else:
        assert oip.refused(stub, request)[0].name == status


# ---- descriptions ----------------------------------------------------------------------------------------------------


def test_the_configuration_as_json_and_back(triton):
    told = triton.get_model_config("digits")
    as_json = triton.get_model_config("digits", as_json=True)
    assert as_json["config"]["input"] == [{"name": "image", "data_type": "TYPE_FP32", "dims": ["1", "28", "28"]}]
    assert json_format.ParseDict(as_json, service_pb2.ModelConfigResponse()) == told


def test_every_description_as_json(triton):
    for told in (
        triton.get_server_metadata(as_json=True),
        triton.get_model_metadata("digits", as_json=True),
        triton.get_model_repository_index(as_json=True),
        triton.get_inference_statistics("digits", as_json=True),
    ):
        assert isinstance(told, dict)
        assert told


def test_a_limit_of_a_gibibyte_takes_a_message_of_300_mib(engine):
    """Above the default limit of 256 MiB: refused for what the model takes, not for its size."""
    with (
        Server(engine, ServerConfig(port=0, max_message_mib=1024)) as server,
        grpc.insecure_channel(server.address, [("grpc.max_send_message_length", 2**31 - 1)]) as channel,
    ):
        request = service_pb2.ModelInferRequest(model_name="digits", raw_input_contents=[bytes(300 * MIB)])
        request.inputs.add(name="image", datatype="FP32", shape=[75 * MIB])
        code, text = oip.refused(oip.stub(channel), request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text == f"input 'image': expected float32 [batch,1,28,28], got float32 [{75 * MIB}]"
