"""Names of what differentiation adds to a graph; `grad/` and `cotangent/` never begin a name that an exporter makes."""


def cotangent_name(target: str) -> str:
    """The input that holds d f / d target."""
    return f"cotangent/{target}"


def gradient_name(wrt: str) -> str:
    """The output that holds d f / d wrt."""
    return f"grad/{wrt}"
