"""System shared memory, by the stock client: regions, known, unknown, refused, and where all of it is."""

import os

import grpc
import pytest
from support import oip, shared_memory
from support.sharing import HUGE, PAGE, X, logits, refused, shared_input, shared_output
from tritonclient.grpc import InferenceServerClient, service_pb2

from gradserve_server.rpc.oip.shared_memory import MAX_NAME, MAX_REGIONS

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
