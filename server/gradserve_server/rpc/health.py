"""`grpc.health.v1`, for the server, its services, and each model and version as it comes and goes."""

from collections.abc import Iterable

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gradserve_server.engine import Engine
from gradserve_server.rpc.watchers import HealthServicer

_SERVER = ""
"""How the protocol names the server as a whole."""

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class Health:
    """Tells who serves.

    Args:
        services: Names of services; they serve as long as the server does.
        strict_readiness: Whether the server as a whole serves only while no model has failed to load.
    """

    def __init__(self, services: Iterable[str], *, strict_readiness: bool) -> None:
        self._services, self._strict_readiness = tuple(services), strict_readiness
        self._servicer = HealthServicer()
        self._models: set[str] = set()
        """Those that were ever served."""

    def add_to(self, server: grpc.Server) -> None:
        """Answers there."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    def tell(self, engine: Engine) -> None:
        """What is served now. A model that was, and is not any more, is not serving."""
        serving = {name for model in engine.versions for name in (model.name, f"{model.name}/{model.version}")}
        self._models |= serving
        for name in self._models:
            self._servicer.set(name, SERVING if name in serving else NOT_SERVING)
        for service in self._services:
            self._servicer.set(service, SERVING)
        self._servicer.set(_SERVER, SERVING if engine.ready or not self._strict_readiness else NOT_SERVING)

    def stop(self) -> None:
        """Nobody serves any more, whatever is told later."""
        self._servicer.enter_graceful_shutdown()
