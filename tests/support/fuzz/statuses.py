"""The statuses that each RPC may answer, as they are documented: read from the comments of the .proto files."""

import re
from functools import cache

import grpc
from support.fuzz.rpcs import RPCS, Rpc
from support.paths import ROOT

CODES = {code.name for code in grpc.StatusCode}

OTHER_CAUSES = {"CANCELLED", "DEADLINE_EXCEEDED", "UNAVAILABLE", "INTERNAL"}
"""What every RPC may answer for no fault of the request: the caller cancels or hurries, the server is shutting down, or it
has a defect. (Triton's INTERNAL for models that break off, or cannot be loaded, is in the comments of the RPCs with it.)"""

GRPC = {
    "/grpc.health.v1.Health/Check": {"NOT_FOUND", "INVALID_ARGUMENT"},
    "/grpc.health.v1.Health/Watch": {"INVALID_ARGUMENT"},
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": {"INVALID_ARGUMENT"},
}
"""Of the services that gRPC brings, whose .proto files are not ours."""

PROTOS = {
    "gradserve.v1.GradientService": "gradserve/v1/gradient_service.proto",
    "gradserve.v1.ModelService": "gradserve/v1/model_service.proto",
    "inference.GRPCInferenceService": "inference/grpc_service.proto",
}

COMMON = {"gradserve.v1": PROTOS["gradserve.v1.GradientService"], "inference": PROTOS["inference.GRPCInferenceService"]}
"""By package: the file whose head says what every RPC may answer."""


def documented(rpc: Rpc) -> set[str]:
    """The names of the statuses, beside OK, that an RPC may answer to a request."""
    if rpc.path in GRPC:
        return GRPC[rpc.path]
    package, _ = rpc.service.rsplit(".", 1)
    return (_common(COMMON[package]) - OTHER_CAUSES) | _of_rpc(PROTOS[rpc.service], rpc.name)


@cache
def _common(file: str) -> set[str]:
    head = " ".join(_comment(line) for line in _lines(file)[: _lines(file).index(_package(file))])
    (sentence,) = re.findall(r"Every RPC may also (?:return|answer) (.*?)\.(?: |$)", head)
    return _named_in(sentence)


@cache
def _of_rpc(file: str, name: str) -> set[str]:
    lines = _lines(file)
    before = lines[: next(number for number, line in enumerate(lines) if line.startswith(f"rpc {name}("))]
    while before[-1].startswith("rpc "):  # an RPC without a comment of its own shares that of the one before it
        before.pop()
    comment = ""
    while before[-1].startswith("//"):
        comment = f"{_comment(before.pop())} {comment}"
    found = _named_in(comment)
    for other in (rpc.name for rpc in RPCS.values()):
        if re.search(rf"\bas {other}\b", comment, re.IGNORECASE):
            found |= _of_rpc(file, other)
    return found


def _named_in(text: str) -> set[str]:
    return CODES & set(re.findall(r"[A-Z_]{2,}", text))


def _comment(line: str) -> str:
    return line.removeprefix("//").strip()


def _package(file: str) -> str:
    return next(line for line in _lines(file) if line.startswith("package "))


@cache
def _lines(file: str) -> list[str]:
    return [line.strip() for line in (ROOT / "proto" / file).read_text().splitlines()]
