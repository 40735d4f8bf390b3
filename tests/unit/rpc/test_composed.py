"""Interceptors wrap an RPC once, in their order."""

from types import SimpleNamespace

from gradserve_server.rpc.composed import Composed


class Wraps:
    """Puts its name around a handler, and counts."""

    def __init__(self, name):
        self.name, self.times = name, 0

    def intercept_service(self, continuation, details):
        handler = continuation(details)
        self.times += 1
        return handler and (self.name, handler)


def details(method):
    return SimpleNamespace(method=method)


def test_the_first_is_outermost_and_each_rpc_is_wrapped_once():
    outer, inner = Wraps("outer"), Wraps("inner")
    composed = Composed([outer, inner])
    for method in ("/a", "/b", "/a"):
        made = composed.intercept_service(lambda call: "handler of " + call.method, details(method))
        assert made == ("outer", ("inner", "handler of " + method))
    assert outer.times == inner.times == 2


def test_nothing_is_kept_of_rpcs_that_do_not_exist():
    composed = Composed([Wraps("outer")])
    assert composed.intercept_service(lambda _: None, details("/later")) is None
    assert composed.intercept_service(lambda _: "there", details("/later")) == ("outer", "there")
