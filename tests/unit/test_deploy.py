"""The files in deploy/: every flag exists, every number fits the others, and what can be validated here is."""

import configparser
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from grpc_health.v1 import health_pb2
from support.paths import ROOT

from gradserve.cli import app
from gradserve.v1 import gradient_service_pb2, model_service_pb2
from gradserve_server.__main__ import _parser
from gradserve_server.config import EngineConfig, LogConfig, ServerConfig
from gradserve_server.rpc.app import STEP_SECONDS
from gradserve_server.rpc.oip import messages
from gradserve_server.settings import from_flags, parse

DEPLOY = ROOT / "deploy"
KUBERNETES = "1.29", "1.37"
"""The oldest and newest versions that the manifest is validated for."""


def text(name):
    return (DEPLOY / name).read_text()


def unit():
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str
    parser.read_string(text("gradserve.service"))
    return parser["Service"]


def manifest():
    return {document["kind"]: document for document in yaml.safe_load_all(text("kubernetes.yaml"))}


def pod():
    return manifest()["Deployment"]["spec"]["template"]["spec"]


def container():
    return pod()["containers"][0]


def dockerfile(instruction):
    """What follows an instruction, wherever it stands; continued lines are one."""
    lines = text("Dockerfile").replace("\\\n", " ").splitlines()
    return [line.split(maxsplit=1)[1] for line in lines if line.startswith(f"{instruction} ")]


def words(instruction):
    (line,) = dockerfile(instruction)
    return yaml.safe_load(line[line.index("[") :])


def compose():
    return yaml.safe_load(text("compose.yaml"))["services"]["gradserve"]


# ---- flags -----------------------------------------------------------------------------------------------------------

SERVERS = {
    "Dockerfile": lambda: words("CMD"),
    "compose.yaml": lambda: compose()["command"],
    "kubernetes.yaml": lambda: [argument.replace("$(CORES)", "2") for argument in container()["args"]],
    "gradserve.service": lambda: shlex.split(
        unit()["ExecStart"].replace("/etc/gradserve/server.toml", str(DEPLOY / "server.toml"))
    )[2:],
    "server.toml": lambda: ["models", f"--config={DEPLOY / 'server.toml'}"],
}
"""How each starts a server."""


def parsed(name):
    return parse(_parser("gradserve serve"), SERVERS[name]())


def test_every_file_is_in_this_test():
    assert {path.name for path in DEPLOY.iterdir() if path.is_file()} == SERVERS.keys() | {"envoy.yaml"}


@pytest.mark.parametrize("name", SERVERS)
def test_every_flag_exists(name):
    options = parsed(name)
    for config in (EngineConfig, ServerConfig, LogConfig):
        from_flags(config, options)


@pytest.mark.parametrize("name", [name for name in SERVERS if name != "server.toml"])
def test_nobody_listens_beyond_this_machine_by_accident(name):
    config = from_flags(ServerConfig, parsed(name))
    assert config.host == "0.0.0.0"
    assert config.insecure != (config.tls_certificate is not None)


def seconds_to_stop(name):
    config = from_flags(ServerConfig, parsed(name))
    return config.drain_delay_seconds + config.drain_seconds + STEP_SECONDS


GIVEN = {
    "compose.yaml": lambda: int(compose()["stop_grace_period"].removesuffix("s")),
    "kubernetes.yaml": lambda: pod()["terminationGracePeriodSeconds"],
    "gradserve.service": lambda: int(unit()["TimeoutStopSec"]),
}


@pytest.mark.parametrize("name", GIVEN)
def test_there_is_time_to_stop(name):
    assert GIVEN[name]() >= seconds_to_stop(name) + 5


# ---- container -------------------------------------------------------------------------------------------------------


def test_images_are_pinned_by_name_without_a_host():
    for image in (line.split()[0] for line in dockerfile("FROM")):
        assert re.fullmatch(r"[a-z]+:\d+\.\d+-[a-z-]+", image)
    assert len({line.split()[0] for line in dockerfile("FROM")}) == 1  # what is built for one runs in the other


def test_what_is_copied_exists_and_is_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in ignored if line.startswith("!")]
    copied = [word for line in dockerfile("COPY") if not line.startswith("--from") for word in line.split()[:-1]]
    assert sorted(copied) == sorted(allowed)
    for name in copied:
        assert (ROOT / name).exists()


def test_what_the_build_reads_is_copied():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    read = {
        project["project"]["readme"],
        *project["project"]["license-files"],
        *(package.split("/")[0] for package in project["tool"]["scikit-build"]["wheel"]["packages"]),
        "pyproject.toml",
        "CMakeLists.txt",
        *re.findall(r"\b(csrc)/", (ROOT / "CMakeLists.txt").read_text()),
    }
    copied = {word for line in dockerfile("COPY") for word in line.split()[:-1]}
    assert read <= copied


def test_the_backend_is_an_extra():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for line in dockerfile("ARG"):
        name, default = line.split("=")
        assert (name, default) == ("BACKEND", "training")
        assert default in extras


def test_the_container_is_nobody():
    (user,) = dockerfile("USER")
    assert user == "10001:10001"
    assert words("ENTRYPOINT") == ["gradserve", "serve"]
    assert {int(port) for port in dockerfile("EXPOSE")[0].split()} == {ServerConfig.port, 8002}


def test_the_health_check_is_a_command_of_ours():
    _, command, *arguments = ["", *words("HEALTHCHECK")]
    assert command == "gradserve"
    options = app._parser().parse_args(arguments)
    assert options.timeout < int(re.search(r"--timeout=(\d+)s", dockerfile("HEALTHCHECK")[0])[1])


# ---- systemd ---------------------------------------------------------------------------------------------------------

ANALYZE = shutil.which("systemd-analyze")


def analyze(*arguments):
    return subprocess.run([ANALYZE, *arguments], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.skipif(ANALYZE is None, reason="needs systemd-analyze")
def test_the_unit_is_one(tmp_path):
    here = tmp_path / "gradserve.service"
    here.write_text(text("gradserve.service").replace("/opt/gradserve/bin/gradserve", shutil.which("true")))
    verified = analyze("verify", str(here))
    assert (verified.returncode, verified.stderr) == (0, "")


@pytest.mark.skipif(ANALYZE is None, reason="needs systemd-analyze")
def test_the_unit_is_exposed_little():
    assert analyze("security", "--offline=true", "--threshold=20", str(DEPLOY / "gradserve.service")).returncode == 0


def test_the_unit_is_stopped_gently():
    assert (unit()["KillSignal"], unit()["KillMode"]) == ("SIGTERM", "mixed")
    assert unit()["DynamicUser"] == "yes"


def test_the_units_credentials_are_the_flags():
    used = set(re.findall(r"%d/(\S+)", unit()["ExecStart"]))
    loaded = set(re.findall(r"^LoadCredential=([^:]+):", text("gradserve.service"), re.MULTILINE))
    assert used == loaded


# ---- Kubernetes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", KUBERNETES)
def test_the_manifest_is_one(version):
    for document in yaml.safe_load_all(text("kubernetes.yaml")):
        kubernetes_validate.validate(document, version, strict=True)


def test_ports():
    config = from_flags(ServerConfig, parsed("kubernetes.yaml"))
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert ports == {"grpc": config.port, "metrics": config.metrics_port}
    assert {port["name"]: port["port"] for port in manifest()["Service"]["spec"]["ports"]} == ports
    assert {port["targetPort"] for port in manifest()["Service"]["spec"]["ports"]} == ports.keys()
    named = [port["port"] for rule in manifest()["NetworkPolicy"]["spec"]["ingress"] for port in rule["ports"]]
    assert set(named) == ports.keys()


@pytest.mark.parametrize("name", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_probes_ask_the_servers_port_by_grpc(name):
    """For the empty service, the server as a whole."""
    assert container()[name]["grpc"] == {"port": from_flags(ServerConfig, parsed("kubernetes.yaml")).port}


def test_a_server_that_stops_is_not_taken_for_dead_and_is_left_in_time():
    config = from_flags(ServerConfig, parsed("kubernetes.yaml"))
    alive, ready = container()["livenessProbe"], container()["readinessProbe"]
    assert alive["periodSeconds"] * alive["failureThreshold"] > seconds_to_stop("kubernetes.yaml")
    assert ready["periodSeconds"] * ready["failureThreshold"] + ready["timeoutSeconds"] < config.drain_delay_seconds


def test_the_pod_is_the_containers_user_and_writes_nowhere():
    (user,) = dockerfile("USER")
    security = pod()["securityContext"]
    assert user == f"{security['runAsUser']}:{security['runAsGroup']}"
    assert security["runAsNonRoot"]
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod()["automountServiceAccountToken"] is False


def test_labels_select_the_pods():
    labels = manifest()["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert manifest()["Service"]["spec"]["selector"] == labels
    assert manifest()["Service"]["spec"]["clusterIP"] == "None"
    for kind, where in (("Deployment", "selector"), ("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        assert manifest()[kind]["spec"][where] == {"matchLabels": labels}


# ---- Envoy -----------------------------------------------------------------------------------------------------------


def envoy():
    resources = yaml.safe_load(text("envoy.yaml"))["static_resources"]
    (listener,), (cluster,) = resources["listeners"], resources["clusters"]
    (chain,) = listener["filter_chains"]
    return chain["filters"][0]["typed_config"], cluster


def streams():
    """The path of every RPC whose answers are a stream."""
    health = health_pb2.DESCRIPTOR.services_by_name.values()
    ours = [
        *gradient_service_pb2.DESCRIPTOR.services_by_name.values(),
        *model_service_pb2.DESCRIPTOR.services_by_name.values(),
        messages.service(),
    ]
    return {
        f"/{service.full_name}/{method.name}"
        for service in (*ours, *health)
        for method in service.methods
        if method.server_streaming
    }


def test_streams_are_not_timed_and_calls_are():
    manager, _ = envoy()
    (host,) = manager["route_config"]["virtual_hosts"]
    *long, rest = host["routes"]
    assert {route["match"]["path"] for route in long} == streams()
    assert {route["route"]["timeout"] for route in long} == {"0s"}
    assert rest["match"] == {"prefix": "/"}
    assert rest["route"]["timeout"] != "0s"


def test_only_what_was_not_begun_is_asked_again():
    (host,) = envoy()[0]["route_config"]["virtual_hosts"]
    assert set(host["retry_policy"]["retry_on"].split(",")) == {"connect-failure", "refused-stream", "unavailable"}


def test_envoy_asks_the_servers_and_their_health():
    _, cluster = envoy()
    config = from_flags(ServerConfig, parsed("kubernetes.yaml"))
    address = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
    assert address == {"address": manifest()["Service"]["metadata"]["name"], "port_value": config.port}
    (check,) = cluster["health_checks"]
    assert check["grpc_health_check"] == {"service_name": ""}
    slowest = float(check["interval"].removesuffix("s")) + float(check["timeout"].removesuffix("s"))
    assert slowest * check["unhealthy_threshold"] < config.drain_delay_seconds


def test_no_file_names_a_registry():
    for path in filter(Path.is_file, DEPLOY.rglob("*")):
        assert all("/" not in image for image in re.findall(r"image: (\S+)", path.read_text())), path
