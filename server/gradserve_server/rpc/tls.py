"""The server's certificate and key: read from files, checked, and read again when they change."""

import logging
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from gradserve import pem
from gradserve_server.rpc.reloaded import Reloaded
from gradserve_server.settings import SettingsError

_log = logging.getLogger(__name__)


def server_credentials(certificate: Path, key: Path, client_ca: Path | None) -> grpc.ServerCredentials:
    """What a port that speaks TLS needs. A connection is made with the files as they are at that time.

    Args:
        certificate: With the chain that follows it, in PEM.
        key: Its private key.
        client_ca: Who signs the certificates of clients, which then need one; None asks for none.

    Raises:
        SettingsError: A file is not what it should be.
    """
    files = [certificate, key, *([client_ca] if client_ca else [])]
    reloaded = Reloaded(files, lambda: _load(certificate, key, client_ca))
    return grpc.dynamic_ssl_server_credentials(reloaded.current(), _changes(reloaded), client_ca is not None)


def _changes(
    reloaded: Reloaded[grpc.ServerCertificateConfiguration],
) -> Callable[[], Any]:
    """What gRPC calls before each handshake: the new configuration, or None where it is the one it has."""
    given = reloaded.current()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal given
        newest = reloaded.current()
        if newest is given:
            return None
        given = newest
        return newest

    return fetch


def _load(certificate: Path, key: Path, client_ca: Path | None) -> grpc.ServerCertificateConfiguration:
    try:
        chain, private = pem.read_pair(certificate, key)
        authorities = None if client_ca is None else pem.read_authorities(client_ca)
    except pem.PemError as error:
        msg = f"TLS: {error}"
        raise SettingsError(msg) from error
    if key.stat().st_mode & stat.S_IROTH:
        _log.warning("TLS: %s: every user of this machine may read this private key (chmod o-r)", key)
    if problem := pem.complaint(certificate, key):
        _log.warning("TLS: %s: %s", certificate, problem)
    return grpc.ssl_server_certificate_configuration([(private, chain)], authorities)
