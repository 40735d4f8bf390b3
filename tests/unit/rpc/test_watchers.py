"""Watchers of health that come and go leave nothing."""

import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from gradserve_server.rpc.watchers import HealthServicer

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


class Call:
    """Of a watcher.

    Args:
        over: Whether it has left already.
    """

    def __init__(self, *, over=False):
        self._over, self._callbacks = over, []

    def add_callback(self, callback):
        self._callbacks.append(callback)
        return not self._over

    def leaves(self):
        for callback in self._callbacks:
            callback()


@pytest.fixture
def health():
    servicer = HealthServicer()
    servicer.set("model", SERVING)
    return servicer


def test_a_watcher_hears_of_changes_until_it_leaves(health):
    call = Call()
    changes = health.Watch(HealthCheckRequest(service="model"), call)
    assert next(changes).status == SERVING
    health.set("model", NOT_SERVING)
    assert next(changes).status == NOT_SERVING
    call.leaves()
    assert list(changes) == []


def test_one_that_leaves_takes_no_other_along(health):
    one, other = Call(), Call()
    changes = [health.Watch(HealthCheckRequest(service="model"), call) for call in (one, other)]
    for watcher in changes:
        next(watcher)
    one.leaves()
    health.set("model", NOT_SERVING)
    assert next(changes[1]).status == NOT_SERVING


@pytest.mark.parametrize("service", ["model", "nowhere"])
def test_nothing_is_kept_of_those_that_have_left(health, service):
    call = Call()
    changes = health.Watch(HealthCheckRequest(service=service), call)
    next(changes)
    assert service in health._send_response_callbacks
    call.leaves()
    assert list(changes) == []
    assert not health._send_response_callbacks


def test_one_that_has_left_before_it_began_does_not_wait(health):
    assert list(health.Watch(HealthCheckRequest(service="model"), Call(over=True))) == []
    assert not health._send_response_callbacks
