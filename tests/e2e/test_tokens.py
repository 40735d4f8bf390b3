"""Tokens: who may call what, on a real server."""

import asyncio
import hashlib
import logging
import os

import grpc
import pytest
import tritonclient.grpc
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from support import golden
from support.certificates import Authority
from support.oip import infer_input
from support.waiting import WAIT, wait_for
from tritonclient._plugin import InferenceServerClientPlugin
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.grpc.auth import BasicAuth

import gradserve
from gradserve import Tls, errors
from gradserve import objectives as O
from gradserve.cli import main as command
from gradserve_server import ServerConfig
from gradserve_server.rpc import app, identity, permissions
from gradserve_server.rpc.app import Server
from gradserve_server.rpc.permissions import NEEDS, Need
from gradserve_server.settings import SettingsError

IMAGE = {"image": golden.digits()}
UNIT = O.unit("logits", 7)
TOKENS = {
    Need.INFER: "the-token-of-predictions",
    Need.GRADIENT: "the-token-of-gradients",
    Need.ASCEND: "the-token-of-ascents",
    Need.ADMIN: "the-token-of-the-operator",
}


def line(name, permission, token):
    return f"{name} {permission} sha256:{hashlib.sha256(token.encode()).hexdigest()}\n"


def listen(engine, file, **settings):
    return Server(engine, ServerConfig(port=0, drain_seconds=1, tokens_file=file, **settings))


@pytest.fixture(scope="module")
def guarded(engine, tmp_path_factory):
    """A server, and a token for each permission, named after it."""
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    file.write_text("".join(line(f"{need}-token", need, token) for need, token in TOKENS.items()))
    with listen(engine, file) as server:
        yield server


def ask(server, token, verb=lambda client: client.infer("digits", IMAGE)["logits"]):
    with gradserve.Client(server.address, timeout=WAIT, token=token) as client:
        return verb(client)


# ---- every RPC ---------------------------------------------------------------------------------------------------------


def methods():
    for file in app._FILES:
        for service in file.services_by_name.values():
            for method in service.methods:
                yield f"/{service.full_name}/{method.name}", method


METHODS = dict(methods())


def status(server, rpc, metadata):
    """What an empty request is answered with, sent as gRPC's own stubs do."""
    method = METHODS[rpc]
    kinds = (method.client_streaming, method.server_streaming)
    kind = "_".join("stream" if streaming else "unary" for streaming in kinds)
    with grpc.insecure_channel(server.address) as channel:
        request = GetMessageClass(method.input_type)().SerializeToString()
        call = getattr(channel, kind)(rpc)
        sent = iter([request]) if method.client_streaming else request
        try:
            if method.server_streaming:
                answers = call(sent, metadata=metadata, timeout=WAIT)
                next(answers, None)
                answers.cancel()
            else:
                call(sent, metadata=metadata, timeout=WAIT)
        except grpc.RpcError as error:
            return error.code().name
    return "OK"


def bearer(token):
    return (("authorization", f"Bearer {token}"),)


REFUSED = {"UNAUTHENTICATED", "PERMISSION_DENIED"}


@pytest.mark.parametrize("rpc", METHODS)
def test_every_rpc_takes_what_it_needs_and_nothing_less(guarded, rpc):
    need = NEEDS[rpc]
    without = status(guarded, rpc, ())
    unknown = status(guarded, rpc, bearer("another token"))
    answers = {each: status(guarded, rpc, bearer(token)) for each, token in TOKENS.items()}
    if need is Need.NOTHING:
        assert REFUSED.isdisjoint({without, unknown, *answers.values()})
        return
    assert (without, unknown) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
    if need is Need.TOKEN:
        assert REFUSED.isdisjoint(answers.values())
    else:
        assert {each: answer in REFUSED for each, answer in answers.items()} == {each: each != need for each in TOKENS}
        assert set(answers.values()) - {answers[need]} == {"PERMISSION_DENIED"}


def test_an_rpc_without_a_permission_is_refused_to_everybody(guarded, monkeypatch):
    rpc = "/gradserve.v1.GradientService/Infer"
    monkeypatch.delitem(NEEDS, rpc)
    assert {status(guarded, rpc, bearer(token)) for token in TOKENS.values()} == {"PERMISSION_DENIED"}
    assert status(guarded, rpc, ()) == "UNAUTHENTICATED"


def test_an_rpc_that_does_not_exist(guarded):
    with grpc.insecure_channel(guarded.address) as channel, pytest.raises(grpc.RpcError) as error:
        channel.unary_unary("/gradserve.v1.GradientService/NoSuchRpc")(b"", timeout=WAIT)
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


# ---- our clients -------------------------------------------------------------------------------------------------------


def test_a_token_that_may(guarded, engine):
    got = ask(guarded, TOKENS[Need.INFER])
    assert got.tobytes() == engine.infer("digits", IMAGE)["logits"].tobytes()


def test_the_asynchronous_client(guarded):
    async def call(token):
        async with gradserve.aio.Client(guarded.address, token=token) as client:
            return [step.index async for step in client.ascend("digits", UNIT, steps=2)]

    assert asyncio.run(call(TOKENS[Need.ASCEND])) == [0, 1, 2]
    with pytest.raises(errors.PermissionDenied):
        asyncio.run(call(TOKENS[Need.INFER]))


def test_no_token(guarded):
    text = r"^expected the metadata 'authorization: Bearer TOKEN', got none$"
    with pytest.raises(errors.Unauthenticated, match=text):
        ask(guarded, None)
    with pytest.raises(errors.Unauthenticated, match=text):
        ask(guarded, None, lambda client: list(client.ascend("digits", UNIT)))


def test_a_token_that_nobody_has(guarded):
    with pytest.raises(errors.Unauthenticated, match="that this server knows, got another$") as error:
        ask(guarded, "not-a-token")
    assert "not-a-token" not in str(error.value)


@pytest.mark.parametrize(
    ("verb", "rpc", "need"),
    [
        (lambda c: c.gradient("digits", IMAGE, UNIT), "GradientService/Gradient", "gradient"),
        (lambda c: list(c.ascend("digits", UNIT, steps=1)), "GradientService/Ascend", "ascend"),
    ],
)
def test_a_token_that_may_not(guarded, verb, rpc, need):
    text = f"^/gradserve.v1.{rpc}: expected a token with the permission '{need}', got that of 'infer-token' with infer$"
    with pytest.raises(errors.PermissionDenied, match=text):
        ask(guarded, TOKENS[Need.INFER], verb)


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ((("authorization", f"Basic {TOKENS[Need.INFER]}"),), "another scheme"),
        ((("authorization", TOKENS[Need.INFER]),), "another scheme"),
        ((("authorization", "Bearer"),), "got another"),
        ((*bearer(TOKENS[Need.INFER]), *bearer("x")), "more than one"),
    ],
)
def test_metadata_that_is_no_bearer_token(guarded, metadata, text):
    with grpc.insecure_channel(guarded.address) as channel, pytest.raises(grpc.RpcError) as error:
        channel.unary_unary("/gradserve.v1.GradientService/Infer")(b"", metadata=metadata, timeout=WAIT)
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert text in error.value.details()


def test_the_scheme_in_any_case(guarded):
    metadata = (("authorization", f"bEaReR {TOKENS[Need.INFER]}"),)
    assert status(guarded, "/gradserve.v1.GradientService/Infer", metadata) == "NOT_FOUND"  # of a model without a name


def test_a_refused_call_is_not_read(guarded):
    """64 KiB are what gRPC lets a client send unasked; this is no message, and nobody notices."""
    with grpc.insecure_channel(guarded.address) as channel, pytest.raises(grpc.RpcError) as error:
        channel.unary_unary("/gradserve.v1.GradientService/Infer")(b"\xff" * (1 << 20), timeout=WAIT)
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_refused_calls_are_counted(engine, tmp_path):
    file = tmp_path / "tokens"
    file.write_text(line("a", "infer", TOKENS[Need.INFER]))
    with listen(engine, file) as server:
        with pytest.raises(errors.Unauthenticated):
            ask(server, None)
        labels = {"rpc": "/gradserve.v1.GradientService/Infer", "code": "UNAUTHENTICATED"}
        wait_for(lambda: server.metrics.registry.get_sample_value("gradserve_calls_total", labels) == 1)


def test_a_line_of_the_log_has_the_name_and_nothing_the_token(guarded, caplog):
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "gradserve_server.access"):
        ask(guarded, TOKENS[Need.INFER])
        with pytest.raises(errors.Unauthenticated):
            ask(guarded, "not-a-token")
        names = lambda: {each.token for each in caplog.records if each.name == "gradserve_server.access"}  # noqa: E731
        wait_for(lambda: names() >= {"infer-token", ""})
    for record in caplog.records:
        assert not any(secret in repr(vars(record)) for secret in (*TOKENS.values(), "not-a-token"))


# ---- other clients -----------------------------------------------------------------------------------------------------


def test_the_stock_client(guarded):
    headers = dict(bearer(TOKENS[Need.INFER]))
    with tritonclient.grpc.InferenceServerClient(guarded.address) as client:
        assert client.is_server_live()
        got = client.infer("digits", [infer_input("image", IMAGE["image"])], headers=headers)
        assert got.as_numpy("logits").shape == (4, 10)
        with pytest.raises(tritonclient.grpc.InferenceServerException, match="UNAUTHENTICATED"):
            client.infer("digits", [infer_input("image", IMAGE["image"])])
        with pytest.raises(tritonclient.grpc.InferenceServerException, match="PERMISSION_DENIED"):
            client.get_inference_statistics(headers=headers)


class BearerAuth(InferenceServerClientPlugin):
    """As Triton's BasicAuth."""

    def __init__(self, token):
        self._token = token

    def __call__(self, request):
        request.headers["authorization"] = f"Bearer {self._token}"


def test_a_plugin_of_the_stock_client(guarded):
    with tritonclient.grpc.InferenceServerClient(guarded.address) as client:
        client.register_plugin(BearerAuth(TOKENS[Need.INFER]))
        assert client.get_model_metadata("digits").name == "digits"
        client.unregister_plugin()
        client.register_plugin(BasicAuth("user", "password"))
        with pytest.raises(tritonclient.grpc.InferenceServerException, match="another scheme"):
            client.get_model_metadata("digits")


def test_a_stream_of_the_stock_stub(guarded):
    with grpc.insecure_channel(guarded.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as error:
            list(stub.ModelStreamInfer(iter([service_pb2.ModelInferRequest()]), timeout=WAIT))
        assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_reflection_needs_a_token(guarded):
    with grpc.insecure_channel(guarded.address) as channel, pytest.raises(grpc.RpcError) as error:
        ProtoReflectionDescriptorDatabase(channel).get_services()
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED


# ---- the file changes --------------------------------------------------------------------------------------------------


def test_a_file_that_changes_is_read_again(engine, tmp_path):
    file = tmp_path / "tokens"
    file.write_text(line("a", "infer", "first-token"))
    with listen(engine, file) as server, gradserve.Client(server.address, token="first-token") as client:
        client.infer("digits", IMAGE)
        file.write_text(line("b", "infer", "second-token"))
        with pytest.raises(errors.Unauthenticated):
            client.infer("digits", IMAGE)
        assert ask(server, "second-token").shape == (4, 10)


def test_the_permissions_of_an_open_connection_change(engine, tmp_path):
    file = tmp_path / "tokens"
    file.write_text(line("a", "infer", "first-token"))
    with listen(engine, file) as server, gradserve.Client(server.address, token="first-token") as client:
        with pytest.raises(errors.PermissionDenied):
            client.gradient("digits", IMAGE, UNIT)
        other = tmp_path / "other"
        other.write_text(line("a", "infer,gradient", "first-token"))
        other.replace(file)
        assert client.gradient("digits", IMAGE, UNIT).values.shape == (4,)


@pytest.mark.parametrize("breaks", [lambda file: file.write_text("nonsense"), lambda file: file.unlink()])
def test_a_broken_file_leaves_the_old_one(engine, tmp_path, caplog, breaks):
    file = tmp_path / "tokens"
    file.write_text(line("a", "infer", "first-token"))
    with listen(engine, file) as server:
        breaks(file)
        for _ in range(2):
            assert ask(server, "first-token").shape == (4, 10)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert f"--tokens-file {file}" in record.getMessage()
    assert "what was read before stays in force" in record.getMessage()


def test_a_broken_file_at_the_start(engine, tmp_path):
    with pytest.raises(SettingsError, match="--tokens-file .*: No such file or directory"):
        listen(engine, tmp_path / "tokens")


# ---- in the clear ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("insecure", [False, True])
def test_no_server_takes_tokens_in_the_clear(engine, tmp_path, insecure):
    file = tmp_path / "tokens"
    file.write_text(line("a", "infer", "first-token"))
    with pytest.raises(SettingsError, match=r"^--host 0.0.0.0: tokens would travel in the clear"):
        listen(engine, file, host="0.0.0.0", insecure=insecure)


@pytest.mark.parametrize("client", [gradserve.Client, gradserve.aio.Client])
@pytest.mark.parametrize("target", ["example.org:8001", "10.0.0.1:8001", "dns:///example.org:8001"])
def test_no_client_sends_one(client, target):
    with pytest.raises(errors.InvalidParameter, match=f"^token: expected TLS, .*; got '{target}'$") as error:
        client(target, token="the-token")
    assert "the-token" not in str(error.value)


def test_a_token_by_tls(engine, tmp_path):
    authority = Authority(tmp_path / "authority")
    file = tmp_path / "tokens"
    file.write_text(line("a", "infer", "first-token"))
    with listen(engine, file, **authority.pair("localhost").server) as server:
        address = f"localhost:{server.port}"
        with gradserve.Client(address, tls=Tls(ca=authority.file), token="first-token") as client:
            assert client.infer("digits", IMAGE)["logits"].shape == (4, 10)
        with gradserve.Client(address, tls=Tls(ca=authority.file)) as client, pytest.raises(errors.Unauthenticated):
            client.infer("digits", IMAGE)


@pytest.mark.parametrize("token", ["", "two words", "ümlaut", "line\nbreak"])
def test_what_is_no_token(token):
    with pytest.raises(errors.InvalidParameter, match="^token: expected printable ASCII") as error:
        gradserve.Client(token=token)
    assert not token or token not in str(error.value)


def test_a_proxy_of_the_environment_does_not_get_a_token_meant_for_this_machine(guarded, monkeypatch):
    monkeypatch.setitem(os.environ, "http_proxy", "http://127.0.0.1:1")
    assert ask(guarded, TOKENS[Need.INFER]).shape == (4, 10)


# ---- the command -------------------------------------------------------------------------------------------------------


def test_the_command_with_a_token_of_the_environment(guarded, monkeypatch, capsys):
    monkeypatch.setenv("GRADSERVE_TOKEN", TOKENS[Need.INFER])
    assert command(["inspect", "digits", "--server", guarded.address]) == 0
    assert "digits" in capsys.readouterr().out


def test_the_command_with_a_token_file(guarded, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("GRADSERVE_TOKEN", "not this one")
    file = tmp_path / "token"
    file.write_text(TOKENS[Need.INFER] + "\n")
    assert command(["inspect", "digits", "--server", guarded.address, "--token-file", str(file)]) == 0
    assert "digits" in capsys.readouterr().out


def test_the_command_without_a_token(guarded, monkeypatch, capsys):
    monkeypatch.delenv("GRADSERVE_TOKEN", raising=False)
    assert command(["inspect", "digits", "--server", guarded.address]) == 1
    assert "expected the metadata 'authorization: Bearer TOKEN', got none" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "\n"])
def test_the_command_with_an_empty_token_file(guarded, tmp_path, capsys, content):
    file = tmp_path / "token"
    file.write_text(content)
    assert command(["inspect", "digits", "--server", guarded.address, "--token-file", str(file)]) == 1
    assert "expected a token, got nothing" in capsys.readouterr().err


# ---- who called --------------------------------------------------------------------------------------------------------


@pytest.fixture
def callers(monkeypatch):
    """Who called, as `identity_of` tells it to whoever answers."""
    seen = []
    servicer = app.GradientServicer
    for rpc in ("Infer", "Ascend"):
        answer = getattr(servicer, rpc)

        def spy(self, request, context, answer=answer):
            seen.append(identity.identity_of(context))
            return answer(self, request, context)

        monkeypatch.setattr(servicer, rpc, spy)
    return seen


def test_a_caller_is_known_by_the_name_of_its_token(engine, tmp_path, callers):
    file = tmp_path / "tokens"
    file.write_text(line("alice", "infer,ascend", "first-token") + line("bob", "infer", "second-token"))
    with listen(engine, file) as server:
        ask(server, "first-token")
        ask(server, "second-token")
        ask(server, "first-token", lambda client: list(client.ascend("digits", UNIT, steps=1)))
    assert callers == ["alice", "bob", "alice"]


def test_or_by_its_certificate(engine, tmp_path, callers):
    authority = Authority(tmp_path / "authority")
    own = authority.pair("robot@example.org", file="robot")
    settings = {**authority.pair("127.0.0.1").server, "tls_client_ca": authority.file}
    with (
        Server(engine, ServerConfig(port=0, **settings)) as server,
        gradserve.Client(server.address, tls=Tls(ca=authority.file, **own.client)) as client,
    ):
        client.infer("digits", IMAGE)
    assert callers == ["robot@example.org"]


def test_or_by_its_address(engine, callers):
    with Server(engine, ServerConfig(port=0)) as server, gradserve.Client(server.address) as client:
        client.infer("digits", IMAGE)
    assert callers[0].startswith("ipv4:127.0.0.1:")


def test_every_permission_has_a_token_here():
    assert TOKENS.keys() == set(permissions.PERMISSIONS)
