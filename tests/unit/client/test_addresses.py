"""Which addresses stay on this machine: a token goes to them in the clear."""

import pytest

from gradserve.addresses import authority, is_local, is_loopback

HERE = ["localhost", "LocalHost", "127.0.0.1", "127.1.2.3", "::1", "[::1]"]
ELSEWHERE = [
    "",
    "0.0.0.0",
    "::",
    "10.0.0.1",
    "example.org",
    "localhost.example.org",
    "127.0.0.1.example.org",
    "fe80::1",
    "127",
]


@pytest.mark.parametrize("host", HERE)
def test_loopback(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ELSEWHERE)
def test_elsewhere(host):
    assert not is_loopback(host)


@pytest.mark.parametrize(
    "target",
    [
        *HERE,
        *(f"{host}:8001" for host in HERE if host != "::1"),
        "dns:localhost:8001",
        "dns:///localhost:8001",
        "dns:///localhost",
        "ipv4:127.0.0.1:8001",
        "ipv4:127.0.0.1:8001,127.0.0.2:8001",
        "ipv6:[::1]:8001",
        "unix:/run/gradserve.sock",
        "unix:///run/gradserve.sock",
        "unix-abstract:gradserve",
    ],
)
def test_targets_here(target):
    assert is_local(target)


@pytest.mark.parametrize(
    "target",
    [
        "example.org:8001",
        "10.0.0.1:8001",
        "dns:///example.org:8001",
        "dns://8.8.8.8/localhost:8001",
        "ipv4:127.0.0.1:8001,10.0.0.1:8001",
        "ipv6:[fe80::1]:8001",
        "xds:///localhost:8001",
        "unix.example.org:8001",
        "localhost@example.org:8001",
        ":8001",
        "",
    ],
)
def test_targets_elsewhere(target):
    assert not is_local(target)


@pytest.mark.parametrize(
    ("host", "text"), [("127.0.0.1", "127.0.0.1:8001"), ("::1", "[::1]:8001"), ("[::1]", "[::1]:8001"), ("a.b", "a.b:8001")]
)
def test_authority(host, text):
    assert authority(host, 8001) == text
