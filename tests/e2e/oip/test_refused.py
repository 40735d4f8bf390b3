"""ModelInfer: what is refused, with which status and in which words; and the next request is answered."""

import grpc
import numpy as np
import pytest
from support import golden, oip
from tritonclient.grpc import InferenceServerClient, service_pb2
from tritonclient.utils import InferenceServerException

from gradserve_server import ServerConfig
from gradserve_server.rpc.app import Server

X = golden.digits()
INVALID, MISSING = "INVALID_ARGUMENT", "NOT_FOUND"


def changed(change):
    request = oip.request("digits", {"image": X})
    change(request)
    return request


def add_twice(request):
    request.inputs.append(request.inputs[0])
    request.raw_input_contents.append(request.raw_input_contents[0])


def typed(datatype, shape=(1, 1), **contents):
    def change(request):
        del request.raw_input_contents[:]
        del request.inputs[0].shape[:]
        request.inputs[0].shape.extend(shape)
        request.inputs[0].datatype = datatype
        request.inputs[0].contents.CopyFrom(service_pb2.InferTensorContents(**contents))

    return change


def classes(**value):
    def change(request):
        request.outputs.add(name="logits").parameters["classification"].CopyFrom(service_pb2.InferParameter(**value))

    return change


def reshaped(*shape):
    def change(request):
        del request.inputs[0].shape[:]
        request.inputs[0].shape.extend(shape)

    return change


REFUSED = {
    "model": (lambda r: setattr(r, "model_name", "x"),  MISSING, "model 'x': expected one of 'digits', "),
    "version": (lambda r: setattr(r, "model_version", "3"), MISSING, "expected one of the versions 1, got '3'"),
    "no version": (lambda r: setattr(r, "model_version", "x"), INVALID, "model version: expected a whole number"),
    "flat": (reshaped(4 * 784), INVALID, "expected float32 [batch,1,28,28], got float32 [3136]"),
    "rank": (reshaped(4, 28, 28), INVALID, "expected float32 [batch,1,28,28], got float32 [4,28,28]"),
    "bytes": (reshaped(5, 1, 28, 28), INVALID, "expected 15680 bytes for float32 [5, 1, 28, 28], got 12544"),
    "negative": (reshaped(-1, 1, 28, 28), INVALID, "expected sizes of 0 or more, got [-1, 1, 28, 28]"),
    "too large": (reshaped(2**62, 2**62), INVALID, "bytes for float32 [4611686018427387904, "),
    "datatype": (lambda r: setattr(r.inputs[0], "datatype", "FP8"), INVALID, "datatypes BOOL, UINT8, "),
    "other type": (lambda r: setattr(r.inputs[0], "datatype", "INT32"), INVALID, "got int32 [4,1,28,28]"),
    "input": (lambda r: setattr(r.inputs[0], "name", "x"), INVALID, "input 'x': expected one of 'image'"),
    "no input": (lambda r: r.ClearField("inputs") or r.ClearField("raw_input_contents"), INVALID, "got nothing"),
    "input twice": (add_twice, INVALID, "input 'image': expected once, got twice"),
    "entries": (lambda r: r.raw_input_contents.append(b""), INVALID, "each input not in shared memory, got 2"),
    "both": (lambda r: r.inputs[0].contents.fp32_contents.append(1), INVALID, "or in contents, got both"),
    "output": (lambda r: r.outputs.add(name="x"), INVALID, "output 'x': expected one of 'logits'"),
    "output twice": (lambda r: r.outputs.extend([r.outputs.add(name="logits")]), INVALID, "expected once, got twice"),
    "classes as text": (classes(string_param="3"), INVALID, "output 'logits': parameter 'classification': expected"),
    "negative classes": (classes(int64_param=-1), INVALID, "expected a whole number of 0 or more, got -1 (int64)"),
    "half, typed": (typed("FP16", fp32_contents=[1]), INVALID, "expected FP16 in raw_input_contents"),
    "wrong field": (typed("FP32", fp64_contents=[1]), INVALID, "expected FP32 in fp32_contents, got fp64_contents"),
    "two fields": (typed("FP32", fp32_contents=[1], bool_contents=[True]), INVALID, "got bool_contents"),
    "count": (typed("FP32", fp32_contents=[1, 2]), INVALID, "expected elements for shape [1, 1], got 2"),
    "range": (typed("INT8", int_contents=[128]), INVALID, "expected elements from -128 to 127 for INT8, got 128"),
    "unsigned": (typed("UINT16", uint_contents=[65536]), INVALID, "from 0 to 65535 for UINT16, got 65536"),
    "text": (typed("BYTES", bytes_contents=[b"\xff"]), INVALID, "expected UTF-8 strings"),
    "typed, negative": (typed("FP32", (-1, -1), fp32_contents=[1]), INVALID, "for shape [-1, -1], got 1"),
    "typed, odd shape": (typed("FP32", (0, 2**62, 4)), INVALID, "expected a shape that an array can have"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(stub, engine, case):
    change, status, text = REFUSED[case]
    code, details = oip.refused(stub, changed(change))
    assert code.name == status
    assert text in details
    good = stub.ModelInfer(oip.request("digits", {"image": X}))
    assert good.raw_output_contents[0] == engine.infer("digits", {"image": X})["logits"].tobytes()


def test_more_samples_than_the_model_takes(echo):
    with pytest.raises(InferenceServerException, match=r"at most 4 samples \(max_batch_size of the model\), got 5"):
        echo.infer("echo_int8", [oip.infer_input("x", np.zeros((5, 2), np.int8))])


def test_bytes_that_are_no_booleans(echo_stub):
    request = oip.request("echo_bool", {"x": oip.sample("bool")})
    request.raw_input_contents[0] = b"\x00\x01\x02\x03"
    assert oip.refused(echo_stub, request)[0] is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("data", [b"\x01\x00\x00\x00a", b"\xff\xff\xff\xff", b"\x01\x00\x00\x00\xff" * 4, b"\x00" * 3])
def test_strings_that_are_none(echo_stub, data):
    request = oip.request("echo_string", {"x": oip.sample("string")})
    request.raw_input_contents[0] = data
    assert oip.refused(echo_stub, request)[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_a_model_that_breaks_off(echo_stub):
    code, details = oip.refused(echo_stub, oip.request("two_only", {"x": np.zeros(3, np.float32)}))
    assert code is grpc.StatusCode.INTERNAL
    assert details.startswith("the model broke off while it ran: ")


def test_a_defect_answers_internal_with_a_request_id_only(engine, monkeypatch):
    def fail(*_args, **_kwargs):
        return 1 // 0

    monkeypatch.setattr(engine, "infer_with", fail)
    with Server(engine, ServerConfig(port=0)) as server, InferenceServerClient(server.address) as triton:
        with pytest.raises(InferenceServerException) as error:
            triton.infer("digits", [oip.infer_input("image", X)])
        assert error.value.status() == "StatusCode.INTERNAL"
        assert error.match(r"internal error; request id \w{32}$")
        assert triton.is_server_live()
