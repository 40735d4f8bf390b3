"""Reads what was written to a terminal, as a terminal that can show pictures would."""

import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from base64 import b64decode
from collections.abc import Mapping, Sequence
from fcntl import ioctl
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

KITTY = re.compile(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\")
ITERM2 = re.compile(r"\x1b\]1337;File=([^:]*):([^\x07]*)\x07")
SIXEL = re.compile(r"\x1bP0;1q([^\x1b]*)\x1b\\")
ANY = re.compile(r"\x1b_G|\x1b\]1337|\x1bP")

Levels = npt.NDArray[np.uint8]


def run(command: Sequence[str | Path], environment: Mapping[str, str], *, cell: tuple[int, int] = (8, 16)) -> str:
    """What a command writes to standard error, a terminal of 100 by 40 characters of that size; nothing else is one."""
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 40, 100, 100 * cell[0], 40 * cell[1]))
    process = subprocess.Popen(
        list(map(str, command)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=slave,
        env={**os.environ, "COLORTERM": "truecolor", "COLUMNS": "100", "LINES": "40", **environment},
    )
    os.close(slave)
    written = b""
    with os.fdopen(master, "rb", buffering=0) as terminal:
        while True:
            try:
                part = terminal.read(65536)
            except OSError:  # Linux: nobody has the other end any more
                break
            if not part:
                break
            written += part
    out, _ = process.communicate(timeout=60)
    text = written.decode()
    assert process.returncode == 0, text
    assert not ANY.search(out.decode()), "standard output is for results"
    return text


def command(*arguments: str | Path) -> list[str | Path]:
    """`gradserve ...`."""
    return [sys.executable, "-m", "gradserve.cli", *arguments]


def kitty(text: str) -> tuple[list[Levels], list[dict[str, str]]]:
    """The pictures that were sent, and the commands that showed one."""
    sent, shown, data = [], [], ""
    for keys, payload in KITTY.findall(text):
        named = dict(pair.split("=") for pair in keys.split(","))
        if named.get("a") == "p":
            assert not payload
            assert sent, "shown before it was sent"
            shown.append(named)
            continue
        assert len(payload) <= 4096
        data += payload
        if named["m"] == "0":
            sent.append(_png(data))
            data = ""
    assert not data
    return sent, shown


def iterm2(text: str) -> tuple[list[Levels], list[dict[str, str]]]:
    """The pictures, and how each was shown."""
    found = ITERM2.findall(text)
    return [_png(data) for _, data in found], [dict(pair.split("=") for pair in keys.split(";")) for keys, _ in found]


def sixel(text: str) -> list[Levels]:
    """The pictures."""
    return [_sixel(body) for body in SIXEL.findall(text)]


_TOKEN = re.compile(r'"(?P<raster>[\d;]+)|#(?P<colour>[\d;]+)|!(?P<count>\d+)(?P<run>[?-~])|(?P<one>[?-~])|(?P<move>[$-])')


def _sixel(body: str) -> Levels:
    """DEC STD 070, chapter 9: raster attributes, colours in percent of red, green, blue, runs, ends of passes and bands."""
    image, palette = np.zeros((0, 0, 3), np.uint8), {}
    x = y = at = 0
    colour = -1
    while at < len(body):
        token = _TOKEN.match(body, at)
        assert token, f"no sixels: {body[at : at + 20]!r}"
        at = token.end()
        if token["raster"]:
            _, _, width, height = map(int, token["raster"].split(";"))
            image = np.zeros((height, width, 3), np.uint8)
        elif token["colour"]:
            colour, *components = map(int, token["colour"].split(";"))
            if components:
                assert components[0] == 2
                palette[colour] = np.round(np.array(components[1:]) * 255 / 100).astype(np.uint8)
        elif token["move"]:
            x, y = 0, y + 6 * (token["move"] == "-")
        else:
            count, bits = int(token["count"] or 1), ord(token["run"] or token["one"]) - ord("?")
            for row in range(6):
                if bits >> row & 1:
                    image[y + row, x : x + count] = palette[colour]
            x += count
    return image


def _png(data: str) -> Levels:
    return np.asarray(Image.open(io.BytesIO(b64decode(data, validate=True))).convert("RGB"))
