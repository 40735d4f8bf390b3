"""docs/export.md, word by word: its files are written, its commands run, and they print what it says, numbers aside."""

import re
import shlex
import subprocess
import sys

import pytest
from support.paths import ROOT

pytest.importorskip("torch", reason="an exporter: scripts/test --torch installs it")
pytest.importorskip("onnxscript", reason="torch's newer exporter: scripts/test --torch installs it")
pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]

DOCUMENT = (ROOT / "docs" / "export.md").read_text()
PROGRAMS = {"gradserve": [sys.executable, "-m", "gradserve.cli"], "python": [sys.executable], "cat": ["cat"]}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


def without_numbers(text: str) -> list[str]:
    """Lines, with measured numbers and the width of columns left out."""
    return [re.sub(r"\s+", " ", re.sub(r"\d\.?\d*e[-+]\d\d|by \d\S*", "#", line)).strip() for line in text.splitlines()]


def test_the_walk_through(tmp_path):
    for code in blocks("python"):
        (tmp_path / code.partition("\n")[0].removeprefix("# ")).write_text(code)
    commands = 0
    for block in blocks(""):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            program, *arguments = shlex.split(command)
            done = subprocess.run(
                [*PROGRAMS[program], *arguments], capture_output=True, text=True, timeout=200, check=False, cwd=tmp_path
            )
            assert done.returncode == 0, (command, done.stderr)
            got = without_numbers(done.stdout + done.stderr)
            for line in without_numbers(printed):
                assert line in {"", "..."} or line in got, (command, line, got)
            commands += 1
    assert commands == 4
