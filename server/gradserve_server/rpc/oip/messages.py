"""The protocol's messages, in a descriptor pool of their own.

tritonclient registers the same names in the default pool of the process that imports it, and protobuf refuses a second
description of a name. In a pool of their own, client and server share a process.
"""

from functools import cache
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import ServiceDescriptor

from gradserve_server.runtime.model_config import add_descriptors, add_model_config

NAME = "inference.GRPCInferenceService"
"""Of the service."""


@cache
def pool() -> descriptor_pool.DescriptorPool:
    """The pool."""
    private = descriptor_pool.DescriptorPool()
    add_model_config(private)
    add_descriptors(private, __package__, "grpc_service.binpb")
    return private


def service() -> ServiceDescriptor:
    """What the service is made of."""
    return pool().FindServiceByName(NAME)


@cache
def message(name: str) -> Any:
    """The class of a message of the package `inference`, by its name in the protocol."""
    return message_factory.GetMessageClass(pool().FindMessageTypeByName(f"inference.{name}"))
