"""The snippet of docs/triton-clients.md runs as it stands, and says what it gives."""

import re

from support.paths import ROOT

from gradserve_server import ServerConfig
from gradserve_server.rpc.app import Server


def test_the_snippet(engine, capsys):
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/triton-clients.md").read_text(encoding="utf-8"), re.S)
    names = {}
    with Server(engine, ServerConfig(port=0)) as server:
        exec(snippet.replace("localhost:8001", server.address), names)
    assert (names["logits"].dtype.name, names["logits"].shape) == ("float32", (2, 10))
    assert names["classes"].shape == (2, 3)
    assert re.fullmatch(rb"-?\d+\.\d{6}:\d:\d", names["classes"][0, 0])
    assert capsys.readouterr().out == "4\n"
