"""Who made a call, as logs name it and as callers are told apart."""

from contextvars import ContextVar

import grpc

_token_name: ContextVar[str] = ContextVar("token_name", default="")
"""Of the token that a call came with. grpcio runs a call's interceptors and its handler in one context."""


def set_token_name(name: str) -> None:
    """Says whose token the call came with that is being intercepted."""
    _token_name.set(name)


def token_name() -> str:
    """Whose token the call came with that is being answered; "" without tokens."""
    return _token_name.get()


def identity_of(context: grpc.ServicerContext) -> str:
    """The name of the caller's token, else of its certificate, else its connection: whose turn a call takes.

    Args:
        context: Of the call that is being answered.
    """
    if name := _token_name.get():
        return name
    if names := context.peer_identities():
        return bytes(next(iter(names))).decode("utf-8", "replace")
    return str(context.peer())
