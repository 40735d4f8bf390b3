"""What the owner of shared memory may do while a server uses it."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from support import oip, shared_memory
from support.jobs import WAIT, Crowd
from support.onnx_models import build, save
from support.sharing import PAGE, X, logits, refused, shared_input, shared_output
from support.waiting import wait_for
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from gradserve_server import ServerConfig
from gradserve_server.rpc.app import Server
from gradserve_server.rpc.oip.shared_memory import Place, SharedMemory


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
