"""Certificates for tests, as files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: Path
    key: Path

    @property
    def server(self) -> Mapping[str, Path]:
        """As settings of a server."""
        return {"tls_certificate": self.certificate, "tls_key": self.key}

    @property
    def client(self) -> Mapping[str, Path]:
        """As settings of a client."""
        return {"certificate": self.certificate, "key": self.key}


class Authority:
    """Signs, and writes what it signs into a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def pair(self, *names: str, file: str = "pair", **fields) -> Pair:
        """A certificate for names, in files of the same name each time."""
        made = self._ca.issue_cert(*names, **fields)
        pair = Pair(self._folder / f"{file}.pem", self._folder / f"{file}.key")
        pair.certificate.write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))
        made.private_key_pem.write_to_path(pair.key)
        pair.key.chmod(0o600)
        return pair
