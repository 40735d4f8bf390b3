"""Where a server listens, and how: who may hear what is said there, and what a connection may do."""

import grpc

from gradserve.addresses import authority, is_loopback
from gradserve_server.config import ServerConfig
from gradserve_server.rpc.tls import server_credentials
from gradserve_server.settings import SettingsError

_MIB = 1024 * 1024


def check_exposure(config: ServerConfig) -> None:
    """Makes sure that nothing but this machine is answered in the clear, unless the settings say so.

    Raises:
        SettingsError: Something would be.
    """
    if (config.tls_certificate is None) != (config.tls_key is None):
        msg = "--tls-certificate, --tls-key: expected both or neither, got one"
        raise SettingsError(msg)
    if config.tls_client_ca is not None and config.tls_certificate is None:
        msg = "--tls-client-ca: expected --tls-certificate and --tls-key with it, got neither"
        raise SettingsError(msg)
    if config.tls_certificate is None and not is_loopback(config.host):
        if config.tokens_file is not None:
            msg = (
                f"--host {config.host}: tokens would travel in the clear; give --tls-certificate and --tls-key, or listen "
                "on 127.0.0.1"
            )
            raise SettingsError(msg)
        if not config.insecure:
            msg = (
                f"--host {config.host}: everybody on the network could read and ask; give --tls-certificate and --tls-key, "
                "or --insecure to listen in the clear"
            )
            raise SettingsError(msg)
    if config.metrics_port is not None and not is_loopback(config.metrics_host) and not config.insecure:
        msg = (
            f"--metrics-host {config.metrics_host}: everybody on the network could read the metrics, which have no TLS; "
            "give --insecure to allow it, or listen on 127.0.0.1"
        )
        raise SettingsError(msg)


def options(config: ServerConfig) -> list[tuple[str, int]]:
    """Of gRPC's server."""
    limit = config.max_message_mib * _MIB
    made = {
        # After decompression, which stops there.
        "grpc.max_receive_message_length": limit,
        "grpc.max_send_message_length": limit,
        # A client whose network has gone is noticed, and its ascent stopped, after at most 80 s.
        "grpc.keepalive_time_ms": 60_000,
        "grpc.keepalive_timeout_ms": 20_000,
        # Clients may ask the same, as ours do; by default a ping more often than every 5 minutes ends the connection.
        "grpc.http2.min_ping_interval_without_data_ms": 20_000,
        "grpc.keepalive_permit_without_calls": 1,
        # Where many calls come at once, gRPC would end some with CANCELLED, which is a caller's own wish. They wait.
        "grpc.server.max_pending_requests": 2**31 - 1,
        "grpc.server.max_pending_requests_hard_limit": 2**31 - 1,
        # Two servers on one port would share its connections without anybody noticing.
        "grpc.so_reuseport": 0,
    }
    seconds = {
        "grpc.max_connection_age_ms": config.max_connection_age_seconds,
        "grpc.max_connection_age_grace_ms": config.max_connection_age_grace_seconds,
        "grpc.max_connection_idle_ms": config.max_connection_idle_seconds,
    }
    return [*made.items(), *((name, round(1000 * value)) for name, value in seconds.items() if value)]


def add_port(server: grpc.Server, config: ServerConfig) -> int:
    """Makes a server listen, by TLS where there is a certificate.

    Returns:
        The port.

    Raises:
        SettingsError: The files of TLS cannot be used.
        OSError: The address cannot be bound.
    """
    address = authority(config.host, config.port)
    try:
        if config.tls_certificate is None or config.tls_key is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(
            address, server_credentials(config.tls_certificate, config.tls_key, config.tls_client_ca)
        )
    except RuntimeError as error:
        msg = f"cannot listen on {address}: is another server there?"
        raise OSError(msg) from error
