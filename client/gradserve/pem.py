"""PEM files, checked before gRPC sees them: what it says of a bad one goes to the log, and the call only fails."""

import os
import ssl
from pathlib import Path

Source = str | os.PathLike[str]


class PemError(Exception):
    """A file that is not what it should be; the text names it and says why."""


def read_authorities(file: Source) -> bytes:
    """The certificates of a file, to trust what they have signed.

    Raises:
        PemError: There is no certificate in it.
    """
    found = _read(file)
    try:
        ssl.create_default_context(cadata=found.decode("ascii", "replace"))
    except (ssl.SSLError, ValueError) as error:
        msg = f"{file}: expected certificates in PEM, got none that can be read"
        raise PemError(msg) from error
    return found


def read_pair(certificate: Source, key: Source) -> tuple[bytes, bytes]:
    """A certificate, with the chain that follows it, and its private key.

    Raises:
        PemError: One of them cannot be read, or they are not of one another.
    """
    chain, private = read_authorities(certificate), _read(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def refuse() -> str:  # or OpenSSL would ask the terminal
        msg = f"{key}: expected a private key without a passphrase"
        raise PemError(msg)

    try:
        context.load_cert_chain(certificate, key, password=refuse)
    except ssl.SSLError as error:
        problem = (
            f"expected the private key of {certificate}, got another one"
            if error.reason == "KEY_VALUES_MISMATCH"
            else "expected a private key in PEM"
        )
        msg = f"{key}: {problem}"
        raise PemError(msg) from error
    return chain, private


def complaint(certificate: Source, key: Source) -> str:
    """What somebody who trusts a certificate itself still finds wrong with it: its dates. "" for nothing.

    Args:
        certificate: Read by `read_pair` before, with `key`.
        key: Its private key.
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(certificate)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True))
    for end in (*ends, ends[0]):  # hello, hello and certificate, verdict
        try:
            end.do_handshake()
        except ssl.SSLCertVerificationError as error:
            return error.verify_message
        except ssl.SSLWantReadError:
            continue
    return ""


def _read(file: Source) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        msg = f"{file}: {error.strerror}"
        raise PemError(msg) from error
