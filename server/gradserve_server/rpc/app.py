"""The server: an engine, its services, health and reflection on one port."""

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import grpc
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from gradserve.addresses import authority
from gradserve.errors import NotSupported
from gradserve.v1 import gradient_service_pb2, model_service_pb2
from gradserve.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from gradserve_server.config import ServerConfig
from gradserve_server.engine import Engine
from gradserve_server.rpc import listening
from gradserve_server.rpc.access import AccessInterceptor
from gradserve_server.rpc.call import observe_turns
from gradserve_server.rpc.call_pool import CallPool
from gradserve_server.rpc.composed import Composed
from gradserve_server.rpc.drain import Gate, GateInterceptor
from gradserve_server.rpc.gradients import GradientServicer
from gradserve_server.rpc.handlers import handlers_of
from gradserve_server.rpc.health import Health
from gradserve_server.rpc.interceptor import CallInterceptor
from gradserve_server.rpc.logs import AccessLog
from gradserve_server.rpc.message_checks import MessageChecks
from gradserve_server.rpc.metrics import Metrics
from gradserve_server.rpc.models import ModelServicer
from gradserve_server.rpc.oip import messages
from gradserve_server.rpc.oip.service import handlers
from gradserve_server.rpc.oip.servicer import InferenceServicer
from gradserve_server.rpc.oip.shared_memory import SharedMemory
from gradserve_server.rpc.receiving import Receiving
from gradserve_server.rpc.reflection import pool_of
from gradserve_server.rpc.reloaded import Reloaded
from gradserve_server.rpc.statistics import Statistics
from gradserve_server.rpc.threads import ThreadInterceptor
from gradserve_server.rpc.tokens import read_tokens
from gradserve_server.rpc.trace_settings import TraceSettings
from gradserve_server.runtime.events import Observer

if TYPE_CHECKING:
    from gradserve_server.rpc.tracing import Tracing

_log = logging.getLogger(__name__)

MIB = 1024 * 1024

MAX_WATCHERS = 64
"""Health watchers, and readers of descriptions, answered at a time; more wait for one to leave."""

_WATCHERS = ("/grpc.health.v1.Health/Watch", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
"""RPCs that stay open while nothing happens."""

ASCENTS_SHARE = 0.8
"""Of `drain_seconds`: so long may ascents go on."""

STEP_SECONDS = 5.0
"""Beyond `drain_seconds`, for the step that an ascent was in when it was interrupted."""

SERVICES = (
    gradient_service_pb2.DESCRIPTOR.services_by_name["GradientService"].full_name,
    model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
    messages.NAME,
)

_FILES = (
    gradient_service_pb2.DESCRIPTOR,
    model_service_pb2.DESCRIPTOR,
    messages.service().file,
    health_pb2.DESCRIPTOR,
    reflection_pb2.DESCRIPTOR,
)
"""Where the services are described, for reflection."""


class Server:
    """A running server: `with Server(engine) as server: ...`. It listens once constructed.

    grpcio's thread-pool server, because it moves tensors several times faster than its asyncio one
    (docs/adr/0005-thread-pool-server.md). Ascents and streams have threads of their own to fill, so that they cannot
    keep predictions waiting.

    Args:
        engine: What does the work.
        config: Where and how to listen.
        tracer_provider: The application's own of OpenTelemetry; by default one as the environment says, if `config.trace`.

    Raises:
        SettingsError: Settings that cannot be used, or would let others in by accident.
        OSError: The address cannot be bound.
        NotSupported: To trace, without the extra for it.
    """

    def __init__(self, engine: Engine, config: ServerConfig | None = None, *, tracer_provider: Any = None) -> None:
        self._engine, self._config = engine, config or ServerConfig()
        listening.check_exposure(self._config)
        max_message_bytes = self._config.max_message_mib * MIB
        self._memory = SharedMemory(
            allowed=self._config.allow_shared_memory,
            max_bytes=self._config.max_shared_memory_mib * MIB,
            max_request_bytes=max_message_bytes,
        )
        statistics = Statistics()
        traced = TraceSettings(self._config.trace_rate) if self._config.trace or tracer_provider else None
        self._tracing = _tracing(traced, tracer_provider) if traced else None
        self._stopping, self._gate = threading.Lock(), Gate()
        self._gradients = GradientServicer(
            engine,
            self._config.max_ascents,
            statistics,
            max_message_bytes=max_message_bytes,
            should_interrupt=self._gate.hurried.is_set,
        )
        inference = InferenceServicer(
            engine,
            self._config.max_streams,
            statistics,
            self._memory,
            traced,
            is_ready=lambda: not self._gate.leaving and (engine.ready or not self._config.strict_readiness),
        )
        self.metrics = Metrics(
            engine,
            statistics,
            ascents=lambda: self._gradients.running_ascents,
            streams=lambda: inference.open_streams,
        )
        tracing = [self._tracing] if self._tracing else []
        self._observers: list[Observer] = [observe_turns, self.metrics.engine, *(each.observe for each in tracing)]
        threads = self._config.max_calls + self._config.max_ascents + self._config.max_streams
        self._receiving = Receiving(threads)
        watchers = dict.fromkeys(_WATCHERS, ThreadPoolExecutor(MAX_WATCHERS, "gradserve-watchers"))
        self._server = grpc.server(
            CallPool(threads, "gradserve"),
            interceptors=self._guarded(
                [
                    ThreadInterceptor(self._receiving, watchers),
                    CallInterceptor(self.metrics, AccessLog(), *tracing),
                    GateInterceptor(self._gate),
                ]
            ),
            options=listening.options(self._config),
        )
        gradient_service = gradient_service_pb2.DESCRIPTOR.services_by_name["GradientService"]
        self._server.add_generic_rpc_handlers((handlers_of(gradient_service, partial(getattr, self._gradients)),))
        add_ModelServiceServicer_to_server(ModelServicer(engine), self._server)
        self._server.add_generic_rpc_handlers((handlers(inference),))
        self._health = Health(SERVICES, strict_readiness=self._config.strict_readiness)
        self._health.add_to(self._server)
        reflection.enable_server_reflection(
            (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME),
            self._server,
            pool=pool_of(_FILES),
        )
        self.port = listening.add_port(self._server, self._config)
        self.metrics_address = self._serve_metrics()
        for observer in self._observers:
            engine.observers.add(observer)
        self._server.start()

        def tell() -> None:
            statistics.serve(engine.versions)
            self._health.tell(engine)

        self._forget = engine.on_change(tell)
        _log.info("listening on %s:%d", self._config.host, self.port)

    @property
    def address(self) -> str:
        """What a client connects to."""
        return authority(self._config.host, self.port)

    @property
    def running_ascents(self) -> int:
        """Ascents that are being worked on now."""
        return self._gradients.running_ascents

    def wait(self) -> None:
        """Blocks until the server has stopped."""
        self._server.wait_for_termination()

    def stop(self) -> None:
        """Ends without losing work. Takes at most the seconds of the three numbers below, and of a run that was begun.

        1. Health says NOT_SERVING; for `drain_delay_seconds` all is served as before.
        2. New calls are refused, those inside finish.
        3. After `ASCENTS_SHARE` of `drain_seconds` ascents end, each with a report from which it can go on, and streams with
           their next request.
        4. At the latest after `drain_seconds`, and `STEP_SECONDS` more for ascents, what is left is cancelled.
        """
        with self._stopping:
            if self._gate.leaving:
                return
            self._gate.leaving = True
            self._health.stop()
            self._forget()
            time.sleep(self._config.drain_delay_seconds)
            self._drain()
            self._server.stop(None)
            self._receiving.close()
            self._memory.close()
            self.metrics.close()
            for observer in self._observers:
                self._engine.observers.remove(observer)
            if self._tracing is not None:
                self._tracing.close()

    def _drain(self) -> None:
        self._gate.close()
        begun, seconds = time.monotonic(), self._config.drain_seconds
        if self._gate.wait_empty(begun + ASCENTS_SHARE * seconds):
            return
        self._gate.hurried.set()
        if not self._gate.wait_empty(begun + seconds) and self.running_ascents:
            self._gate.wait_empty(begun + seconds + STEP_SECONDS)

    def _guarded(self, around: list[grpc.ServerInterceptor]) -> list[grpc.ServerInterceptor]:
        """What every call has to pass; refused ones pass `around` too."""
        answered, file = Composed([*around, MessageChecks(self._config)]), self._config.tokens_file
        if file is None:
            return [answered]
        return [AccessInterceptor(Reloaded([file], lambda: read_tokens(file)), around), answered]

    def _serve_metrics(self) -> str:
        """Where they are; "" for nowhere."""
        host, port = self._config.metrics_host, self._config.metrics_port
        if port is None:
            return ""
        try:
            return f"{host}:{self.metrics.serve(host, port)}"
        except OSError as error:
            self._server.stop(None)
            msg = f"cannot listen on {host}:{port} for metrics: is another server there?"
            raise OSError(msg) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _tracing(settings: TraceSettings, provider: Any) -> "Tracing":
    try:
        from gradserve_server.rpc.tracing import Tracing
    except ImportError as error:
        msg = "tracing: expected OpenTelemetry to be installed; install gradserve-server[tracing]"
        raise NotSupported(msg) from error
    return Tracing(provider, settings)
