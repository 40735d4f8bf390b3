"""System shared memory, by the stock client: regions, tensors in them, and what must not be possible."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from support import golden, oip, shared_memory
from support.jobs import WAIT, Crowd
from support.onnx_models import build, save
from support.waiting import wait_for
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput, service_pb2
from tritonclient.utils import InferenceServerException

from gradserve.tensors import DTYPES
from gradserve_server import ServerConfig
from gradserve_server.rpc.app import Server
from gradserve_server.rpc.oip.shared_memory import MAX_NAME, MAX_REGIONS, Place, SharedMemory

X = golden.digits()
PAGE = 4096


@pytest.fixture(scope="module")
def sharing(engine):
    """A server of the shipped models that allows shared memory."""
    with Server(engine, ServerConfig(port=0, drain_seconds=2, allow_shared_memory=True, max_shared_memory_mib=1)) as server:
        yield server


@pytest.fixture(scope="module")
def triton(sharing):
    with InferenceServerClient(sharing.address) as client:
        yield client


@pytest.fixture(scope="module")
def stub(sharing):
    with grpc.insecure_channel(sharing.address) as channel:
        yield oip.stub(channel)


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    repository = oip.echo_repository(tmp_path_factory.mktemp("models"))
    with oip.served(repository, allow_shared_memory=True) as server, InferenceServerClient(server.address) as client:
        yield client


@pytest.fixture
def region(triton):
    """Of two pages, for inputs and outputs of the digits."""
    with shared_memory.region(triton, 16 * PAGE) as made:
        yield made


def shared_input(name, size, array=X, offset=0):
    made = InferInput("image", array.shape, "FP32")
    made.set_shared_memory(name, size, offset)
    return made


def shared_output(name, size, offset=0, output="logits"):
    made = InferRequestedOutput(output)
    made.set_shared_memory(name, size, offset)
    return made


def logits(engine, array=X):
    return engine.infer("digits", {"image": array})["logits"]


def refused(call, *arguments):
    with pytest.raises(InferenceServerException) as error:
        call(*arguments)
    return error.value.status().removeprefix("StatusCode."), error.value.message()


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


# ---- registration ----------------------------------------------------------------------------------------------------


def test_status_of_one_and_of_all(triton):
    with shared_memory.region(triton, 10) as (a, first), shared_memory.region(triton, 20, offset=5) as (b, second):
        regions = triton.get_system_shared_memory_status().regions
        told = {name: (r.name, r.key, r.offset, r.byte_size) for name, r in regions.items()}
        assert told == {a: (a, first._shm_key, 0, 10), b: (b, second._shm_key, 5, 20)}
        assert list(triton.get_system_shared_memory_status(b).regions) == [b]
    assert not triton.get_system_shared_memory_status().regions
    assert refused(triton.get_system_shared_memory_status, "x") == (
        "NOT_FOUND",
        "shared memory region 'x': expected one that is registered",
    )


def test_a_name_that_is_taken(triton, region):
    name, handle = region
    assert refused(triton.register_system_shared_memory, name, handle._shm_key, 8) == (
        "ALREADY_EXISTS",
        f"shared memory region '{name}': expected a name that is not registered yet; unregister it first",
    )


def test_one_memory_under_two_names(triton, engine, region):
    name, handle = region
    triton.register_system_shared_memory("again", handle._shm_key, 16 * PAGE)
    size = shared_memory.put(handle, X)
    triton.unregister_system_shared_memory(name)
    result = triton.infer("digits", [shared_input("again", size)])
    assert result.as_numpy("logits").tobytes() == logits(engine).tobytes()
    triton.unregister_system_shared_memory("again")


@pytest.mark.parametrize("name", ["a b", "é/日本", "../x", "\n"])
def test_names_may_be_any_text(triton, name):
    with shared_memory.region(triton, 8, name=name):
        assert list(triton.get_system_shared_memory_status().regions) == [name]


def test_unregister_what_is_not_there(triton):
    triton.unregister_system_shared_memory("x")


def test_unregister_all(triton):
    with shared_memory.region(triton, 8), shared_memory.region(triton, 8):
        triton.unregister_system_shared_memory()
        assert not triton.get_system_shared_memory_status().regions


@pytest.mark.parametrize("key", ["", "/", "//x", "/.", "..", "/../etc/passwd", "/a/b", "a/b", "/x\0y"])
def test_keys_that_leave_shared_memory(triton, key):
    code, text = refused(triton.register_system_shared_memory, "r", key, 8)
    assert (code, text.split(", got")[0]) == (
        "INVALID_ARGUMENT",
        "shared memory region 'r': expected a key like '/name', without another slash",
    )


def test_keys_of_nothing(triton):
    code, text = refused(triton.register_system_shared_memory, "r", "/gradserve-test-nothing", 8)
    assert code == "INVALID_ARGUMENT"
    assert text.endswith("got '/gradserve-test-nothing': No such file or directory")
    code, text = refused(triton.register_system_shared_memory, "r", "x" * 300, 8)
    assert code == "INVALID_ARGUMENT"
    assert text.endswith("File name too long")


@pytest.mark.parametrize("make", [os.symlink, os.link])
def test_links_are_refused(triton, region, make):
    """Neither to a file elsewhere nor to other shared memory; and memory that has a second name is refused under both."""
    _, handle = region
    key = shared_memory.unused_key()
    make(shared_memory.file_of(handle._shm_key), shared_memory.file_of(key))
    try:
        code, text = refused(triton.register_system_shared_memory, "r", key, 8)
        assert code == "INVALID_ARGUMENT"
        assert text.startswith("shared memory region 'r': expected ")
    finally:
        shared_memory.file_of(key).unlink()


@pytest.mark.parametrize(("make", "remove"), [(os.mkdir, os.rmdir), (os.mkfifo, os.remove)])
def test_what_is_no_memory_is_refused(triton, make, remove):
    key = shared_memory.unused_key()
    make(shared_memory.file_of(key))
    try:
        assert refused(triton.register_system_shared_memory, "r", key, 8)[0] == "INVALID_ARGUMENT"
    finally:
        remove(shared_memory.file_of(key))


HUGE = 2**64 - 1


@pytest.mark.parametrize(
    ("offset", "size"),
    [(0, 101), (100, 1), (1, 100), (0, 0), (101, 0), (HUGE, 1), (HUGE, 100), (1, HUGE), (HUGE, HUGE), (2**63, 2**63)],
)
def test_regions_beyond_their_memory(stub, triton, offset, size):
    with shared_memory.region(triton, 100) as (_, handle):
        request = service_pb2.SystemSharedMemoryRegisterRequest(name="r", key=handle._shm_key, offset=offset, byte_size=size)
        with pytest.raises(grpc.RpcError) as error:
            stub.SystemSharedMemoryRegister(request)
    if size > 2**20:
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "at most 1048576 bytes of regions on this server (max_shared_memory_mib), 100" in error.value.details()
    else:
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        expected = f"expected offset and byte_size within the 100 bytes of '{handle._shm_key}', got {size} bytes at {offset}"
        assert error.value.details() == f"shared memory region 'r': {expected}"


def test_regions_together_are_limited(triton):
    with shared_memory.region(triton, 2**20 - 8) as (_, handle):
        triton.register_system_shared_memory("just", handle._shm_key, 8)
        code, text = refused(triton.register_system_shared_memory, "over", handle._shm_key, 1)
        assert code == "UNAVAILABLE"
        assert "1048576 are taken, got 1" in text
        triton.unregister_system_shared_memory("just")
        triton.register_system_shared_memory("now", handle._shm_key, 1)
        triton.unregister_system_shared_memory("now")


def test_their_number_is_limited(triton):
    with shared_memory.region(triton, 8) as (_, handle):
        for number in range(1, MAX_REGIONS):
            triton.register_system_shared_memory(str(number), handle._shm_key, 8)
        assert refused(triton.register_system_shared_memory, "more", handle._shm_key, 8)[0] == "UNAVAILABLE"
        triton.unregister_system_shared_memory()


@pytest.mark.parametrize("name", ["", "x" * (MAX_NAME + 1)])
def test_names_that_are_refused(triton, region, name):
    assert refused(triton.register_system_shared_memory, name, region[1]._shm_key, 8)[0] == "INVALID_ARGUMENT"


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


# ---- what the owner of the memory may do meanwhile -------------------------------------------------------------------


def test_all_outputs_have_room_or_none_is_written(tmp_path):
    model = build("a = Relu(x) b = Neg(x)", inputs="float[N] x", outputs="float[N] a, float[N] b")
    save(model, tmp_path / "two" / "1" / "model.onnx")
    x = np.array([1, -2], np.float32)
    with (
        oip.served(tmp_path, allow_shared_memory=True) as server,
        InferenceServerClient(server.address) as client,
        shared_memory.region(client, 16) as (name, handle),
    ):

        def ask(room):
            outputs = [shared_output(name, 8, output="a"), shared_output(name, room, 8, output="b")]
            client.infer("two", [oip.infer_input("x", x)], outputs=outputs)
            return np.frombuffer(bytes(handle._mpsm_handle.buf[:16]), np.float32).tolist()

        assert refused(ask, 7)[0] == "INVALID_ARGUMENT"
        assert bytes(handle._mpsm_handle.buf[:16]) == bytes(16)
        assert ask(8) == [1, 0, -1, 2]


def test_memory_that_is_unlinked_stays_until_it_is_unregistered(triton, engine, region):
    name, handle = region
    size = shared_memory.put(handle, X)
    shared_memory.file_of(handle._shm_key).unlink()
    result = triton.infer("digits", [shared_input(name, size)])
    assert result.as_numpy("logits").tobytes() == logits(engine).tobytes()
    # The handle unlinks it once more when it is destroyed.
    shared_memory.file_of(handle._shm_key).touch()


def test_a_region_that_is_unregistered_while_a_request_uses_it(triton, engine, region):
    name, handle = region
    size = shared_memory.put(handle, X)
    expected = logits(engine)
    with Crowd(engine._scheduler) as crowd:
        outputs = [shared_output(name, expected.nbytes, size)]
        call = crowd.join(lambda: triton.infer("digits", [shared_input(name, size)], outputs=outputs))
        triton.unregister_system_shared_memory(name)
        crowd.let_go()
        call.result(WAIT)
    assert shared_memory.get(handle, expected, size).tobytes() == expected.tobytes()
    assert refused(triton.infer, "digits", [shared_input(name, size)])[0] == "NOT_FOUND"


def test_memory_that_becomes_shorter(triton, engine, region):
    name, handle = region
    expected = logits(engine)
    os.truncate(shared_memory.file_of(handle._shm_key), 100)
    text = f"of shared memory region '{name}': the shared memory has become shorter than when it was registered"
    assert refused(triton.infer, "digits", [shared_input(name, X.nbytes)]) == (
        "INVALID_ARGUMENT",
        f"input 'image': cannot read {X.nbytes} bytes at 0 {text}",
    )
    outputs = [shared_output(name, expected.nbytes)]
    assert refused(lambda: triton.infer("digits", [oip.infer_input("image", X)], outputs=outputs)) == (
        "INVALID_ARGUMENT",
        f"output 'logits': cannot write {expected.nbytes} bytes at 0 {text}",
    )
    assert shared_memory.file_of(handle._shm_key).stat().st_size == 100


def test_memory_that_becomes_shorter_while_requests_use_it(triton, engine, region):
    """Were it mapped, the server would die of SIGBUS; here it is in this very process."""
    name, handle = region
    expected = logits(engine)
    stop = threading.Event()

    def shorten():
        while not stop.is_set():
            os.truncate(shared_memory.file_of(handle._shm_key), 0)
            os.truncate(shared_memory.file_of(handle._shm_key), 16 * PAGE)

    def ask(_):
        try:
            outputs = [shared_output(name, expected.nbytes, X.nbytes)]
            triton.infer("digits", [shared_input(name, X.nbytes)], outputs=outputs)
        except InferenceServerException as error:
            return error.message()
        return "answered"

    shortening = threading.Thread(target=shorten)
    shortening.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            answers = set(pool.map(ask, range(400)))
    finally:
        stop.set()
        shortening.join()
    assert all(answer == "answered" or "has become shorter" in answer for answer in answers)
    assert triton.infer("digits", [oip.infer_input("image", X)]).as_numpy("logits").tobytes() == expected.tobytes()


def is_open(key):
    """Whether this process, which is the server's too, has the file of a key open."""
    return any(
        each.is_symlink() and each.readlink() == shared_memory.file_of(key) for each in Path("/proc/self/fd").iterdir()
    )


def test_nothing_stays_open(engine):
    key = shared_memory.unused_key()
    shared_memory.file_of(key).write_bytes(bytes(64))
    try:
        with (
            Server(engine, ServerConfig(port=0, allow_shared_memory=True)) as server,
            InferenceServerClient(server.address) as client,
        ):
            client.register_system_shared_memory("a", key, 64)
            client.register_system_shared_memory("b", key, 64)
            assert is_open(key)
            client.unregister_system_shared_memory("a")
            # Refused ones are not kept either.
            refused(client.register_system_shared_memory, "c", key, 65)
            client.unregister_system_shared_memory("b")
            wait_for(lambda: not is_open(key))
            client.register_system_shared_memory("d", key, 64)
        wait_for(lambda: not is_open(key))
    finally:
        shared_memory.file_of(key).unlink()


def test_a_part_keeps_its_region_open():
    key = shared_memory.unused_key()
    shared_memory.file_of(key).write_bytes(b"abcdef")
    try:
        memory = SharedMemory(allowed=True, max_bytes=100, max_request_bytes=100)
        memory.register("r", key, 1, 5)
        part = memory.part(Place("r", 1, 2), "x")
        memory.close()
        assert part.read() == b"cd"
        part.write(memoryview(b"Z"))
        assert part.read() == b"Zd"
        del part
        assert not is_open(key)
    finally:
        shared_memory.file_of(key).unlink()


# ---- where it is not allowed -----------------------------------------------------------------------------------------

NOT_ALLOWED = "this server does not do shared memory (--allow-shared-memory); send tensors in the message"


def test_not_allowed(server):
    with InferenceServerClient(server.address) as client:
        for call, *arguments in (
            (client.get_system_shared_memory_status,),
            (client.register_system_shared_memory, "r", "/x", 8),
            (client.unregister_system_shared_memory,),
            (client.unregister_system_shared_memory, "r"),
        ):
            assert refused(call, *arguments) == ("UNIMPLEMENTED", NOT_ALLOWED)
        got = refused(client.infer, "digits", [shared_input("r", 8)])
        assert got == ("UNIMPLEMENTED", f"input 'image': {NOT_ALLOWED}")
        outputs = [shared_output("r", 8)]
        got = refused(lambda: client.infer("digits", [oip.infer_input("image", X)], outputs=outputs))
        assert got == ("UNIMPLEMENTED", f"output 'logits': {NOT_ALLOWED}")


def test_the_extension_is_told_where_it_is_allowed(triton, server):
    assert "system_shared_memory" in triton.get_server_metadata().extensions
    with InferenceServerClient(server.address) as client:
        assert "system_shared_memory" not in client.get_server_metadata().extensions
