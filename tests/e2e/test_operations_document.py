"""The snippets of docs/operations.md run as they stand."""

import re

import pytest
from opentelemetry.sdk.trace import TracerProvider
from support.paths import ROOT

from gradserve_server import ServerConfig
from gradserve_server.rpc import logs
from gradserve_server.rpc.app import Server

SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/operations.md").read_text(encoding="utf-8"), re.S)


@pytest.fixture(scope="module")
def address(engine):
    level = logs.OURS.level
    with Server(engine, ServerConfig(port=0), tracer_provider=TracerProvider()) as server:
        yield server.address
    logs.OURS.setLevel(level)


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_snippet(address, capsys, snippet):
    exec(snippet.replace("localhost:8001", address), {})
    printed = capsys.readouterr().out
    for expected in re.findall(r"print\(.*\)  # (.*)", snippet):
        assert expected in printed
    if "_settings(" in snippet:
        assert re.search(r"'bool_param': True|'value': \['OFF'\]", printed)
