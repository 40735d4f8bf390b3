"""System shared memory, by the stock client: tensors in it, and places that are none."""

import grpc
import pytest
from support import oip, shared_memory
from support.jobs import WAIT, Crowd
from support.sharing import HUGE, PAGE, X, logits, refused, shared_input, shared_output
from tritonclient.grpc import InferInput, service_pb2

from gradserve.tensors import DTYPES
from gradserve_server.rpc.oip.shared_memory import SharedMemory

# ---- tensors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 3, PAGE + 5])
def test_both_ways(triton, engine, region, offset):
    name, handle = region
    size = shared_memory.put(handle, X, offset)
    expected = logits(engine)
    there = offset + size
    result = triton.infer(
        "digits", [shared_input(name, size, offset=offset)], outputs=[shared_output(name, expected.nbytes, there)]
    )
    assert shared_memory.get(handle, expected, there).tobytes() == expected.tobytes()
    output = result.get_output("logits")
    assert (output.datatype, list(output.shape)) == ("FP32", [4, 10])
    assert output.parameters["shared_memory_region"].string_param == name
    assert output.parameters["shared_memory_byte_size"].int64_param == expected.nbytes
    assert output.parameters["shared_memory_offset"].int64_param == there
    # Clients count the entries by the outputs.
    assert list(result.get_response().raw_output_contents) == [b""]


def test_only_the_input(triton, engine, region):
    name, handle = region
    result = triton.infer("digits", [shared_input(name, shared_memory.put(handle, X))])
    assert result.as_numpy("logits").tobytes() == logits(engine).tobytes()


def test_only_the_output_and_more_room_than_it_needs(triton, engine, region):
    name, handle = region
    handle._mpsm_handle.buf[:PAGE] = b"\xaa" * PAGE
    expected = logits(engine)
    result = triton.infer("digits", [oip.infer_input("image", X)], outputs=[shared_output(name, PAGE)])
    assert result.get_output("logits").parameters["shared_memory_byte_size"].int64_param == expected.nbytes
    assert "shared_memory_offset" not in result.get_output("logits").parameters
    assert bytes(handle._mpsm_handle.buf[:PAGE]) == expected.tobytes() + b"\xaa" * (PAGE - expected.nbytes)


def test_a_region_that_begins_within_its_file(triton, engine):
    with shared_memory.region(triton, 4 * PAGE, offset=100) as (name, handle):
        (told,) = triton.get_system_shared_memory_status(name).regions.values()
        assert (told.offset, told.byte_size) == (100, 4 * PAGE)
        size = shared_memory.put(handle, X, 100 + 7)
        expected = logits(engine)
        outputs = [shared_output(name, expected.nbytes, size + 7)]
        triton.infer("digits", [shared_input(name, size, offset=7)], outputs=outputs)
        assert shared_memory.get(handle, expected, 100 + size + 7).tobytes() == expected.tobytes()


@pytest.mark.parametrize("samples", [2, 0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type(echo, dtype, samples):
    array = oip.sample(dtype)[:samples]
    size = len(shared_memory.array_bytes(array))
    with shared_memory.region(echo, 64) as (here, source), shared_memory.region(echo, 64) as (there, target):
        shared_memory.put(source, array)
        tensor = InferInput("x", array.shape, oip.OIP[dtype])
        tensor.set_shared_memory(here, size)
        result = echo.infer(f"echo_{dtype}", [tensor], outputs=[shared_output(there, 64, output="y")])
        assert list(result.get_output("y").shape) == list(array.shape)
        assert result.get_output("y").datatype == oip.OIP[dtype]
        assert bytes(target._mpsm_handle.buf[:size]) == shared_memory.array_bytes(array)
        assert result.get_output("y").parameters["shared_memory_byte_size"].int64_param == size


def test_in_a_stream(stub, engine, region):
    name, handle = region
    size = shared_memory.put(handle, X)
    request = service_pb2.ModelInferRequest(model_name="digits")
    tensor = request.inputs.add(name="image", datatype="FP32", shape=X.shape)
    tensor.parameters["shared_memory_region"].string_param = name
    tensor.parameters["shared_memory_byte_size"].uint64_param = size
    missing = service_pb2.ModelInferRequest()
    missing.CopyFrom(request)
    missing.inputs[0].parameters["shared_memory_region"].string_param = "nowhere"
    good, bad = stub.ModelStreamInfer(iter([request, missing]))
    assert good.infer_response.raw_output_contents[0] == logits(engine).tobytes()
    assert bad.error_message == "input 'image': shared memory region 'nowhere': expected one that is registered"


def test_what_the_client_writes_later_is_another_request(triton, engine, region):
    """A tensor is taken when its request is read: while the request waits for the device nothing can change it."""
    name, handle = region
    size = shared_memory.put(handle, X)
    with Crowd(engine._scheduler) as crowd:
        call = crowd.join(lambda: triton.infer("digits", [shared_input(name, size)]))
        shared_memory.put(handle, -X)
        crowd.let_go()
        assert call.result(WAIT).as_numpy("logits").tobytes() == logits(engine).tobytes()


# ---- places ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "size"), [(0, 65), (64, 1), (65, 0), (2**63 - 1, 1), (1, 2**63 - 1), (HUGE, 1), (1, HUGE), (HUGE, HUGE)]
)
@pytest.mark.parametrize("side", ["input", "output"])
def test_places_beyond_their_region(triton, stub, side, offset, size):
    with shared_memory.region(triton, 64) as (name, _):
        request = oip.request("digits", {"image": X})
        if side == "input":
            del request.raw_input_contents[:]
        tensor = request.inputs[0] if side == "input" else request.outputs.add(name="logits")
        tensor.parameters["shared_memory_region"].string_param = name
        tensor.parameters["shared_memory_offset"].uint64_param = offset
        tensor.parameters["shared_memory_byte_size"].uint64_param = size
        code, details = oip.refused(stub, request)
    if side == "input" and size > 2**30:
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert details == f"inputs: at most {256 * 2**20} bytes of a request in shared memory, got {size}"
    else:
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert f"expected a place within shared memory region '{name}' of 64 bytes, got {size} bytes at {offset}" in details


def test_too_many_bytes_for_one_request():
    memory = SharedMemory(allowed=True, max_bytes=2**40, max_request_bytes=100)
    memory.check_request(100)
    with pytest.raises(Exception, match="at most 100 bytes of a request in shared memory, got 101"):
        memory.check_request(101)


def test_a_region_that_is_not_registered(triton):
    text = "shared memory region 'nowhere': expected one that is registered"
    assert refused(triton.infer, "digits", [shared_input("nowhere", X.nbytes)]) == ("NOT_FOUND", f"input 'image': {text}")
    outputs = [shared_output("nowhere", 8)]
    got = refused(lambda: triton.infer("digits", [oip.infer_input("image", X)], outputs=outputs))
    assert got == ("NOT_FOUND", f"output 'logits': {text}")


def test_more_or_fewer_bytes_than_the_tensor(triton, region):
    for size in (X.nbytes - 4, X.nbytes + 4):
        assert refused(triton.infer, "digits", [shared_input(region[0], size)]) == (
            "INVALID_ARGUMENT",
            f"input 'image': expected 12544 bytes for float32 [4, 1, 28, 28], got {size}",
        )


def test_an_output_without_room_leaves_all_as_it_was(triton, engine, region):
    name, handle = region
    handle._mpsm_handle.buf[:PAGE] = b"\xaa" * PAGE
    outputs = [shared_output(name, logits(engine).nbytes - 1)]
    assert refused(lambda: triton.infer("digits", [oip.infer_input("image", X)], outputs=outputs)) == (
        "INVALID_ARGUMENT",
        "output 'logits': parameter 'shared_memory_byte_size': expected at least 160 bytes, which the tensor needs, got 159",
    )
    assert bytes(handle._mpsm_handle.buf[:PAGE]) == b"\xaa" * PAGE


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"region": {"string_param": "r"}}, "'shared_memory_byte_size': expected with 'shared_memory_region', got nothing"),
        ({"byte_size": {"int64_param": 8}}, "'shared_memory_region': expected with 'shared_memory_byte_size', got nothing"),
        ({"offset": {"int64_param": 8}}, "'shared_memory_region': expected with 'shared_memory_offset', got nothing"),
        ({"region": {"int64_param": 8}}, "'shared_memory_region': expected the name of a region, got 8 (int64)"),
        ({"region": {}}, "'shared_memory_region': expected the name of a region, got nothing"),
        (
            {"byte_size": {"int64_param": -1}},
            "'shared_memory_byte_size': expected a whole number of 0 or more, got -1 (int64)",
        ),
        (
            {"offset": {"double_param": 1.0}},
            "'shared_memory_offset': expected a whole number of 0 or more, got 1.0 (double)",
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("side", ["input", "output"])
def test_parameters_that_make_no_place(stub, side, given, text):
    request = oip.request("digits", {"image": X})
    tensor = request.inputs[0] if side == "input" else request.outputs.add(name="logits")
    what = "input 'image'" if side == "input" else "output 'logits'"
    for name, value in given.items():
        tensor.parameters[f"shared_memory_{name}"].CopyFrom(service_pb2.InferParameter(**value))
    code, details = oip.refused(stub, request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith(f"{what}: parameter {text}")


def test_elements_in_shared_memory_and_in_the_message(stub, region):
    request = oip.request("digits", {"image": X})
    request.inputs[0].parameters["shared_memory_region"].string_param = region[0]
    request.inputs[0].parameters["shared_memory_byte_size"].int64_param = X.nbytes
    code, text = oip.refused(stub, request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text == "raw_input_contents: expected 0 entries, one for each input not in shared memory, got 1"
    del request.raw_input_contents[:]
    request.inputs[0].contents.fp32_contents.append(1)
    code, text = oip.refused(stub, request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text == "input 'image': expected elements in shared memory or in contents, got both"


def test_classes_do_not_go_to_shared_memory(stub, region):
    request = oip.request("digits", {"image": X})
    output = request.outputs.add(name="logits")
    output.parameters["classification"].int64_param = 3
    output.parameters["shared_memory_region"].string_param = region[0]
    output.parameters["shared_memory_byte_size"].int64_param = PAGE
    code, text = oip.refused(stub, request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text.startswith("output 'logits': parameter 'classification': expected in the message")
