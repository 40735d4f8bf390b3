"""A Ctrl-C that Python loses is raised where the command asks for it."""

import signal
import sys
import threading

import pytest

from gradserve.cli.interrupts import Interrupts


class Interrupted:
    """Interrupts the process while it is let go of: the exception goes nowhere."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def hears():
    """As a program started from a terminal does; a shell's background job ignores the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def lost(monkeypatch):
    """The exceptions that Python drops."""
    dropped = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: dropped.append(args.exc_type))
    return dropped


def test_one_that_python_drops_is_raised_when_it_is_asked_for(lost):
    with Interrupts() as interrupts:
        interrupts.check()
        Interrupted()
        assert lost == [KeyboardInterrupt]
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()


def test_any_other_is_raised_at_once_and_the_handler_is_put_back():
    with pytest.raises(KeyboardInterrupt), Interrupts():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_applications_own_stays():
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGINT)
            interrupts.check()
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [1]


def test_in_another_thread_it_changes_nothing():
    failed = []

    def enter():
        try:
            with Interrupts() as interrupts:
                interrupts.check()
        except ValueError as error:  # signals are the main thread's
            failed.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert not failed
