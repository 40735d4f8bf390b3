"""What the server and its models are, asked by the stock client; every RPC of the protocol has an answer."""

import grpc
import pytest
from support import oip
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

import gradserve_server
from gradserve.tensors import DTYPES
from gradserve_server.rpc.oip.messages import message, service
from gradserve_server.rpc.oip.service import UNIMPLEMENTED
from gradserve_server.rpc.oip.servicer import InferenceServicer

RPCS = {method.name for method in service().methods}


# ---- the tables are complete -----------------------------------------------------------------------------------------


def test_every_rpc_is_done_or_says_that_it_is_not():
    done = {name for name, member in vars(InferenceServicer).items() if callable(member) and not name.startswith("_")}
    assert done | UNIMPLEMENTED.keys() == RPCS
    assert not done & UNIMPLEMENTED.keys()


def test_every_rpc_is_known_to_the_stock_client_and_vice_versa():
    assert {m.name for m in service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods} == RPCS


@pytest.mark.parametrize("rpc", UNIMPLEMENTED)
def test_what_is_not_done_says_so(stub, rpc):
    with pytest.raises(grpc.RpcError) as error:
        getattr(stub, rpc)(getattr(service_pb2, f"{rpc}Request")())
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert error.value.details() == f"{rpc}: {UNIMPLEMENTED[rpc]}"


# ---- server ----------------------------------------------------------------------------------------------------------


def test_the_server_is_live_and_ready(triton):
    assert triton.is_server_live()
    assert triton.is_server_ready()


def test_server_metadata(triton):
    told = triton.get_server_metadata()
    assert (told.name, told.version) == ("gradserve", gradserve_server.__version__)
    assert {"classification", "model_configuration", "statistics"} <= set(told.extensions)
    assert "system_shared_memory" not in told.extensions


# ---- models ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "version", "ready"),
    [("digits", "", True), ("digits", "1", True), ("digits", "2", False), ("nowhere", "", False), ("", "", False)],
)
def test_model_ready(triton, name, version, ready):
    assert triton.is_model_ready(name, version) is ready


@pytest.mark.parametrize("version", ["one", "-1", "1.0", "\u0661", "9" * 5000])
@pytest.mark.parametrize("rpc", ["ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"])
def test_a_version_that_is_no_number(stub, rpc, version):
    with pytest.raises(grpc.RpcError) as error:
        getattr(stub, rpc)(getattr(service_pb2, f"{rpc}Request")(name="digits", version=version))
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details().startswith("model version: expected a whole number")


@pytest.mark.parametrize(("name", "version"), [("nowhere", ""), ("digits", "2")])
@pytest.mark.parametrize("ask", ["get_model_metadata", "get_model_config", "get_inference_statistics"])
def test_a_model_that_is_not_there(triton, ask, name, version):
    with pytest.raises(InferenceServerException, match=f"model '{name}': expected one of") as error:
        getattr(triton, ask)(name, version)
    assert error.value.status() == "StatusCode.NOT_FOUND"


def test_model_metadata(triton):
    told = triton.get_model_metadata("digits", as_json=True)
    assert told == {
        "name": "digits",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "image", "datatype": "FP32", "shape": ["-1", "1", "28", "28"]}],
        "outputs": [{"name": "logits", "datatype": "FP32", "shape": ["-1", "10"]}],
    }


def test_every_version_is_told(echo):
    assert list(echo.get_model_metadata("two_only").versions) == ["1", "7"]
    assert echo.get_model_metadata("two_only", "1").inputs[0].shape == [-1]


@pytest.mark.parametrize("dtype", DTYPES)
def test_datatypes_as_the_protocol_names_them(echo, dtype):
    told = echo.get_model_metadata(f"echo_{dtype}")
    assert [(t.datatype, list(t.shape)) for t in (*told.inputs, *told.outputs)] == [(oip.OIP[dtype], [-1, 2])] * 2
    config = echo.get_model_config(f"echo_{dtype}").config
    kind = "TYPE_STRING" if dtype == "string" else f"TYPE_{oip.OIP[dtype]}"
    types = config.input[0].DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_name
    assert (config.input[0].data_type, list(config.input[0].dims)) == (types[kind].number, [2])


def test_model_config(triton):
    config = triton.get_model_config("digits").config
    assert (config.name, config.platform, config.backend) == ("digits", "onnxruntime_onnx", "onnxruntime")
    assert (config.max_batch_size, config.default_model_filename) == (64, "model.onnx")
    assert config.version_policy.latest.num_versions == 1
    assert [(t.name, list(t.dims)) for t in config.input] == [("image", [1, 28, 28])]
    assert [(t.name, list(t.dims), t.label_filename) for t in config.output] == [("logits", [10], "labels.txt")]
    assert config.parameters["gradserve.input.image.mean"].string_value == "0.2268"


def test_repository_index(triton, echo):
    models = triton.get_model_repository_index().models
    assert [(m.name, m.version, m.state, m.reason) for m in models] == [
        (name, "1", "READY", "") for name in ("digits", "digits_batchnorm", "scenario_a")
    ]
    assert [m.version for m in echo.get_model_repository_index().models if m.name == "two_only"] == ["1", "7"]


def test_repository_index_of_models_that_are_ready(stub):
    assert len(stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(ready=True)).models) == 3


def test_there_is_one_repository(stub):
    with pytest.raises(grpc.RpcError, match="repository 'other': expected no name") as error:
        stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(repository_name="other"))
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


# ---- one process -----------------------------------------------------------------------------------------------------


def test_messages_are_the_stock_clients_field_for_field():
    """Both are in this process: `service_pb2` in the default descriptor pool, ours in one of its own."""

    def described(descriptor):
        yield from (
            (d.full_name, f.name, f.number, f.type, f.is_repeated, f.message_type and f.message_type.full_name,
             f.enum_type and f.enum_type.full_name, f.containing_oneof and f.containing_oneof.name)
            for d in [descriptor] for f in d.fields
        )  # fmt: skip
        for enum in descriptor.enum_types:
            yield from ((enum.full_name, value.name, value.number) for value in enum.values)
        for nested in descriptor.nested_types:
            yield from described(nested)

    def everything(service):
        yield from (
            (m.name, m.input_type.full_name, m.output_type.full_name, m.client_streaming, m.server_streaming)
            for m in service.methods
        )
        for file in (service.file, *service.file.dependencies):
            for enum in file.enum_types_by_name.values():
                yield from ((enum.full_name, value.name, value.number) for value in enum.values)
            for descriptor in file.message_types_by_name.values():
                yield from described(descriptor)

    ours = set(everything(service()))
    stock = set(everything(service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]))
    assert ours == stock
    assert len(ours) > 300
    assert message("ModelInferRequest") is not service_pb2.ModelInferRequest
