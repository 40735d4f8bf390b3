"""The list in docs/operations.md, the dashboard and the alerts name every metric that there is, and no other."""

import json
import re
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.paths import ROOT

from gradserve_server import ServerConfig
from gradserve_server.rpc.app import Server

NAME = re.compile(r"\b(?:nv_inference|gradserve|process)_[a-z_]+\b")
SAMPLES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "summary": ("_count", "_sum")}
"""By type: how the names of samples end."""


@pytest.fixture(scope="module")
def families(engine):
    """By name as it is asked for: their types."""
    with (
        Server(engine, ServerConfig(port=0, metrics_port=0)) as server,
        urllib.request.urlopen(f"http://{server.metrics_address}/metrics") as response,
    ):
        families = list(text_string_to_metric_families(response.read().decode()))
    return {
        f"{family.name}_total" if family.type == "counter" else family.name: family.type
        for family in families
        if not family.name.endswith("_created")
    }


@pytest.fixture(scope="module")
def samples(families):
    ends = {name: SAMPLES.get(kind, ("",)) if kind != "counter" else ("",) for name, kind in families.items()}
    return {name + end for name in families for end in ends[name]}


def test_the_documents_list_every_metric(families):
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([a-z_.]+)` \|", text, re.M)
    assert sorted(name for name in listed if name.startswith(("nv_", "gradserve_"))) == sorted(
        name for name in families if not name.startswith("process_")
    )


@pytest.mark.parametrize("file", ["gradserve.json", "alerts.yaml"])
def test_only_metrics_that_there_are_are_asked_for(file, samples):
    named = set(NAME.findall((ROOT / "deploy/grafana" / file).read_text(encoding="utf-8")))
    assert named
    assert named <= samples


def test_the_dashboard_shows_every_metric(families):
    text = (ROOT / "deploy/grafana/gradserve.json").read_text(encoding="utf-8")
    elsewhere = {"nv_inference_count", "nv_inference_exec_count", "nv_inference_request_duration_us", "gradserve_build_info"}
    assert {name for name in families if name not in text and not name.startswith("process_")} == elsewhere


def test_the_dashboard_can_be_imported():
    dashboard = json.loads((ROOT / "deploy/grafana/gradserve.json").read_text(encoding="utf-8"))
    assert dashboard["uid"] == "gradserve"
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)
    for panel in panels:
        for target in panel["targets"]:
            assert target["expr"].count("(") == target["expr"].count(")")
            assert target["expr"].count("{") == target["expr"].count("}")
