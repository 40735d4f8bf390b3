"""The signals that end a server, in processes of their own."""

import signal
import subprocess
import sys
import textwrap

import pytest
from support.waiting import WAIT

BUSY = """
    import os, sys, threading, time
    from gradserve_server.stopping import stop_signals

    def busy():
        while True:  # a thread that begins or ends blocks signals for a moment, which moves them between threads
            threads = [threading.Thread(target=int) for _ in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    for _ in range(4):
        threading.Thread(target=busy, daemon=True).start()
"""
ROUNDS = 25
"""Enough that a wait which misses one signal in ten passes once in fourteen; waiting for a queue missed one in three."""


def run(body):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(BUSY) + textwrap.dedent(body)], stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def started():
    processes = []

    def start(body):
        processes.append(run(body))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_no_signal_is_missed_whatever_thread_it_comes_to(started, number):
    process = started(f"""
        for _ in range({ROUNDS}):
            with stop_signals() as signals:
                signals.finish_first()
                print("waiting", flush=True)
                signals.wait()
        print("done", flush=True)
        os._exit(0)
    """)
    for _ in range(ROUNDS):
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(number)
    assert process.stdout.readline() == "done\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(started, number):
    process = started("""
        with stop_signals() as signals:
            signals.finish_first()
            print("waiting", flush=True)
            signals.wait()
            print("finishing", flush=True)
            threading.Event().wait()
    """)
    for expected in ("waiting\n", "finishing\n"):
        assert process.stdout.readline() == expected
        process.send_signal(number)
    assert process.wait(WAIT) == 128 + number


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_while_models_load_is_an_exception(started, number, code):
    process = started("""
        from gradserve_server.stopping import StoppedLoading
        try:
            with stop_signals() as signals:
                print("loading", flush=True)
                while True:
                    time.sleep(0.01)
        except StoppedLoading as stopped:
            os._exit(stopped.exit_code)
    """)
    process.stdout.readline()
    process.send_signal(number)
    assert process.wait(WAIT) == code


def test_the_handlers_of_before_are_given_back(started):
    process = started("""
        import signal
        before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        with stop_signals():
            pass
        after = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        wakeup = signal.set_wakeup_fd(-1)
        os._exit(before != after or wakeup != -1)
    """)
    assert process.wait(WAIT) == 0
