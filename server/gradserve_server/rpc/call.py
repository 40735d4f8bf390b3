"""A call that is being answered: its request id, and what is known of it at its end."""

import re
import secrets
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import grpc

from gradserve_server.rpc.call_pool import waited_ns
from gradserve_server.rpc.identity import token_name
from gradserve_server.runtime.events import Event, Turn

REQUEST_ID = "x-request-id"
"""The metadata in which a request id comes and goes."""

MAX_NAME = 128
"""Characters of a name that nobody has checked."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
"""What may come: nothing that would break a line of a log, and no more than fits into headers."""


@dataclass(slots=True)
class Call:
    """One call of an RPC."""

    rpc: str
    """Its path."""
    request_id: str
    metadata: Sequence[tuple[str, str | bytes]] = field(repr=False)
    """What the client sent along; its token is among it."""
    peer: str = ""
    model: str = ""
    """The name that was asked for; "" where none was. Of a stream, the last that ran."""
    version: str = ""
    """That ran; before that, the one asked for."""
    bytes_in: int = 0
    bytes_out: int = 0
    waited: float = 0
    """Seconds that it waited for a thread and for the device, so far."""
    arrived: float = field(default_factory=monotonic)
    status: str = ""
    """The name of its status, at its end."""
    seconds: float = 0
    """From its arrival to its end."""
    token: str = ""
    """The name of the token that it came with."""
    span: Any = None
    """The OpenTelemetry span, where it is traced."""

    @property
    def is_probe(self) -> bool:
        """Whether it is of health or reflection: machines ask that all the time."""
        return self.rpc.startswith("/grpc.")


class CallWatcher:
    """Is told of calls. Does nothing; override what you want to know."""

    def began(self, call: Call) -> None:
        """A call is about to be answered; of one whose request cannot be read, only the end is told."""

    def ended(self, call: Call) -> None:
        """A call has been answered."""


current: ContextVar[Call | None] = ContextVar("call", default=None)
"""The call that is being answered. (grpc answers each call in a context of its own.)"""


def begin(rpc: str, context: grpc.ServicerContext) -> Call:
    """Makes a call the current one; its answer will have its request id."""
    metadata = context.invocation_metadata()
    asked = next((value for key, value in metadata if key == REQUEST_ID), None)
    request_id = asked if isinstance(asked, str) and _REQUEST_ID.fullmatch(asked) else new_request_id()
    waited = waited_ns() / 1e9
    call = Call(rpc, request_id, metadata, context.peer(), waited=waited, arrived=monotonic() - waited, token=token_name())
    context.set_trailing_metadata(((REQUEST_ID, request_id),))
    current.set(call)
    return call


def request_id() -> str:
    """That of the current call; a new one outside of calls."""
    call = current.get()
    return new_request_id() if call is None else call.request_id


def new_request_id() -> str:
    """One that nobody has had."""
    return secrets.token_hex(16)


def asked_model(request: Any) -> tuple[str, str]:
    """The name and version of the model that a request names, as it names them, cut short; "" where it names none."""
    if hasattr(request, "model"):
        name, version = request.model.name, request.model.version
    elif hasattr(request, "model_name"):
        name, version = request.model_name, getattr(request, "model_version", "")
    elif type(request).__name__.startswith("Model"):
        name, version = request.name, request.version
    else:
        name = version = ""
    return name[:MAX_NAME], version[:MAX_NAME]


def observe_turns(event: Event) -> None:
    """Tells a call what became of its runs: which model it was in the end, and how long it waited."""
    call = current.get()
    if isinstance(event, Turn) and call is not None:
        call.model, call.version = event.subject.model, str(event.subject.version)
        call.waited += event.began - event.asked
