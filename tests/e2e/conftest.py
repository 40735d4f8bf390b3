"""What all end-to-end tests need."""

import signal

import pytest


@pytest.fixture(scope="module", autouse=True)
def _interrupts_are_heard():
    """A background job of a shell ignores SIGINT, and so would every command that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
