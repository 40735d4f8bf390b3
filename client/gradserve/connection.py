"""How a client connects: TLS, a token, attempts. What `Client` and `aio.Client` share. Sans I/O, but for files."""

import json
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import grpc

from gradserve import pem
from gradserve._metadata import sent
from gradserve.addresses import is_local
from gradserve.errors import InvalidParameter
from gradserve.v1 import gradient_service_pb2, model_service_pb2

__all__ = ["Connection", "ConnectionSettings", "Tls"]

MAX_MESSAGE_BYTES = 256 * 1024 * 1024
"""Default limit of one message, both ways; the server's default is the same."""

MAX_RETRIES = 4
"""gRPC makes five attempts at most."""

CHANGING = {"LoadModel", "UnloadModel"}
"""RPCs that change something on the server. Every other call may be made again even where nobody knows how far it came."""

_RETRIED = [
    {"service": service.full_name, "method": method.name}
    for module in (gradient_service_pb2, model_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if method.name not in CHANGING
]


@dataclass(frozen=True)
class Tls:
    """Files in PEM that say whom to trust, and who one is."""

    ca: pem.Source | None = None
    """Certificates of the authorities that the server's must be signed by; those that gRPC brings by default."""
    certificate: pem.Source | None = None
    """Of this client, for a server that wants one."""
    key: pem.Source | None = None
    """Its private key."""

    def credentials(self) -> grpc.ChannelCredentials:
        """As gRPC takes them.

        Raises:
            InvalidParameter: A file is not what it should be.
        """
        if (self.certificate is None) != (self.key is None):
            msg = "tls: expected a certificate and its key, got only one of them"
            raise InvalidParameter(msg)
        try:
            roots = None if self.ca is None else pem.read_authorities(self.ca)
            pair = None if self.certificate is None or self.key is None else pem.read_pair(self.certificate, self.key)
        except pem.PemError as error:
            msg = f"tls: {error}"
            raise InvalidParameter(msg) from error
        chain, key = pair or (None, None)
        return grpc.ssl_channel_credentials(roots, key, chain)


class ConnectionSettings(TypedDict, total=False):
    """Keyword arguments of both clients; each may be left out."""

    tls: bool | Tls
    """True trusts the authorities that gRPC brings; `Tls` says whom. In the clear by default."""
    token: str | None
    """Sent with each call; only by TLS, or to this machine."""
    retries: int
    """Further attempts of a call that no server has answered: 0 to 4, by default 2."""
    credentials: grpc.ChannelCredentials | None
    """gRPC's own, in place of `tls`."""
    max_message_bytes: int
    """Largest message either way, by default 256 MiB."""


@dataclass(frozen=True)
class Connection:
    """What a channel is made of, and what goes with each call."""

    target: str
    credentials: grpc.ChannelCredentials | None
    """None for a connection in the clear."""
    options: tuple[tuple[str, int | str], ...]
    metadata: tuple[tuple[str, str], ...]
    """The token, where there is one."""

    @staticmethod
    def of(target: str, **settings: Unpack[ConnectionSettings]) -> "Connection":
        """Checks settings and fills in what they leave out.

        Raises:
            InvalidParameter: They cannot be used, or would send a token in the clear.
        """
        if unknown := settings.keys() - ConnectionSettings.__annotations__.keys():
            msg = (
                f"expected settings among {', '.join(ConnectionSettings.__annotations__)}, got {', '.join(sorted(unknown))}"
            )
            raise TypeError(msg)
        credentials = _credentials(settings)
        local = is_local(target)
        token = settings.get("token")
        if token is not None and credentials is None and not local:
            msg = f"token: expected TLS, or a server on this machine, for a token that nobody else may read; got '{target}'"
            raise InvalidParameter(msg)
        limit = settings.get("max_message_bytes", MAX_MESSAGE_BYTES)
        return Connection(
            target,
            credentials,
            (*_options(limit), *_retry_options(settings.get("retries", 2), limit), *([_NO_PROXY] if local else [])),
            () if token is None else (("authorization", f"Bearer {_checked(token)}"),),
        )

    def open(self, made_by: Any) -> Any:
        """A channel.

        Args:
            made_by: `grpc` or `grpc.aio`.
        """
        if self.credentials is None:
            return made_by.insecure_channel(self.target, self.options)
        return made_by.secure_channel(self.target, self.credentials, self.options)

    def sent(self) -> tuple[tuple[str, str], ...]:
        """What a call that is made here and now sends along."""
        return (*self.metadata, *sent())


_NO_PROXY = ("grpc.enable_http_proxy", 0)
"""A proxy of the environment is no way to this machine, and would read the token."""


def _credentials(settings: ConnectionSettings) -> grpc.ChannelCredentials | None:
    tls, credentials = settings.get("tls", False), settings.get("credentials")
    if not tls:
        return credentials
    if credentials is not None:
        msg = "tls: expected this or credentials, got both"
        raise InvalidParameter(msg)
    return (tls if isinstance(tls, Tls) else Tls()).credentials()


def _checked(token: str) -> str:
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        msg = "token: expected printable ASCII characters without blanks"
        raise InvalidParameter(msg)
    return token


def _options(max_message_bytes: int) -> tuple[tuple[str, int], ...]:
    return (
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        # A server whose network has gone is noticed after at most 80 s, also while an ascent says nothing.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
    )


def _retry_options(retries: int, max_message_bytes: int) -> tuple[tuple[str, int | str], ...]:
    """gRPC's own retries: with jitter, within the deadline, never once an answer has begun."""
    if not 0 <= retries <= MAX_RETRIES:
        msg = f"retries: expected a whole number from 0 to {MAX_RETRIES}, got {retries!r}"
        raise InvalidParameter(msg)
    if not retries:
        return (("grpc.enable_retries", 0),)
    policy = {
        "maxAttempts": 1 + retries,
        "initialBackoff": "0.2s",
        "maxBackoff": "5s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return (
        ("grpc.service_config", json.dumps({"methodConfig": [{"name": _RETRIED, "retryPolicy": policy}]})),
        # By default a request of more than 256 KiB is forgotten once it is sent, and its call not made again.
        ("grpc.per_rpc_retry_buffer_size", max_message_bytes),
        # By default a server that refused a connection is left alone for a second: longer than the first attempts take.
        ("grpc.initial_reconnect_backoff_ms", 100),
    )
