"""Who may call what: a token for each call, checked before its message is read."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc

from gradserve.errors import AccessRefused, PermissionDenied, Unauthenticated
from gradserve_server.rpc.composed import compose
from gradserve_server.rpc.identity import set_token_name
from gradserve_server.rpc.permissions import NEEDS, Need
from gradserve_server.rpc.reloaded import Reloaded
from gradserve_server.rpc.tokens import Token, Tokens

_EXPECTED = "expected the metadata 'authorization: Bearer TOKEN'"


class AccessInterceptor(grpc.ServerInterceptor):
    """Lets calls through that come with a token which allows them.

    Args:
        tokens: Those that are known.
        around: What a refusal goes through, too: it is counted and logged, and becomes a status.
    """

    def __init__(self, tokens: Reloaded[Tokens], around: Sequence[grpc.ServerInterceptor]) -> None:
        self._tokens, self._around = tokens, around

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """The handler of the call, or one that refuses it."""
        handler = continuation(details)
        if handler is None:  # no such RPC, says gRPC
            return None
        try:
            self._admit(details.method, details.invocation_metadata)
        except AccessRefused as error:
            refusal = _refusal(error)
            return compose(self._around, lambda _: refusal)(details)
        return handler

    def _admit(self, rpc: str, metadata: Any) -> None:
        need = NEEDS.get(rpc)
        if need is Need.NOTHING:
            return
        token = self._token(metadata)
        if need is None:
            msg = f"{rpc}: this server has no permission for it"
            raise PermissionDenied(msg)
        if need is not Need.TOKEN and need not in token.permissions:
            granted = ", ".join(sorted(token.permissions))
            msg = f"{rpc}: expected a token with the permission '{need}', got that of '{token.name}' with {granted}"
            raise PermissionDenied(msg)
        set_token_name(token.name)

    def _token(self, metadata: Any) -> Token:
        given = [value for key, value in metadata if key == "authorization"]
        if len(given) != 1:
            msg = f"{_EXPECTED}, got {'none' if not given else 'more than one'}"
            raise Unauthenticated(msg)
        scheme, _, secret = given[0].partition(" ")
        if scheme.lower() != "bearer":
            msg = f"{_EXPECTED}, got another scheme"
            raise Unauthenticated(msg)
        token = self._tokens.current().find(secret.strip())
        if token is None:
            msg = f"{_EXPECTED} with a token that this server knows, got another"
            raise Unauthenticated(msg)
        return token


def _refusal(error: AccessRefused) -> Any:
    """A handler that takes any call. Of one that streams requests, gRPC reads none before it is asked to."""

    def refuse(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:  # noqa: ARG001
        raise error

    return grpc.stream_stream_rpc_method_handler(refuse)
