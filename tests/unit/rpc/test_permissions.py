"""The table of permissions: every RPC of every service is in it, and nothing else."""

import re

import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from support.paths import ROOT

from gradserve.v1 import gradient_service_pb2
from gradserve_server.rpc import app
from gradserve_server.rpc.permissions import NEEDS, PERMISSIONS, Need

FILES = {file.name: file for file in (*app._FILES, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR)}
RPCS = {
    f"/{service.full_name}/{method.name}"
    for file in FILES.values()
    for service in file.services_by_name.values()
    for method in service.methods
}


def test_every_rpc_needs_something_that_is_known():
    assert NEEDS.keys() == RPCS


def test_every_service_is_described():
    assert {path.split("/")[1] for path in RPCS} >= {*app.SERVICES, "grpc.health.v1.Health"}


@pytest.mark.parametrize("need", PERMISSIONS)
def test_every_permission_is_good_for_something(need):
    assert need in NEEDS.values()


def test_what_can_be_granted():
    assert set(Need) - set(PERMISSIONS) == {Need.NOTHING, Need.TOKEN}


def test_only_probes_are_open():
    probes = {"Check", "Watch", "ServerLive", "ServerReady", "ModelReady"}
    assert {path.rpartition("/")[2] for path, need in NEEDS.items() if need is Need.NOTHING} == probes


def test_everything_that_runs_a_model_needs_a_permission_of_its_own():
    service = gradient_service_pb2.DESCRIPTOR.services_by_name["GradientService"]
    for method in service.methods:
        assert NEEDS[f"/{service.full_name}/{method.name}"] in {Need.INFER, Need.GRADIENT, Need.ASCEND}


def test_the_document_has_the_same_table():
    text = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `?([a-z ]+)`? \| ((?:.*`[A-Z].*)) \|$", text, re.MULTILINE)
    documented = {rpc: need for need, rpcs in rows for rpc in re.findall(r"`([A-Z]\w+)`", rpcs)}
    assert documented == {path.rpartition("/")[2]: need for path, need in NEEDS.items()}
