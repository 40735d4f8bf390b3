"""HTTP/2 by hand: as much of a call as one likes, over a plain socket."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from h2.config import H2Configuration
from h2.connection import H2Connection

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
UNARY = "/gradserve.v1.GradientService/Infer"


@contextmanager
def connected(address: str) -> Iterator[socket.socket]:
    """A socket connected to a server."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as sock:
        yield sock


def send(sock: socket.socket, data: bytes) -> None:
    """All of it, or until the server has had enough."""
    with suppress(ConnectionError):
        sock.sendall(data)


def opened() -> H2Connection:
    """A connection whose preface waits to be sent."""
    connection = H2Connection(H2Configuration(client_side=True, validate_outbound_headers=False))
    connection.initiate_connection()
    return connection


def begin_call(connection: H2Connection, path: str = UNARY, *more: tuple[str, str]) -> int:
    """The headers of a call; returns its stream."""
    stream = connection.get_next_available_stream_id()
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *more,
    ]
    connection.send_headers(stream, headers)
    return stream


def message(data: bytes, length: int | None = None) -> bytes:
    """As gRPC frames one, with a length that may be a lie."""
    return b"\0" + (len(data) if length is None else length).to_bytes(4, "big") + data


def client_hello() -> bytes:
    """What a client that wants TLS says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()
