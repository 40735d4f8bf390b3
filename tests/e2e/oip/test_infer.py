"""ModelInfer: every datatype both ways, requested outputs, classes, parameters."""

import grpc
import numpy as np
import pytest
from support import golden, oip
from support.onnx_models import build, save
from tritonclient.grpc import InferenceServerClient, InferRequestedOutput, service_pb2
from tritonclient.utils import InferenceServerException

from gradserve.tensors import DTYPES
from gradserve_server import Engine, ServerConfig
from gradserve_server.rpc.app import Server

X = golden.digits()


def infer(triton, array=X, **options):
    return triton.infer("digits", [oip.infer_input("image", array)], **options)


# ---- answers ---------------------------------------------------------------------------------------------------------


def test_the_answer_is_the_engines(triton, engine):
    result = infer(triton, request_id="seven")
    assert result.as_numpy("logits").tobytes() == engine.infer("digits", {"image": X})["logits"].tobytes()
    response = result.get_response()
    assert (response.model_name, response.model_version, response.id) == ("digits", "1", "seven")


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed(triton, engine, algorithm):
    result = infer(triton, compression_algorithm=algorithm)
    assert result.as_numpy("logits").tobytes() == engine.infer("digits", {"image": X})["logits"].tobytes()


def test_outputs_come_in_the_order_that_was_asked_for(tmp_path):
    model = build("a = Relu(x) b = Neg(x)", inputs="float[N,2] x", outputs="float[N,2] a, float[N,2] b")
    save(model, tmp_path / "two" / "1" / "model.onnx")
    with (
        Engine(tmp_path) as engine,
        Server(engine, ServerConfig(port=0)) as server,
        InferenceServerClient(server.address) as triton,
    ):
        x = np.array([[1, -2]], np.float32)
        result = triton.infer(
            "two", [oip.infer_input("x", x)], outputs=[InferRequestedOutput("b"), InferRequestedOutput("a")]
        )
        assert [output.name for output in result.get_response().outputs] == ["b", "a"]
        assert result.as_numpy("b").tolist() == [[-1, 2]]
        assert result.as_numpy("a").tolist() == [[1, 0]]


# ---- classes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 10, 1000])
def test_classes(triton, engine, count):
    got = infer(triton, outputs=[InferRequestedOutput("logits", class_count=count)]).as_numpy("logits")
    logits = engine.infer("digits", {"image": X})["logits"]
    order = np.argsort(-logits, axis=1)[:, :count]
    expected = [[f"{logits[n, c]:f}:{c}:{c}".encode() for c in row] for n, row in enumerate(order)]
    assert got.tolist() == expected


def test_classes_without_labels_and_among_equals(echo):
    x = np.array([[1, 1], [0, 2]], np.int32)
    outputs = [InferRequestedOutput("y", class_count=2)]
    got = echo.infer("echo_int32", [oip.infer_input("x", x)], outputs=outputs).as_numpy("y")
    assert got.tolist() == [[b"1:0", b"1:1"], [b"2:1", b"0:0"]]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_classes_of_what_is_no_number_come_last(echo, dtype):
    x = np.array([[np.nan, -1], [np.nan, -np.inf], [np.nan, np.nan]], DTYPES[dtype].numpy)
    outputs = [InferRequestedOutput("y", class_count=5)]
    got = echo.infer(f"echo_{dtype}", [oip.infer_input("x", x)], outputs=outputs).as_numpy("y")
    assert got.tolist() == [
        [b"-1.000000:1", b"nan:0"],
        [b"-inf:1", b"nan:0"],
        [b"nan:0", b"nan:1"],
    ]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_classes_of_integers(echo, dtype):
    x = oip.sample(dtype)
    got = echo.infer(f"echo_{dtype}", [oip.infer_input("x", x)], outputs=[InferRequestedOutput("y", class_count=1)])
    assert got.as_numpy("y").tolist() == [[f"{x[0, 1]}:1".encode()], [b"2:1"]]


def test_classes_of_no_samples(echo):
    outputs = [InferRequestedOutput("y", class_count=1)]
    got = echo.infer("echo_float32", [oip.infer_input("x", np.zeros((0, 2), np.float32))], outputs=outputs)
    assert (got.get_output("y").datatype, list(got.get_output("y").shape)) == ("BYTES", [0, 1])


@pytest.mark.parametrize("dtype", ["bool", "string"])
def test_classes_of_what_is_no_number(echo, dtype):
    outputs = [InferRequestedOutput("y", class_count=1)]
    with pytest.raises(InferenceServerException, match=f"expected an output of numbers, got {dtype}"):
        echo.infer(f"echo_{dtype}", [oip.infer_input("x", oip.sample(dtype))], outputs=outputs)


# ---- parameters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"priority": 1},
        {"timeout": 60_000_000},
        {"sequence_id": 5, "sequence_start": True, "sequence_end": True},
        {"sequence_id": "five"},
        {"parameters": {"mine": "text", "yours": 3, "on": True, "ratio": 0.5, "": ""}},
    ],
    ids=str,
)
def test_parameters_that_change_nothing(triton, engine, options):
    assert infer(triton, **options).as_numpy("logits").tobytes() == engine.infer("digits", {"image": X})["logits"].tobytes()


def test_parameters_of_ones_own_may_be_of_every_type(stub):
    request = oip.request("digits", {"image": X})
    for field in service_pb2.InferParameter.DESCRIPTOR.fields:
        request.parameters[f"mine {field.name}"].CopyFrom(service_pb2.InferParameter(**{field.name: field.default_value}))
    request.parameters["mine"].SetInParent()
    assert len(request.parameters) == 6
    response = stub.ModelInfer(request)
    assert not response.parameters
    assert not response.outputs[0].parameters


PARAMETERS = [
    ("timeout", {"string_param": "soon"}, "expected a whole number of 0 or more, got 'soon' (string)"),
    ("timeout", {"int64_param": -1}, "expected a whole number of 0 or more, got -1 (int64)"),
    ("priority", {"double_param": 1.0}, "expected a whole number of 0 or more, got 1.0 (double)"),
    ("priority", {}, "expected a whole number of 0 or more, got nothing"),
    ("sequence_id", {"bool_param": True}, "expected a number or a text, got True (bool)"),
    ("sequence_start", {"int64_param": 1}, "expected true or false, got 1 (int64)"),
    ("sequence_end", {"string_param": ""}, "expected true or false, got '' (string)"),
    ("triton_enable_empty_final_response", {"int64_param": 1}, "expected true or false, got 1 (int64)"),
    ("triton_mine", {"int64_param": 1}, "expected another name, because the protocol reserves it"),
    ("headers", {"string_param": "x"}, "expected another name, because the protocol reserves it"),
    ("binary_data_output", {"bool_param": True}, "expected another name, because the protocol reserves it"),
]


@pytest.mark.parametrize(("name", "value", "text"), PARAMETERS)
def test_parameters_that_are_refused(stub, name, value, text):
    request = oip.request("digits", {"image": X})
    request.parameters[name].CopyFrom(service_pb2.InferParameter(**value))
    assert oip.refused(stub, request) == (grpc.StatusCode.INVALID_ARGUMENT, f"parameter '{name}': {text}")
