"""The RPCs of a server by name. Requests may be serialized already (`gradserve.joined`)."""

from typing import Any

from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2

from gradserve.joined import serialized
from gradserve.v1 import gradient_service_pb2, model_service_pb2

SERVICES = tuple(
    service
    for module in (gradient_service_pb2, model_service_pb2, health_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
)


def rpcs_of(channel: Any) -> dict[str, Any]:
    """Every RPC on a channel of `grpc` or `grpc.aio`; all are asked by one message."""
    return {
        method.name: (channel.unary_stream if method.server_streaming else channel.unary_unary)(
            f"/{service.full_name}/{method.name}",
            request_serializer=serialized,
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        for service in SERVICES
        for method in service.methods
    }
