"""What tests share: one engine and one server on the shipped models for the whole run."""

import logging
from importlib.util import find_spec

import pytest
from support.paths import MODELS

import gradserve
from gradserve_server import Engine, ServerConfig
from gradserve_server.rpc.app import Server


def pytest_addoption(parser):
    parser.addoption("--large", action="store_true", help="also models above protobuf's 2 GiB limit (8 GiB of memory)")


def pytest_runtest_setup(item):
    if item.get_closest_marker("torch") is not None and find_spec("torch") is None:
        pytest.skip("scripts/test --torch installs torch")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """What is skipped for want of torch has its marker: the gate runs all that has not in an environment without torch."""
    report = yield
    skipped = call.excinfo is not None and call.excinfo.errisinstance(pytest.skip.Exception)
    if skipped and "torch" in str(call.excinfo.value) and item.get_closest_marker("torch") is None:
        report.outcome, report.longrepr = "failed", f"without the marker `torch`: {call.excinfo.value}"
    return report


@pytest.fixture(autouse=True)
def _no_graph_is_run_untuned(monkeypatch):
    """A graph that cannot be tuned is served all the same: here it is a failure."""
    logger = logging.getLogger("gradserve_server.runtime.tuned")
    failures = []
    monkeypatch.setattr(logger, "warning", lambda text, *values: failures.append(text % values))
    yield
    assert not failures


@pytest.fixture(scope="session")
def engine():
    with Engine(MODELS) as engine:
        yield engine


@pytest.fixture(scope="session")
def server(engine):
    with Server(engine, ServerConfig(port=0, drain_seconds=2)) as server:
        yield server


@pytest.fixture(scope="session")
def client(server):
    with gradserve.Client(server.address) as client:
        yield client
