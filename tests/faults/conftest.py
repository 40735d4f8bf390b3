"""One server for the whole suite, in a process of its own, whose predictions are watched all the time."""

import os
from multiprocessing.shared_memory import SharedMemory

import grpc
import pytest
from support.fuzz.seeds import SHARED_MEMORY
from support.purity import Purity
from support.server_process import ServerProcess


def pytest_addoption(parser):
    parser.addoption(
        "--fuzz",
        type=int,
        metavar="N",
        default=int(os.environ.get("GRADSERVE_FUZZ", "0")),
        help="fuzzed requests for each RPC, other ones in each run (default: a few, always the same)",
    )


@pytest.fixture(scope="session")
def served():
    region = SharedMemory(SHARED_MEMORY.removeprefix("/"), create=True, size=2**14)
    try:
        with ServerProcess("--allow-shared-memory") as process:
            yield process
    finally:
        region.close()
        region.unlink()


@pytest.fixture(scope="session")
def watched(served):
    """Purity under fire: a thread predicts all the time, and finds the same bytes."""
    with Purity(served.address) as purity:
        yield purity
    assert purity.rounds > 10


@pytest.fixture(autouse=True)
def _the_next_good_request_gets_the_right_bytes(request):
    """After every test that used the server."""
    if "served" not in request.fixturenames:
        yield
        return
    watched = request.getfixturevalue("watched")
    yield
    served = request.getfixturevalue("served")
    assert served.alive, served.log()
    watched.check()


@pytest.fixture(scope="session")
def channel(served):
    with grpc.insecure_channel(served.address) as channel:
        yield channel


@pytest.fixture(scope="session")
def loading():
    """A server whose models come and go on request, so that nobody predicts there all the time."""
    with ServerProcess("--model-control-mode", "explicit", "--load-model", "*") as process:
        yield process
