"""The stock client on the shipped models, and a server of models that answer with what they got."""

import grpc
import pytest
from support import oip
from tritonclient.grpc import InferenceServerClient


@pytest.fixture(scope="session")
def triton(server):
    with InferenceServerClient(server.address) as client:
        yield client


@pytest.fixture(scope="session")
def stub(server):
    with grpc.insecure_channel(server.address) as channel:
        yield oip.stub(channel)


@pytest.fixture(scope="session")
def echo_server(tmp_path_factory):
    with oip.served(oip.echo_repository(tmp_path_factory.mktemp("models"))) as server:
        yield server


@pytest.fixture(scope="session")
def echo(echo_server):
    with InferenceServerClient(echo_server.address) as client:
        yield client


@pytest.fixture(scope="session")
def echo_stub(echo_server):
    with grpc.insecure_channel(echo_server.address) as channel:
        yield oip.stub(channel)
