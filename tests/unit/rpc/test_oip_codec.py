"""The codec by itself: what cannot be seen through a server, or not on every machine."""

from types import SimpleNamespace

import numpy as np
import pytest
from support import oip

from gradserve.errors import InvalidParameter
from gradserve.tensors import DTYPES
from gradserve_server.rpc.oip import codec
from gradserve_server.rpc.oip.answer import Answer
from gradserve_server.rpc.oip.classification import classify
from gradserve_server.rpc.oip.contents import FIELDS
from gradserve_server.rpc.oip.messages import message
from gradserve_server.rpc.oip.shared_memory import SharedMemory

NO_MEMORY = SharedMemory(allowed=False, max_bytes=0, max_request_bytes=0)


def request_of(dtype):
    return message("ModelInferRequest").FromString(oip.request("m", {"x": oip.sample(dtype)}, id="i").SerializeToString())


def model(name="y"):
    return SimpleNamespace(
        name="m",
        version=3,
        description=SimpleNamespace(outputs=[SimpleNamespace(name=name, labels=())]),
        config=SimpleNamespace(max_batch_size=4),
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_both_ways(dtype):
    request = request_of(dtype)
    asked = codec.decode(request, NO_MEMORY)
    array = oip.sample(dtype)
    assert asked.inputs["x"].dtype == array.dtype
    np.testing.assert_array_equal(asked.inputs["x"], array)
    answer = codec.encode(request, asked, model(), {"y": asked.inputs["x"]})
    response = message("ModelInferResponse").FromString(answer.unary())
    assert list(response.raw_output_contents) == list(request.raw_input_contents)
    assert (response.outputs[0].datatype, list(response.outputs[0].shape)) == (oip.OIP[dtype], [2, 2])
    assert (response.model_name, response.model_version, response.id) == ("m", "3", "i")


def test_only_half_types_have_no_field():
    assert DTYPES.keys() - FIELDS.keys() == {"float16", "bfloat16"}
    fields = message("InferTensorContents").DESCRIPTOR.fields_by_name.keys()
    assert set(FIELDS.values()) == set(fields)


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype != "string"])
def test_arrays_are_views_of_the_message(dtype):
    array = codec.decode(request_of(dtype), NO_MEMORY).inputs["x"]
    assert not array.flags.owndata
    assert not array.flags.writeable


@pytest.mark.parametrize("sizes", [[], [0], [1, 0, 127], [128], [2**14 - 1, 2**14], [2**21]])
def test_answers_are_what_protobuf_would_write(sizes):
    contents = [memoryview(bytes(n % 256 for n in range(size))) for size in sizes]
    head = message("ModelInferResponse")(model_name="m", id="i")
    head.outputs.add(name="y", datatype="UINT8", shape=[2])
    expected = message("ModelInferResponse").FromString(head.SerializeToString())
    expected.raw_output_contents.extend(content.tobytes() for content in contents)
    assert Answer(head, contents).unary() == expected.SerializeToString(deterministic=True)
    expected.parameters["triton_final_response"].bool_param = True
    streamed = message("ModelStreamInferResponse")(infer_response=expected)
    assert Answer(head, contents).streamed() == streamed.SerializeToString(deterministic=True)


def test_classes_of_a_model_without_batches_are_of_the_whole_output():
    array = np.array([[0.5, 2], [1, 3]], np.float32)
    assert classify(array, 3, ("a", "b", "c"), batched=False, what="y").tolist() == [
        "3.000000:3",
        "2.000000:1:b",
        "1.000000:2:c",
    ]


def test_classes_of_a_number():
    assert classify(np.array(2.5), 3, (), batched=False, what="y").tolist() == ["2.500000:0"]


def test_classes_of_many_axes():
    array = np.arange(12, dtype=np.int64).reshape(2, 2, 3)
    assert classify(array, 2, (), batched=True, what="y").tolist() == [["5:5", "4:4"], ["11:5", "10:4"]]


def test_classes_of_a_type_without_order():
    with pytest.raises(InvalidParameter, match="output 'y': parameter 'classification': expected an output of numbers"):
        classify(np.array([True]), 1, (), batched=True, what="output 'y'")
