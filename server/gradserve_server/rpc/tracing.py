"""OpenTelemetry spans of calls and of what the engine does for them.

opentelemetry is an extra: nobody imports this module but a server that traces. (Its own interceptor for grpc would put a
second wrapper around every context to learn a status that ours knows, and has not the present names of the conventions:
docs/adr, observers.)
"""

import re
import time
from typing import Any

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, get_current_span, set_span_in_context

import gradserve_server
from gradserve_server.rpc.call import Call, CallWatcher, current
from gradserve_server.rpc.trace_settings import TraceSettings
from gradserve_server.runtime.events import Event, PlanBuilt, Turn
from gradserve_server.runtime.work import Priority

SERVER_ERRORS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
"""Statuses that make a server's span an error, as the conventions say: the others are the client's doing."""

_PEER = re.compile(r"ipv[46]:\[?([0-9a-fA-F.:]+)\]?:(\d+)$")


class Tracing(CallWatcher):
    """Makes a span for each call that is traced, with a child for waiting, running, and building a plan.

    Steps of ascents are too many for spans: an ascent's own says how many there were, and how long they waited and ran.

    Args:
        provider: Where spans go; an application's own is left open at the end.
        settings: Which calls are traced.
    """

    def __init__(self, provider: TracerProvider | None, settings: TraceSettings) -> None:
        self._is_ours = provider is None
        self._provider, self._settings = provider or provider_from_environment(), settings
        self._tracer = self._provider.get_tracer("gradserve_server", gradserve_server.__version__)

    def began(self, call: Call) -> None:
        """Begins the span."""
        if call.is_probe:
            return
        parent = extract({key: value for key, value in call.metadata if isinstance(value, str)})
        chosen = get_current_span(parent).get_span_context().trace_flags.sampled
        if not self._settings.traced(call.model, chosen=chosen):
            return
        method = call.rpc.removeprefix("/")
        attributes: dict[str, str | int] = {
            "rpc.system.name": "grpc",
            "rpc.method": method,
            "gradserve.request_id": call.request_id,
        }
        if peer := _PEER.match(call.peer):
            attributes |= {"network.peer.address": peer[1], "network.peer.port": int(peer[2])}
        call.span = self._tracer.start_span(
            method, parent, SpanKind.SERVER, attributes, start_time=_since_1970(call.arrived)
        )

    def ended(self, call: Call) -> None:
        """Ends it."""
        span = call.span
        if span is None:
            return
        span.set_attribute("rpc.response.status_code", call.status)
        span.set_attribute("gradserve.queue_seconds", call.waited)
        if call.model:
            span.set_attributes({"gradserve.model.name": call.model, "gradserve.model.version": call.version})
        if call.status in SERVER_ERRORS:
            span.set_attribute("error.type", call.status)
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def observe(self, event: Event) -> None:
        """Makes the spans of what happens in a call."""
        call = current.get()
        if call is not None and call.span is not None:
            match event:
                case Turn():
                    self._turned(call.span, event)
                case PlanBuilt():
                    self._child(call.span, "plan", event.began, event.ended, {"gradserve.verb": event.subject.verb})
                case _:
                    pass

    def _turned(self, span: Span, turn: Turn) -> None:
        if turn.priority is Priority.ASCENT:
            _add(span, "gradserve.ascent.runs", 1)
            _add(span, "gradserve.ascent.run_seconds", turn.ended - turn.began)
            return
        if turn.began > turn.asked:
            self._child(span, "queue", turn.asked, turn.began, {"gradserve.class": turn.priority.name.lower()})
        sizes = {"gradserve.samples": turn.samples, "gradserve.batch.samples": turn.batch}
        self._child(span, "run", turn.began, turn.ended, sizes)

    def close(self) -> None:
        """Sends what has not been sent. Where nobody collects, that takes until OTEL_EXPORTER_OTLP_TIMEOUT."""
        if self._is_ours:
            self._provider.shutdown()
        else:
            self._provider.force_flush()

    def _child(self, parent: Span, name: str, began: float, ended: float, attributes: dict[str, Any]) -> None:
        context = set_span_in_context(parent)
        child = self._tracer.start_span(name, context, attributes=attributes, start_time=_since_1970(began))
        child.end(_since_1970(ended))


def provider_from_environment() -> TracerProvider:
    """Sends spans by OTLP over gRPC, as the OTEL_* variables of the environment say."""
    # What the environment says of the service goes before our name.
    resource = Resource.create({SERVICE_NAME: "gradserve"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _add(span: Any, name: str, amount: float) -> None:
    """Adds to an attribute."""
    if span.is_recording():
        span.set_attribute(name, span.attributes.get(name, 0) + amount)


def _since_1970(moment: float) -> int:
    """Nanoseconds, of a moment by `time.monotonic`."""
    return time.time_ns() - int((time.monotonic() - moment) * 1e9)
