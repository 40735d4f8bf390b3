"""Calls whose requests are slow to come do not hold all threads."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.waiting import WAIT, wait_for

from gradserve_server.rpc.receiving import Receiving

THREADS = 4


class Slow:
    """The requests, and the context, of a call whose request does not come until it is let go or cancelled."""

    def __init__(self):
        self._over = threading.Event()
        self.cancelled = False

    def __next__(self):
        assert self._over.wait(WAIT), "stuck"
        if self.cancelled:
            raise ConnectionError
        return b"request"

    def peer(self):
        return "somebody"

    def cancel(self):
        self.cancelled = True
        self._over.set()

    def comes(self):
        self._over.set()


@pytest.fixture
def receiving():
    made = []

    def make(grace):
        made.append(Receiving(THREADS, grace))
        return made[-1]

    yield make
    for one in made:
        one.close()


def wait_on(pool, receiving, calls):
    for number, call in enumerate(calls, 1):
        yield pool.submit(receiving.first, call, call)
        wait_for(lambda: len(receiving._since) == number)  # noqa: B023


def test_half_of_the_threads_may_wait_as_long_as_it_takes(receiving):
    receiving, calls = receiving(0.01), [Slow() for _ in range(THREADS // 2 + 1)]
    with ThreadPoolExecutor(THREADS) as pool:
        first, *others = wait_on(pool, receiving, calls)
        with pytest.raises(ConnectionError):
            first.result(WAIT)  # one too many, and it has waited for longest
        looked = threading.Event()
        assert not looked.wait(0.1)  # many graces
        assert not any(call.cancelled for call in calls[1:])
        for call in calls[1:]:
            call.comes()
        assert [other.result(WAIT) for other in others] == [b"request"] * len(others)


def test_each_has_its_grace(receiving):
    receiving, calls = receiving(WAIT), [Slow() for _ in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        waits = list(wait_on(pool, receiving, calls))
        for call in calls:
            call.comes()
        assert [wait.result(WAIT) for wait in waits] == [b"request"] * THREADS


def test_a_call_without_a_request(receiving):
    receiving = receiving(WAIT)
    assert receiving.first(iter([]), Slow()) is None
    assert not receiving._since
