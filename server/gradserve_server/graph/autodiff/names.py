"""Names of what differentiation adds to a graph; no exporter makes names that begin like these."""


def cotangent_name(target: str) -> str:
    """The input that holds d f / d target."""
    return f"cotangent/{target}"


def gradient_name(wrt: str) -> str:
    """The output that holds d f / d wrt."""
    return f"grad/{wrt}"


def tangent_name(name: str) -> str:
    """The input that holds a direction in which an input moves; the output that says how a target then moves."""
    return f"tangent/{name}"


def hvp_name(wrt: str) -> str:
    """The output that holds H t for an input."""
    return f"hvp/{wrt}"
