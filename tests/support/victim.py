"""A client that is killed: `python -m support.victim ADDRESS KIND` says "going" once its call is under way, and goes on."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from support import golden, oip
from support.paths import WITH_TESTS

import gradserve
from gradserve import objectives as O

IMAGE = {"image": golden.digits()}
UNIT = O.unit("logits", 7)
FOREVER = 1_000_000


def _going() -> None:
    print("going", flush=True)  # noqa: T201


def ascend(address: str) -> None:
    """Never ends, and reports nothing after its start."""
    steps = gradserve.Client(address).ascend("digits", UNIT, steps=FOREVER, report_every=FOREVER)
    next(steps)
    _going()
    next(steps)


def ascend_reporting(address: str) -> None:
    """Reports each step."""
    steps = gradserve.Client(address).ascend("digits", UNIT, steps=FOREVER)
    next(steps)
    _going()
    for _ in steps:
        pass


def ascend_unread(address: str) -> None:
    """Reports each step to a client that reads the first report only."""
    steps = gradserve.Client(address).ascend("digits", UNIT, steps=FOREVER, image_every=1, count=8)
    next(steps)
    _going()
    time.sleep(FOREVER)


def stream(address: str) -> None:
    """Asks as fast as it can."""

    def requests():
        while True:
            yield oip.request("digits", IMAGE)

    with grpc.insecure_channel(address) as channel:
        answers = oip.stub(channel).ModelStreamInfer(requests())
        next(answers)
        _going()
        for _ in answers:
            pass


def unary(address: str) -> None:
    """One after the other."""
    client = gradserve.Client(address)
    client.gradient("digits", IMAGE, UNIT)
    _going()
    while True:
        client.gradient("digits", IMAGE, UNIT)


def watch(address: str) -> None:
    """Of a model's health."""
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(address) as channel:
        answers = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="digits"))
        next(answers)
        _going()
        for _ in answers:
            pass


UNDER_WAY = {call.__name__: call for call in (ascend, ascend_reporting, ascend_unread, stream)}
"""Calls that the server counts while they go on."""

KINDS = UNDER_WAY | {call.__name__: call for call in (unary, watch)}
"""By name."""


@contextmanager
def victim(address: str, kind: str) -> Iterator[None]:
    """A client in a process of its own, whose call is under way; killed with its context."""
    command = [sys.executable, "-m", "support.victim", address, kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | WITH_TESTS) as process:
        try:
            assert process.stdout.readline() == "going\n"
            yield
        finally:
            process.kill()


if __name__ == "__main__":
    KINDS[sys.argv[2]](sys.argv[1])
