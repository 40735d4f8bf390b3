"""A service as gRPC takes it, with answers that may be serialized already."""

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from gradserve.joined import serialized


def handlers_of(service: ServiceDescriptor, behaviour: Callable[[str], Callable[[Any, Any], Any]]) -> grpc.GenericRpcHandler:
    """A handler for each RPC.

    Args:
        service: What it is made of.
        behaviour: By the name of an RPC, what answers it: with messages, or with bytes that are such.
    """
    made = {}
    for method in service.methods:
        kind = "_".join("stream" if streams else "unary" for streams in (method.client_streaming, method.server_streaming))
        made[method.name] = getattr(grpc, f"{kind}_rpc_method_handler")(
            behaviour(method.name),
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=serialized,
        )
    return grpc.method_handlers_generic_handler(service.full_name, made)
