"""What server reflection tells: the services of more than one descriptor pool, in one."""

from collections.abc import Iterable
from typing import Any

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool


def pool_of(files: Iterable[Any]) -> DescriptorPool:
    """A pool of its own with these files and all that they import.

    Args:
        files: As `DESCRIPTOR` of a generated module has them.
    """
    pool, known = DescriptorPool(), set[str]()

    def add(file: Any) -> None:
        if file.name in known:
            return
        known.add(file.name)
        for imported in file.dependencies:
            add(imported)
        proto = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(proto)
        pool.Add(proto)

    for file in files:
        add(file)
    return pool
