"""Ctrl-C, also where Python loses it.

The interpreter raises KeyboardInterrupt in whatever the main thread does at that moment. Is that a destructor or a callback
of the garbage collector, which takes a tenth of a second in a large process, the exception is printed and gone. So it is
noted as well, to be asked for where it can be raised again.
"""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class Interrupts:
    """A context in which no Ctrl-C is lost. Outside the main thread, and where it is ignored, it changes nothing."""

    def __init__(self) -> None:
        self._heard = False

    def check(self) -> None:
        """Raises what should have been raised.

        Raises:
            KeyboardInterrupt: There was one since the context was entered.
        """
        if self._heard:
            raise KeyboardInterrupt

    def __enter__(self) -> Self:
        self._changed = False
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._hear)
            self._changed = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._changed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._heard = True
        signal.default_int_handler(number, frame)
