"""What a call sends along beside its request: ids by which others find it again."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

Pairs = tuple[tuple[str, str], ...]

_sent: ContextVar[Pairs] = ContextVar("metadata", default=())


@contextmanager
def metadata(pairs: Mapping[str, str]) -> Iterator[None]:
    """Every call inside sends this along: an `x-request-id` for the server's log, a `traceparent` for its trace.

        with gradserve.metadata({"x-request-id": "order-42"}):
            client.infer("digits", {"image": x})

    For this thread or task, whichever client is used. What is inside goes before what is around it.

    Args:
        pairs: gRPC metadata: lower-case keys, printable ASCII values.
    """
    token = _sent.set(tuple((dict(_sent.get()) | dict(pairs)).items()))
    try:
        yield
    finally:
        _sent.reset(token)


def sent() -> Pairs:
    """What a call that is made here and now sends along."""
    return _sent.get()
