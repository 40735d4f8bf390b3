"""What a message may hold: how many things a request names, how large an answer is. gRPC limits the size of a request."""

from collections.abc import Callable
from functools import cache
from typing import Any

import grpc
from google.protobuf.descriptor import Descriptor

from gradserve.errors import TooLarge
from gradserve_server.config import ServerConfig

COUNTED = {
    "inputs": "max_inputs",
    "raw_input_contents": "max_inputs",
    "terms": "max_layers",
    "layers": "max_layers",
    "outputs": "max_layers",
    "cotangents": "max_layers",
    "tangents": "max_layers",
    "wrt": "max_layers",
    "transforms": "max_layers",
    "shared": "max_layers",
    "regularizers": "max_layers",
}
"""Repeated fields of requests, and the setting that says how many there may be. One table for both protocols."""

_NESTED = "objective"
"""The field of a request whose own fields count too."""

_MIB = 1024 * 1024


class MessageChecks(grpc.ServerInterceptor):
    """Refuses requests that name too much, and answers that are too large, naming the setting.

    `CallInterceptor`, around this one, reads and writes the messages, and turns what is raised there into a status.

    Args:
        config: The limits.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Wraps how messages of a call are read and written."""
        handler = continuation(details)
        if handler is None or details.method.startswith("/grpc."):
            return handler
        read, write = handler.request_deserializer, handler.response_serializer
        return handler._replace(
            request_deserializer=lambda data: self._counted(read(data)),
            response_serializer=lambda response: self._measured(write(response)),
        )

    def _counted(self, request: Any) -> Any:
        for message in (request, getattr(request, _NESTED, None)):
            for field in () if message is None else _counted_fields(message.DESCRIPTOR):
                count, most = len(getattr(message, field)), getattr(self._config, COUNTED[field])
                if count > most:
                    flag = "--" + COUNTED[field].replace("_", "-")
                    msg = f"{field}: expected at most {most} ({flag}) in a request, got {count}"
                    raise TooLarge(msg)
        return request

    def _measured(self, data: bytes) -> bytes:
        if len(data) > self._config.max_message_mib * _MIB:
            limit = f"at most {self._config.max_message_mib} MiB (--max-message-mib)"
            msg = f"answer: expected {limit}, got {len(data)} bytes; ask for fewer samples or layers at a time"
            raise TooLarge(msg)
        return data


@cache
def _counted_fields(descriptor: Descriptor) -> tuple[str, ...]:
    return tuple(name for name in descriptor.fields_by_name if name in COUNTED)
