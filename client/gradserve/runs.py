"""Several ascents at a time: one thread and one stream each, watched from the thread that asked."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from gradserve import Objective, Step
from gradserve.errors import CallError

_FAREWELL_SECONDS = 5.0
"""How long a cancelled ascent has to notice."""


@dataclass(eq=False)
class Ascent:
    """What is known of one."""

    name: str
    """Its objective, as the user wrote it."""
    objective: Objective
    first: Step | None = None
    last: Step | None = None
    frames: list[Step] = field(default_factory=list)
    """The reports that have an image."""
    began: float = 0.0
    ended: float = 0.0

    @property
    def steps_per_second(self) -> float:
        """Updates by time, so far."""
        return self.last.index / (self.ended - self.began) if self.last and self.ended > self.began else 0.0

    def take(self, step: Step) -> None:
        """Remembers a report."""
        self.first = self.first or step
        self.last = step
        self.ended = time.perf_counter()
        if step.image is not None:
            self.frames.append(step)


Event = tuple[Ascent, Step | BaseException | None]


def run(
    ascents: Sequence[Ascent],
    start: Callable[[Ascent], Iterator[Step]],
    *,
    jobs: int,
    watch: Callable[[Ascent], None],
    cancel: Callable[[], None],
) -> None:
    """Runs ascents to their ends.

    Args:
        ascents: Filled with their reports as these come in.
        start: Begins one.
        jobs: How many run at a time.
        watch: Called after each report, in the caller's thread.
        cancel: Called if this function is left early, by an error of one ascent or by Ctrl-C: ends the others.
    """
    waiting: queue.SimpleQueue[Ascent] = queue.SimpleQueue()
    for ascent in ascents:
        waiting.put(ascent)
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    stop = threading.Event()
    threads = [
        threading.Thread(target=_work, args=(waiting, events, stop, start), daemon=True)
        for _ in range(min(jobs, len(ascents)))
    ]
    for thread in threads:
        thread.start()
    left = len(ascents)
    try:
        while left:
            ascent, event = events.get()
            match event:
                case Step():
                    ascent.take(event)
                    watch(ascent)
                case None:
                    left -= 1
                    _check_ended(ascent)
                case _:
                    raise event
    except BaseException:
        stop.set()
        cancel()
        raise
    finally:
        for thread in threads:
            thread.join(_FAREWELL_SECONDS)


def _work(
    waiting: "queue.SimpleQueue[Ascent]",
    events: "queue.SimpleQueue[Event]",
    stop: threading.Event,
    start: Callable[[Ascent], Iterator[Step]],
) -> None:
    """Takes ascents that wait, one after the other, and passes on what they report."""
    while not stop.is_set():
        try:
            ascent = waiting.get_nowait()
        except queue.Empty:
            return
        try:
            ascent.began = time.perf_counter()
            for step in start(ascent):
                events.put((ascent, step))
                if stop.is_set():
                    return
            events.put((ascent, None))
        except BaseException as error:  # whatever it is, the caller's thread raises it
            events.put((ascent, error))
            return


def _check_ended(ascent: Ascent) -> None:
    if ascent.last is None or ascent.last.stop_reason is None:
        msg = (
            f"ascent {ascent.name}: expected reports up to the end, got none after step {ascent.last and ascent.last.index}"
        )
        raise CallError(msg)
