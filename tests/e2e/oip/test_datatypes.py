"""Every datatype: raw, typed where the protocol has a field, unary, in a stream, by the stock client and by our own.

In shared memory: `shared_memory`.
"""

from queue import Queue

import numpy as np
import pytest
from support import oip, shared_memory
from tritonclient.grpc import InferenceServerClient, InferInput, service_pb2

import gradserve
from gradserve.tensors import DTYPES
from gradserve_server.rpc.oip.contents import FIELDS

FLOATS = ["float16", "bfloat16", "float32", "float64"]


def raw(dtype, array):
    return oip.request(f"echo_{dtype}", {"x": array})


def typed(dtype, array):
    request = service_pb2.ModelInferRequest(model_name=f"echo_{dtype}")
    tensor = request.inputs.add(name="x", datatype=oip.OIP[dtype], shape=array.shape)
    elements = [e.encode() for e in array.ravel()] if dtype == "string" else array.ravel().tolist()
    getattr(tensor.contents, FIELDS[dtype]).extend(elements)
    return request


def unary(stub, request):
    return stub.ModelInfer(request)


def streamed(stub, request):
    (answer,) = stub.ModelStreamInfer(iter([request]))
    assert not answer.error_message
    return answer.infer_response


FORMS = {"raw": (raw, DTYPES), "typed": (typed, FIELDS)}


def test_every_type_has_a_sample():
    assert oip.SAMPLES.keys() == DTYPES.keys()


@pytest.mark.parametrize("call", [unary, streamed])
@pytest.mark.parametrize(("form", "dtype"), [(form, dtype) for form, (_, dtypes) in FORMS.items() for dtype in dtypes])
@pytest.mark.parametrize("samples", [2, 0])
def test_every_way(echo_stub, form, dtype, call, samples):
    array = oip.sample(dtype)[:samples]
    response = call(echo_stub, FORMS[form][0](dtype, array))
    (output,) = response.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("y", oip.OIP[dtype], [samples, 2])
    # Typed or not, what comes back is raw: the stock client reads nothing else.
    assert list(response.raw_output_contents) == [shared_memory.array_bytes(array)]
    assert not output.HasField("contents")


@pytest.mark.parametrize("dtype", DTYPES)
def test_by_the_clients_own_arrays(echo, dtype):
    array = oip.sample(dtype)
    got = echo.infer(f"echo_{dtype}", [oip.infer_input("x", array)]).as_numpy("y")
    if dtype == "string":
        assert [[text.decode() for text in row] for row in got] == array.tolist()
    else:
        assert got.dtype == array.dtype
        assert got.tobytes() == array.tobytes()


def test_bfloat16_of_clients_before_their_change(echo_stub):
    """They sent the upper halves of float32 numbers, and made such of what came: the bytes are the same."""
    numbers = np.array([[1.5, -0.25], [3e38, np.inf]], np.float32)
    halves = (numbers.view(np.uint32) >> 16).astype("<u2").tobytes()
    request = service_pb2.ModelInferRequest(model_name="echo_bfloat16", raw_input_contents=[halves])
    request.inputs.add(name="x", datatype="BF16", shape=[2, 2])
    assert list(echo_stub.ModelInfer(request).raw_output_contents) == [halves]


@pytest.mark.parametrize("dtype", FLOATS)
def test_what_is_no_number_passes(echo, dtype):
    array = np.array([[np.nan, np.inf], [-np.inf, -0.0]], DTYPES[dtype].numpy)
    got = echo.infer(f"echo_{dtype}", [oip.infer_input("x", array)]).as_numpy("y").astype(np.float64)
    np.testing.assert_array_equal(got, array.astype(np.float64))
    assert np.signbit(got[1, 1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_scalar(shapes, dtype):
    array = oip.sample(dtype)[0, 0] if dtype != "string" else "zwölf"
    array = np.array(array, DTYPES[dtype].numpy)
    tensor = InferInput("x", [], oip.OIP[dtype])
    tensor.set_data_from_numpy(array)
    result = shapes.infer(f"scalar_{dtype}", [tensor])
    assert list(result.get_output("y").shape) == []
    assert result.get_response().raw_output_contents[0] == shared_memory.array_bytes(array)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    repository = oip.scalar_repository(tmp_path_factory.mktemp("scalars"))
    with oip.served(repository) as server, InferenceServerClient(server.address) as client:
        yield client


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("samples", [2, 0])
def test_through_our_own_client(echo_server, dtype, samples):
    array = oip.sample(dtype)[:samples]
    with gradserve.Client(echo_server.address) as client:
        got = client.infer(f"echo_{dtype}", {"x": array})["y"]
    assert (got.dtype, got.shape) == (array.dtype, array.shape)
    assert got.tolist() == array.tolist() if dtype == "string" else got.tobytes() == array.tobytes()


def test_a_stream_of_every_type_by_the_stock_client(echo):
    answers = Queue()
    echo.start_stream(lambda result, error: answers.put((result, error)))
    try:
        for dtype in DTYPES:
            echo.async_stream_infer(f"echo_{dtype}", [oip.infer_input("x", oip.sample(dtype))], request_id=dtype)
        for dtype in DTYPES:
            result, error = answers.get(timeout=60)
            assert error is None
            assert result.get_response().id == dtype
            assert result.get_response().raw_output_contents[0] == shared_memory.array_bytes(oip.sample(dtype))
    finally:
        echo.stop_stream()
