"""Bearer tokens, as a file lists them: who has one, and what it allows."""

import hashlib
import hmac
import logging
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gradserve_server.rpc.permissions import PERMISSIONS, Need
from gradserve_server.settings import SettingsError

_log = logging.getLogger(__name__)

HASHED = "sha256:"
"""How a token begins of which the file has only the digest."""


@dataclass(frozen=True)
class Token:
    """One line of the file. No error and no log shows what is secret."""

    name: str
    permissions: frozenset[Need]
    digest: bytes = field(repr=False)
    """SHA-256 of what the caller sends."""


class Tokens:
    """All that are known."""

    def __init__(self, entries: Sequence[Token]) -> None:
        self._entries = entries

    def find(self, secret: str) -> Token | None:
        """The token that a caller sent; None for one that is not known. Takes as long for the one as for the other."""
        digest = _digest(secret)
        found = None
        for entry in self._entries:
            if hmac.compare_digest(entry.digest, digest):
                found = entry
        return found


def read_tokens(file: Path) -> Tokens:
    """Reads a tokens file: a line `NAME PERMISSIONS TOKEN` for each, `#` before a comment.

    PERMISSIONS are joined by commas; TOKEN is the token itself, or `sha256:` and the digest of it in hexadecimal digits.

    Raises:
        SettingsError: The file cannot be read. The text says which line is wrong, and nothing that stands there: it may be
            a token.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        exposed = bool(file.stat().st_mode & stat.S_IROTH)
    except (OSError, UnicodeDecodeError) as error:
        msg = f"--tokens-file {file}: {error.strerror if isinstance(error, OSError) else 'expected UTF-8'}"
        raise SettingsError(msg) from error
    entries: dict[int, Token] = {}
    plain = False
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            entries[number] = _entry(words, entries)
        except ValueError as error:
            msg = f"--tokens-file {file}, line {number}: {error}"
            raise SettingsError(msg) from None
        plain |= not words[2].startswith(HASHED)
    if not entries:
        msg = f"--tokens-file {file}: expected at least one token, got none, so nobody could ask for anything"
        raise SettingsError(msg)
    if exposed and plain:
        _log.warning("--tokens-file %s: every user of this machine may read these tokens (chmod o-r, or sha256:)", file)
    return Tokens(tuple(entries.values()))


def _entry(words: Sequence[str], before: dict[int, Token]) -> Token:
    if len(words) != 3:
        msg = f"expected NAME PERMISSIONS TOKEN, got {len(words)} word{'s' * (len(words) != 1)}"
        raise ValueError(msg)
    name, permissions, secret = words
    known = {str(need): need for need in PERMISSIONS}
    granted = permissions.split(",")
    if not known.keys() >= set(granted):
        msg = f"expected permissions of {','.join(known)}, joined by commas, as the second word"
        raise ValueError(msg)
    entry = Token(name, frozenset(known[each] for each in granted), _digest_of(secret))
    for number, other in before.items():
        for what, same in (("name", entry.name == other.name), ("token", entry.digest == other.digest)):
            if same:
                msg = f"expected another {what} than in line {number}"
                raise ValueError(msg)
    return entry


def _digest_of(secret: str) -> bytes:
    if not secret.startswith(HASHED):
        return _digest(secret)
    try:
        digest = bytes.fromhex(secret.removeprefix(HASHED))
    except ValueError:
        digest = b""
    if len(digest) != hashlib.sha256().digest_size:
        msg = f"expected 64 hexadecimal digits after {HASHED}"
        raise ValueError(msg)
    return digest


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
