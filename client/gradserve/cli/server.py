"""The server that a command asks: where it is, whether to trust it, and who one is."""

import argparse
import os
from pathlib import Path

from gradserve import Client, Tls
from gradserve.errors import InvalidParameter

DEFAULT_SERVER = "localhost:8001"

TOKEN_VARIABLE = "GRADSERVE_TOKEN"


def add_options(parser: argparse.ArgumentParser) -> None:
    """`--server` and what belongs to it; `connect` uses them."""
    option = parser.add_argument_group("server").add_argument
    option(
        "--server",
        metavar="HOST:PORT",
        help=f"ask this server, whatever files there are (default: {DEFAULT_SERVER}, for what is no file here)",
    )
    option("--tls", action="store_true", help="by TLS, trusting the authorities that gRPC brings")
    option("--tls-ca", metavar="FILE", help="by TLS, trusting the authorities in this PEM file")
    option("--tls-certificate", metavar="FILE", help="this client's own certificate, for a server that wants one")
    option("--tls-key", metavar="FILE", help="its private key")
    option(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"file of the token to send (default: what the environment variable {TOKEN_VARIABLE} has)",
    )


def connect(arguments: argparse.Namespace, *, timeout: float | None = None) -> Client:
    """The client of the server that the options name.

    Args:
        arguments: Of a command, with those of `add_options`.
        timeout: As of `Client`.

    Raises:
        InvalidParameter: They cannot be used.
        OSError: The token's file cannot be read.
    """
    files = (arguments.tls_ca, arguments.tls_certificate, arguments.tls_key)
    tls = Tls(*files) if any(files) else arguments.tls
    return Client(address(arguments), timeout=timeout, tls=tls, token=_token(arguments.token_file))


def address(arguments: argparse.Namespace) -> str:
    """Where the server is."""
    return str(arguments.server or DEFAULT_SERVER)


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    token = file.read_text(encoding="utf-8").strip()
    if not token:
        msg = f"--token-file {file}: expected a token, got nothing"
        raise InvalidParameter(msg)
    return token
