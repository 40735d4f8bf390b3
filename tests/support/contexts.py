"""A servicer context without a server."""

import grpc


class Aborted(Exception):
    """As `ServicerContext.abort_with_status` raises."""


class Context:
    """What a handler asks of its call.

    Args:
        metadata: Pairs that the client sent.
        active: Whether the client is still there.
        code: A status that the handler has set.
    """

    def __init__(self, *metadata: tuple[str, str | bytes], active: bool = True, code: grpc.StatusCode | None = None):
        self._metadata, self._active, self._code = metadata, active, code
        self.trailing: tuple[tuple[str, str | bytes], ...] = ()

    def invocation_metadata(self):
        return self._metadata

    def peer(self):
        return "ipv4:127.0.0.1:4242"

    def set_trailing_metadata(self, metadata):
        self.trailing = metadata

    def is_active(self):
        return self._active

    def code(self):
        return self._code

    def abort_with_status(self, status):
        self.trailing = status.trailing_metadata
        raise Aborted(status.code)
