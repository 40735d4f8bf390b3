"""Which addresses stay on this machine."""

import ipaddress

_SCHEMES = ("dns", "ipv4", "ipv6")
"""Of gRPC targets that have a host."""


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine is behind a host. Names are not looked up: who answers for them may change.

    Args:
        host: A name or an address, an IPv6 one with or without brackets.
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_local(target: str) -> bool:
    """Whether a gRPC target is on this machine: a loopback host, or a Unix socket.

    Args:
        target: As in `localhost:8001`, `dns:///localhost:8001` or `unix:/run/gradserve.sock`.
    """
    scheme, separator, rest = target.partition(":")
    if separator and scheme in {"unix", "unix-abstract"}:
        return True
    if separator and scheme in _SCHEMES:
        target = rest.removeprefix("///")  # with an authority between the slashes, that one says who "localhost" is
    return all(is_loopback(_host(address)) for address in target.split(","))


def authority(host: str, port: int) -> str:
    """Host and port, as gRPC takes them."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def _host(address: str) -> str:
    """Without its port."""
    if address.startswith("["):
        return address.partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address
