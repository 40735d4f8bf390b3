"""Connections that break off, lie, or speak something else: none keeps anything, and the others are served meanwhile."""

import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from queue import Queue

import grpc
import psutil
import pytest
from support.fuzz.rpcs import RPCS, call
from support.fuzz.seeds import valid
from support.http2 import PREFACE, UNARY, begin_call, client_hello, connected, message, opened, send
from support.purity import Purity
from support.server_process import ServerProcess
from support.waiting import wait_for

TIMES = 20
"""How often each fault happens at once."""


def half_a_frame():
    return opened().data_to_send()[:-4]


def headers_only():
    connection = opened()
    begin_call(connection)
    return connection.data_to_send()


def half_a_message(sent=10):
    connection = opened()
    connection.send_data(begin_call(connection), message(b"\0" * sent, 1000))
    return connection.data_to_send()


def frames(change):
    """A call that is begun, and then something."""
    connection = opened()
    change(connection, begin_call(connection))
    return connection.data_to_send()


def rapid_resets():
    connection = opened()
    for _ in range(500):
        connection.reset_stream(begin_call(connection))
    return connection.data_to_send()


def raw_frame(kind, flags=0, stream=0, payload=b"", length=None):
    size = (len(payload) if length is None else length).to_bytes(3, "big")
    return opened().data_to_send() + size + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


FAULTS = {
    "nothing": lambda: b"",
    "one byte": lambda: b"P",
    "half a preface": lambda: PREFACE[:12],
    "half a frame": half_a_frame,
    "headers only": headers_only,
    "half a message": half_a_message,
    "a message of a length only": lambda: half_a_message(0),
    "reset": lambda: frames(lambda connection, stream: connection.reset_stream(stream)),
    "rapid resets": rapid_resets,
    "goodbye": lambda: frames(lambda connection, _: connection.close_connection()),
    "pings": lambda: frames(lambda connection, _: [connection.ping(b"12345678") for _ in range(1000)]),
    "settings": lambda: opened().data_to_send() + b"\0\0\0\4\0\0\0\0\0" * 10_000,
    "a frame too large": lambda: raw_frame(0, stream=1, length=2**24 - 1),
    "a frame of no kind": lambda: raw_frame(250, payload=b"x" * 100),
    "headers that are none": lambda: raw_frame(1, flags=4, stream=1, payload=b"\xff" * 100),
    "headers without end": lambda: raw_frame(1, stream=1, payload=b"\0\1a\1b") + b"\0\0\5\x09\0\0\0\0\1\0\1a\1b" * 5000,
    "data of no call": lambda: raw_frame(0, stream=77, payload=b"x" * 100),
    "a window that overflows": lambda: raw_frame(8, payload=b"\x7f\xff\xff\xff") * 2,
    "noise after the preface": lambda: PREFACE + b"\xa5" * 10_000,
    "noise": lambda: bytes(range(256)) * 100,
    "HTTP/1": lambda: b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": client_hello,
}
"""By name: what is sent before the connection breaks off."""


@pytest.fixture
def settles(served, watched):
    """Afterwards the server has as many files open as before, and neither calls nor ascents go on."""
    watched.check()
    files = served.os.num_fds()
    yield
    wait_for(lambda: served.os.num_fds() <= files)
    metrics = served.scrape()
    assert metrics["gradserve_running_ascents"] == metrics["gradserve_open_streams"] == 0


def close_with_reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.usefixtures("settles")
def test_a_connection_that_breaks_off(served, watched, fault, reset):
    data = FAULTS[fault]()
    with ExitStack() as stack:
        for _ in range(TIMES):
            sock = stack.enter_context(connected(served.address))
            send(sock, data)
            if reset:
                close_with_reset(sock)
        watched.check()  # while they are open


@pytest.mark.usefixtures("settles")
def test_slow_clients_keep_nobody_waiting(served, watched):
    data = half_a_message()
    with ExitStack() as stack:
        slow = [stack.enter_context(connected(served.address)) for _ in range(100)]
        for at in range(0, len(data), 8):
            for sock in slow:
                send(sock, data[at : at + 8])
        rounds = watched.rounds
        wait_for(lambda: watched.rounds >= rounds + 10)


@pytest.mark.usefixtures("settles")
def test_streams_on_which_nothing_happens_keep_nobody_waiting(served, watched):
    """As many as the server has threads for calls, of each kind that may stay open."""
    streams = [path for path, rpc in RPCS.items() if rpc.takes_stream]
    with grpc.insecure_channel(served.address) as channel:
        nothing = Queue()
        calls = [channel.stream_stream(path)(iter(nothing.get, None)) for path in streams for _ in range(100)]
        rounds = watched.rounds
        wait_for(lambda: watched.rounds >= rounds + 10)
        for call in calls:
            call.cancel()
            nothing.put(None)


@pytest.mark.usefixtures("settles")
def test_thousands_of_connections(served):
    def come_and_go(number):
        with connected(served.address) as sock:
            send(sock, opened().data_to_send() if number % 2 else b"")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(come_and_go, range(3000)))


@pytest.mark.usefixtures("settles")
def test_hundreds_of_channels(served):
    rpc = RPCS[UNARY]
    for _ in range(200):
        with grpc.insecure_channel(served.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            assert call(channel, rpc, [valid(rpc)[0].SerializeToString()]).code is grpc.StatusCode.OK


@pytest.mark.usefixtures("settles")
def test_a_message_that_says_it_is_4_gib(served):
    connection = opened()
    connection.send_data(begin_call(connection), message(b"", 2**32 - 1), end_stream=True)
    memory = served.os.memory_info().rss
    with connected(served.address) as sock:
        send(sock, connection.data_to_send())
        status = None
        while status is None:
            for event in connection.receive_data(sock.recv(65536)):
                status = dict(getattr(event, "headers", None) or ()).get(b"grpc-status", status)
    assert int(status) == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert served.os.memory_info().rss < memory + 2**28


@pytest.mark.usefixtures("settles")
@pytest.mark.parametrize("headers", [[("x", "y" * 100_000)], [(f"x{i}", "y" * 100) for i in range(2000)]])
def test_headers_of_many_kilobytes_are_refused(served, headers):
    with grpc.insecure_channel(served.address, options=[("grpc.max_metadata_size", 2**24)]) as channel:
        outcome = call(channel, RPCS[UNARY], [b""], tuple(headers))
    assert outcome.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_no_file_is_left_to_open():
    """A server that may open few files serves those that it has, and all others once some have gone."""

    with ServerProcess() as served, Purity(served.address) as purity:
        served.os.rlimit(psutil.RLIMIT_NOFILE, (64, 64))
        with ExitStack() as stack:
            for _ in range(200):
                stack.enter_context(connected(served.address))
            wait_for(lambda: served.os.num_fds() >= 60)
            purity.check()
        with Purity(served.address) as new:  # over a connection of its own
            new.check()
