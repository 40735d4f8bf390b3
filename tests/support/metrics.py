"""A server's metrics, as numbers."""

from gradserve_server.rpc.app import Server


def value(server: Server, name: str, **labels: str) -> float:
    """One of them; 0 before its labels have been seen."""
    return server.metrics.registry.get_sample_value(name, labels) or 0
