"""The line before the device: who is next, and who runs along."""

import contextvars
import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from gradserve_server.runtime.work import Priority, Work

PATIENCE = 8
"""A class that was passed over so many times in a row goes first: ascents get a ninth of the runs at least, even on a server
that is full of predictions."""


class Ticket:
    """A place in line, and afterwards the result.

    Args:
        work: What is to be run.
    """

    __slots__ = (
        "_awake",
        "_error",
        "_result",
        "asked",
        "batch",
        "began",
        "company",
        "context",
        "done",
        "ended",
        "group",
        "keeps",
        "until",
        "work",
    )

    def __init__(self, work: Work) -> None:
        self.work, self.group = work, work.group()
        self.batch: Sequence[Ticket] = ()
        """What its caller is to run, once it leads."""
        self.until = work.caller.deadline
        """When its caller looks again unless it is woken, by `time.monotonic`."""
        self.keeps = False
        """Whether it does so on behalf of all that wait for peers."""
        self.done = False
        self.asked = self.began = self.ended = time.monotonic()
        self.company = work.samples()
        """Samples that ran together, its own among them."""
        self.context = contextvars.copy_context()
        """Of its caller, for whoever runs it."""
        self._result: Any = None
        self._error: Exception | None = None
        self._awake = threading.Lock()  # the fastest way to wake one thread
        self._awake.acquire()

    def looks_again(self, until: float = math.inf, *, for_peers: bool = False) -> None:
        """Sets when its caller looks again: at its deadline at the latest."""
        self.until, self.keeps = min(until, self.work.caller.deadline), for_peers

    def is_chosen(self) -> None:
        """From here on it is too late to give up."""
        self.until, self.keeps = math.inf, False

    def begins(self) -> None:
        """Tells its caller how long it waited."""
        self.began = time.monotonic()
        if self.work.caller.waited is not None:
            self.work.caller.waited(self.began - self.asked)

    def sleep(self) -> bool:
        """Waits to be woken; False where `until` came first."""
        timeout = max(self.until - time.monotonic(), 0)
        return self._awake.acquire(timeout=min(timeout, threading.TIMEOUT_MAX))

    def wake(self) -> None:
        """Lets its caller look again. Two wakes before it looks count as one."""
        with suppress(RuntimeError):
            self._awake.release()

    def succeed(self, result: Any) -> None:
        """Sets the result."""
        self.ended = time.monotonic()
        self._result, self.done = result, True

    def fail(self, error: Exception) -> None:
        """Sets what `result` raises."""
        self._error, self.done = error, True

    def result(self) -> Any:
        """The result, or the error raised."""
        if self._error is not None:
            raise self._error
        return self._result


class Line:
    """Tickets that wait, in the order in which they came."""

    def __init__(self) -> None:
        self._tickets: list[Ticket] = []
        self._passed_over = dict.fromkeys(Priority, 0)

    def __len__(self) -> int:
        return len(self._tickets)

    def __iter__(self) -> Iterator[Ticket]:
        return iter(self._tickets)

    def join(self, ticket: Ticket) -> None:
        """Stands at the end."""
        self._tickets.append(ticket)

    def put_back(self, tickets: Sequence[Ticket]) -> None:
        """Stand at the front again."""
        for ticket in tickets:
            ticket.looks_again()
        self._tickets[:0] = tickets

    def leave(self, ticket: Ticket) -> bool:
        """Gives a place up; False where the ticket is not in line."""
        if ticket not in self._tickets:
            return False
        self._tickets.remove(ticket)
        return True

    def clear(self) -> list[Ticket]:
        """Sends everybody away."""
        tickets, self._tickets = self._tickets, []
        return tickets

    def first(self) -> Ticket:
        """Who is next: the first of the highest class, or of one that was passed over too often."""
        impatient = [ticket for ticket in self._tickets if self._passed_over[ticket.work.priority] >= PATIENCE]
        return min(impatient or self._tickets, key=lambda ticket: ticket.work.priority)

    def take(self, head: Ticket, max_batch: int) -> list[Ticket]:
        """Removes the first and those of its group, in order, that fit into a batch with it."""
        batch, room = [head], max_batch - head.work.samples()
        for ticket in self._tickets:
            if (
                ticket is not head
                and ticket.group is not None
                and ticket.group == head.group
                and ticket.work.samples() <= room
            ):
                batch.append(ticket)
                room -= ticket.work.samples()
        for ticket in batch:
            ticket.is_chosen()
        self._tickets = [ticket for ticket in self._tickets if ticket not in batch]
        waiting = {ticket.work.priority for ticket in self._tickets}
        served = {ticket.work.priority for ticket in batch}
        for priority in Priority:
            passed_over = priority in waiting and priority not in served
            self._passed_over[priority] = self._passed_over[priority] + 1 if passed_over else 0
        return batch
