"""Servers that allow shared memory, and a region of it."""

import grpc
import pytest
from support import oip, shared_memory
from support.sharing import PAGE
from tritonclient.grpc import InferenceServerClient

from gradserve_server import ServerConfig
from gradserve_server.rpc.app import Server


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
