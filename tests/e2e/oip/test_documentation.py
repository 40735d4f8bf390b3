"""The snippets of docs/triton-clients.md run as they stand, one after the other, and say what they give."""

import re

from support.paths import ROOT
from support.shared_memory import unused_key

from gradserve_server import ServerConfig
from gradserve_server.rpc.app import Server


def test_the_snippets(engine, capsys):
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "docs/triton-clients.md").read_text(encoding="utf-8"), re.S)
    predicting, sharing = snippets
    names = {}
    with Server(engine, ServerConfig(port=0, allow_shared_memory=True)) as server:
        exec(predicting.replace("localhost:8001", server.address), names)
        logits = names["logits"]
        exec(sharing.replace("localhost:8001", server.address).replace('"/digits"', f'"{unused_key()}"'), names)
    assert names["logits"].tobytes() == logits.tobytes()
    assert (names["logits"].dtype.name, names["logits"].shape) == ("float32", (2, 10))
    assert names["classes"].shape == (2, 3)
    assert re.fullmatch(rb"-?\d+\.\d{6}:\d:\d", names["classes"][0, 0])
    assert capsys.readouterr().out == "4\n"
