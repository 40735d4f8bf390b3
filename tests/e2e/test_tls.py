"""TLS: who is trusted, who is let in, and what is said to everybody else."""

import asyncio
import logging
import os
import subprocess
import sys
from datetime import UTC, datetime

import grpc
import pytest
import tritonclient.grpc
from support import golden
from support.certificates import Authority, Pair
from support.oip import infer_input
from support.paths import MODELS
from support.waiting import WAIT

import gradserve
from gradserve import Tls, errors
from gradserve.cli import main as command
from gradserve_server import ServerConfig
from gradserve_server.__main__ import main as serve
from gradserve_server.rpc.app import Server
from gradserve_server.settings import SettingsError

IMAGE = {"image": golden.digits()}
HERE = ("localhost", "127.0.0.1")


def listen(engine, **settings):
    return Server(engine, ServerConfig(port=0, drain_seconds=1, **settings))


def ask(address, **settings):
    """A prediction of a client that does not wait for long."""
    with gradserve.Client(address, timeout=WAIT, **settings) as client:
        return client.infer("digits", IMAGE)["logits"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """An authority that nobody trusts."""
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def secure(engine, authority):
    with listen(engine, **authority.pair(*HERE).server) as server:
        yield server


@pytest.fixture(scope="module")
def mutual(engine, authority):
    with listen(engine, **authority.pair(*HERE).server, tls_client_ca=authority.file) as server:
        yield server


# ---- those who get in ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", HERE)
def test_a_client_that_trusts_the_authority(secure, authority, engine, host):
    got = ask(f"{host}:{secure.port}", tls=Tls(ca=authority.file))
    assert got.tobytes() == engine.infer("digits", IMAGE)["logits"].tobytes()


def test_the_asynchronous_client(secure, authority):
    async def call():
        async with gradserve.aio.Client(secure.address, tls=Tls(ca=authority.file)) as client:
            return await client.inspect("digits")

    assert asyncio.run(call()).name == "digits"


def test_credentials_of_grpc(secure, authority):
    credentials = grpc.ssl_channel_credentials(authority.file.read_bytes())
    assert ask(secure.address, credentials=credentials).shape == (4, 10)


def test_the_stock_client(secure, authority):
    with tritonclient.grpc.InferenceServerClient(secure.address, ssl=True, root_certificates=str(authority.file)) as client:
        got = client.infer("digits", [infer_input("image", IMAGE["image"])])
        assert got.as_numpy("logits").shape == (4, 10)


def test_a_client_with_a_certificate(mutual, authority):
    own = authority.pair("robot@example.org", file="robot")
    assert ask(mutual.address, tls=Tls(ca=authority.file, **own.client)).shape == (4, 10)


def test_the_stock_client_with_a_certificate(mutual, authority):
    own = authority.pair("robot@example.org", file="robot")
    with tritonclient.grpc.InferenceServerClient(
        mutual.address,
        ssl=True,
        root_certificates=str(authority.file),
        private_key=str(own.key),
        certificate_chain=str(own.certificate),
    ) as client:
        assert client.is_server_live()


@pytest.mark.parametrize("mutually", [False, True])
def test_the_command(secure, mutual, authority, mutually, capsys):
    own = authority.pair("robot@example.org", file="robot")
    pair = ["--tls-certificate", str(own.certificate), "--tls-key", str(own.key)] if mutually else []
    server = mutual if mutually else secure
    assert command(["inspect", "digits", "--server", server.address, "--tls-ca", str(authority.file), *pair]) == 0
    assert "digits, version 1" in capsys.readouterr().out


# ---- those who do not, each with its reason ---------------------------------------------------------------------------


def test_an_authority_that_is_not_trusted(secure, stranger):
    with pytest.raises(errors.ServerUnavailable, match=r"^no authority that this client trusts has signed"):
        ask(secure.address, tls=Tls(ca=stranger.file))


def test_the_authorities_of_grpc_have_not_signed_it(secure):
    with pytest.raises(errors.ServerUnavailable, match=r"^no authority that this client trusts has signed"):
        ask(secure.address, tls=True)


def test_a_certificate_of_another_host(engine, authority):
    with (
        listen(engine, **authority.pair("server.example", file="elsewhere").server) as server,
        pytest.raises(errors.ServerUnavailable, match=r"^the server's certificate is for another name"),
    ):
        ask(server.address, tls=Tls(ca=authority.file))


EXPIRED = {"not_before": datetime(2020, 1, 1, tzinfo=UTC), "not_after": datetime(2021, 1, 1, tzinfo=UTC)}


def test_a_certificate_that_has_expired(engine, authority, caplog):
    pair = authority.pair(*HERE, file="expired", **EXPIRED)
    with (
        caplog.at_level(logging.WARNING),
        listen(engine, **pair.server) as server,
        pytest.raises(errors.ServerUnavailable, match=r"^the server's certificate has expired"),
    ):
        ask(server.address, tls=Tls(ca=authority.file))
    assert [record.getMessage() for record in caplog.records] == [f"TLS: {pair.certificate}: certificate has expired"]


def test_a_client_without_a_certificate(mutual, authority):
    with pytest.raises(errors.ServerUnavailable, match=r"^the server hangs up: does it want TLS, or a client certificate"):
        ask(mutual.address, tls=Tls(ca=authority.file))


def test_a_client_with_the_certificate_of_a_stranger(mutual, authority, stranger):
    own = stranger.pair("robot@example.org")
    with pytest.raises(errors.ServerUnavailable, match=r"^the server hangs up"):
        ask(mutual.address, tls=Tls(ca=authority.file, **own.client))


def test_a_client_in_the_clear_on_a_port_of_tls(secure):
    with pytest.raises(errors.ServerUnavailable, match=r"^the server hangs up: does it want TLS"):
        ask(secure.address)


def test_a_client_of_tls_on_a_port_in_the_clear(server, authority):
    with pytest.raises(errors.ServerUnavailable, match=r"^the server does not speak TLS there"):
        ask(server.address, tls=Tls(ca=authority.file))


# ---- the files change -------------------------------------------------------------------------------------------------


def test_a_new_certificate_takes_the_place_of_the_old_one(engine, authority, stranger):
    pair = authority.pair(*HERE, file="renewed")
    with listen(engine, **pair.server) as server:
        assert ask(server.address, tls=Tls(ca=authority.file)).shape == (4, 10)
        renewed = stranger.pair(*HERE)
        renewed.certificate.replace(pair.certificate)
        renewed.key.replace(pair.key)
        assert ask(server.address, tls=Tls(ca=stranger.file)).shape == (4, 10)
        with pytest.raises(errors.ServerUnavailable):
            ask(server.address, tls=Tls(ca=authority.file))


def test_new_authorities_of_clients(engine, authority, stranger, tmp_path):
    trusted = tmp_path / "clients.pem"
    trusted.write_bytes(authority.file.read_bytes())
    own = stranger.pair("robot@example.org")
    with listen(engine, **authority.pair(*HERE).server, tls_client_ca=trusted) as server:
        with pytest.raises(errors.ServerUnavailable):
            ask(server.address, tls=Tls(ca=authority.file, **own.client))
        trusted.write_bytes(stranger.file.read_bytes())
        assert ask(server.address, tls=Tls(ca=authority.file, **own.client)).shape == (4, 10)


def test_a_new_certificate_that_is_broken_leaves_the_old_one(engine, authority, stranger, caplog):
    pair = authority.pair(*HERE, file="broken")
    with listen(engine, **pair.server) as server:
        stranger.pair(*HERE).certificate.replace(pair.certificate)  # the old key does not fit
        for _ in range(2):
            assert ask(server.address, tls=Tls(ca=authority.file)).shape == (4, 10)
    (record,) = caplog.records
    problem = f"expected the private key of {pair.certificate}, got another one"
    assert record.getMessage() == f"TLS: {pair.key}: {problem}; what was read before stays in force"


# ---- files that cannot be used -----------------------------------------------------------------------------------------


def nonsense(path):
    path.write_text("nonsense")
    return path


def missing(path):
    return path.with_name("missing.pem")


def locked(pair):
    """The key under a passphrase."""
    subprocess.run(
        ["openssl", "pkey", "-in", pair.key, "-aes256", "-passout", "pass:secret", "-out", pair.key.with_suffix(".locked")],
        check=True,
    )
    return pair.key.with_suffix(".locked")


BROKEN = {
    "no certificate": (lambda pair: Pair(missing(pair.certificate), pair.key), "missing.pem: No such file or directory"),
    "no key": (lambda pair: Pair(pair.certificate, missing(pair.key)), "missing.pem: No such file or directory"),
    "certificate of nonsense": (lambda pair: Pair(nonsense(pair.certificate), pair.key), "expected certificates in PEM"),
    "key of nonsense": (lambda pair: Pair(pair.certificate, nonsense(pair.key)), "expected a private key in PEM"),
    "key for certificate": (lambda pair: Pair(pair.key, pair.key), "expected certificates in PEM"),
    "key with a passphrase": (
        lambda pair: Pair(pair.certificate, locked(pair)),
        "expected a private key without a passphrase",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_files_that_cannot_be_used(engine, authority, name):
    breaks, text = BROKEN[name]
    pair = breaks(authority.pair(*HERE, file="unusable"))
    with pytest.raises(SettingsError, match=f"^TLS: .*{text}"):
        listen(engine, **pair.server)
    with pytest.raises(errors.InvalidParameter, match=f"^tls: .*{text}"):
        gradserve.Client(tls=Tls(ca=authority.file, **pair.client))


def test_a_key_of_another_certificate(engine, authority):
    pair = Pair(authority.pair(*HERE, file="one").certificate, authority.pair(*HERE, file="other").key)
    with pytest.raises(SettingsError, match=r"other.key: expected the private key of .*one.pem, got another one$"):
        listen(engine, **pair.server)


def test_authorities_of_nonsense(engine, authority, tmp_path):
    file = nonsense(tmp_path / "ca.pem")
    with pytest.raises(SettingsError, match="ca.pem: expected certificates in PEM"):
        listen(engine, **authority.pair(*HERE).server, tls_client_ca=file)
    with pytest.raises(errors.InvalidParameter, match="ca.pem: expected certificates in PEM"):
        gradserve.Client(tls=Tls(ca=file))


def test_a_key_that_others_may_read(engine, authority, caplog):
    pair = authority.pair(*HERE, file="open")
    pair.key.chmod(0o644)
    with listen(engine, **pair.server):
        (record,) = caplog.records
        assert f"{pair.key}: every user of this machine may read this private key" in record.getMessage()


@pytest.mark.parametrize("only", ["tls_certificate", "tls_key"])
def test_one_without_the_other(engine, authority, only):
    with pytest.raises(SettingsError, match="expected both or neither"):
        listen(engine, **{only: authority.pair(*HERE).server[only]})
    with pytest.raises(errors.InvalidParameter, match="expected a certificate and its key"):
        gradserve.Client(tls=Tls(**{only.removeprefix("tls_"): authority.file}))


def test_authorities_of_clients_without_a_certificate(engine, authority):
    with pytest.raises(SettingsError, match="--tls-client-ca"):
        listen(engine, tls_client_ca=authority.file)


def test_tls_and_credentials_at_once():
    with pytest.raises(errors.InvalidParameter, match="expected this or credentials"):
        gradserve.Client(tls=True, credentials=grpc.ssl_channel_credentials())


# ---- in the clear ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.org", ""])
def test_nothing_but_loopback_is_answered_in_the_clear(engine, host):
    with pytest.raises(SettingsError, match=r"^--host .*; give --tls-certificate and --tls-key, or --insecure "):
        listen(engine, host=host)


def test_unless_that_is_wanted(engine):
    with listen(engine, host="0.0.0.0", insecure=True) as server:
        assert ask(f"127.0.0.1:{server.port}").shape == (4, 10)


def test_or_there_is_tls(engine, authority):
    with listen(engine, host="0.0.0.0", **authority.pair(*HERE).server) as server:
        assert ask(f"127.0.0.1:{server.port}", tls=Tls(ca=authority.file)).shape == (4, 10)


def test_loopback_of_ipv6(engine):
    with listen(engine, host="::1") as server:
        assert server.address == f"[::1]:{server.port}"
        assert ask(server.address).shape == (4, 10)


def test_metrics_too(engine, authority):
    for settings in ({}, authority.pair(*HERE).server):
        with pytest.raises(SettingsError, match=r"^--metrics-host 0.0.0.0: .*--insecure"):
            listen(engine, metrics_host="0.0.0.0", metrics_port=0, **settings)
    with listen(engine, metrics_host="0.0.0.0", metrics_port=0, insecure=True):
        pass


def test_the_command_says_so_before_it_loads_a_model(capsys):
    assert serve(["no such folder", "--host", "0.0.0.0"]) == 1
    assert capsys.readouterr().err.startswith("gradserve: error: --host 0.0.0.0: ")


def test_the_command_serves_by_tls(authority):
    pair = authority.pair(*HERE)
    arguments = [str(MODELS), "--port", "0", "--no-metrics", "--tls-certificate", str(pair.certificate)]
    with subprocess.Popen(
        [sys.executable, "-m", "gradserve_server", *arguments, "--tls-key", str(pair.key)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            line = next(line for line in process.stdout if line.startswith("listening on "))
            assert ask(line.split()[-1], tls=Tls(ca=authority.file)).shape == (4, 10)
        finally:
            process.terminate()
            process.stdout.read()
