"""The signals that end a server: the first lets it finish, a second ends it at once."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StoppedLoading(BaseException):
    """A signal while the models were loading: there is nobody to finish anything for."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    @property
    def exit_code(self) -> int:
        """Of a process that was told to stop."""
        return 0 if self.number == signal.SIGTERM else 128 + self.number


class StopSignals:
    """What the signals have told so far; made by `stop_signals`."""

    def __init__(self) -> None:
        self._first = threading.Event()
        self._finishing = False

    def finish_first(self) -> None:
        """From now on there is something to finish: a signal no longer raises `StoppedLoading`."""
        self._finishing = True

    def wait(self) -> None:
        """Until the first signal."""
        self._first.wait()

    def _interrupt(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if not self._finishing:
            raise StoppedLoading(number)

    def _watch(self, wakened: socket.socket) -> None:
        while numbers := wakened.recv(1):
            if self._first.is_set():
                os._exit(128 + numbers[0])  # as process 1 of a container, a signal's default would not end this one
            self._first.set()


@contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Takes over SIGTERM and SIGINT for a block in the main thread, and gives them back.

    Python runs a signal's handler in the main thread, but the system may hand the signal to any thread, and then a main
    thread that waits for a lock sleeps on: a server with busy threads missed one signal in three. So the handler of this
    block only ends the loading of models; what tells the rest is the byte that C's part of Python's handler writes, in
    whatever thread it runs, read by a thread of its own.

    Raises:
        StoppedLoading: A signal came before `StopSignals.finish_first`.
    """
    signals = StopSignals()
    wakened, waker = socket.socketpair()
    waker.setblocking(False)
    before = {number: signal.signal(number, signals._interrupt) for number in SIGNALS}
    wakeup = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=signals._watch, args=(wakened,), name="gradserve-signals", daemon=True)
    watcher.start()
    try:
        yield signals
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        waker.close()  # the watcher reads the end
        watcher.join()
        wakened.close()
