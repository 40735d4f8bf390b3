"""Every handler reads its request itself, so that the wait can be watched; some have threads of their own."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import grpc
import pytest
from support.contexts import Aborted, Context

from gradserve_server.rpc.threads import ThreadInterceptor

RPC = "/package.Service/Rpc"


class Receiving:
    """As the server's, without its thread."""

    def first(self, requests, context):  # noqa: ARG002
        return next(requests, None)


def unary_unary(request, context):  # noqa: ARG001
    return request


def unary_stream(request, context):  # noqa: ARG001
    yield request


def stream_stream(requests, context):  # noqa: ARG001
    yield from requests


KINDS = {behaviour.__name__: behaviour for behaviour in (unary_unary, unary_stream, stream_stream)}
"""By the attribute of a handler that holds them."""


def wrapped(kind, pools=None):
    """The handler that grpc gets, and what it calls."""
    made = getattr(grpc, f"{kind}_rpc_method_handler")(KINDS[kind], "read", "write")
    handler = ThreadInterceptor(Receiving(), pools or {}).intercept_service(lambda _: made, SimpleNamespace(method=RPC))
    return handler, handler.stream_unary or handler.stream_stream


@pytest.mark.parametrize("kind", KINDS)
def test_answers(kind):
    handler, handle = wrapped(kind)
    answer = handle(iter(["request"]), Context())
    assert (answer if kind == "unary_unary" else list(answer)) == ("request" if kind == "unary_unary" else ["request"])
    assert (handler.request_deserializer, handler.response_serializer) == ("read", "write")


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
def test_a_call_without_a_request(kind):
    with pytest.raises(Aborted, match="INVALID_ARGUMENT"):
        wrapped(kind)[1](iter([]), Context())


@pytest.mark.parametrize("kind", KINDS)
def test_threads_of_its_own(kind):
    with ThreadPoolExecutor(1) as pool:
        assert wrapped(kind, {RPC: pool})[1].experimental_thread_pool is pool
        assert not hasattr(wrapped(kind, {"/another": pool})[1], "experimental_thread_pool")
        assert not hasattr(KINDS[kind], "experimental_thread_pool")


@pytest.mark.parametrize("kind", KINDS)
def test_what_grpc_wants_to_know_of_a_handler_is_kept(kind, monkeypatch):
    monkeypatch.setattr(KINDS[kind], "experimental_non_blocking", False, raising=False)
    assert wrapped(kind)[1].experimental_non_blocking is False


def test_an_rpc_that_does_not_exist():
    interceptor = ThreadInterceptor(Receiving(), {})
    assert interceptor.intercept_service(lambda _: None, SimpleNamespace(method=RPC)) is None
