"""Who runs on the device, when, and together with whom.

One run at a time: each already uses all threads. There is no thread of the scheduler's own. A caller that finds the device
free runs right away in its own thread; those who come meanwhile wait in line, and when a run ends, the next batch is run by
one of its callers, who hands out the others' results.

- Works of one group (`Work.group`) run as one batch of at most `max_batch` samples, made of what waits at that moment.
- Predictions go before gradients, and those before steps of ascents; first come, first served within a class. A class that
  was passed over `PATIENCE` times in a row goes first.
- Nobody waits for company, but steps of ascents for their peers (`runtime.peers`).
- A work whose caller has gone, or whose deadline has passed, is dropped when its turn comes.
"""

import logging
import threading
import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context
from typing import Any
from weakref import WeakValueDictionary

from gradserve.errors import LimitExceeded, ServerUnavailable
from gradserve_server.runtime.caller import too_late
from gradserve_server.runtime.events import Observer, Run, Turn, nobody
from gradserve_server.runtime.line import Line, Ticket
from gradserve_server.runtime.peers import MAX_WAIT, Peer, Peers
from gradserve_server.runtime.work import Work

_log = logging.getLogger(__name__)


class Scheduler:
    """Shares a device between callers. Safe to use from many threads.

    Args:
        max_batch: Samples that run together at most; a work of more runs alone.
        max_queue: Works that wait at most.
        max_wait: Seconds that steps of ascents wait for their peers at most.
        observe: Told of each run, and of each work that has its result.
    """

    def __init__(self, *, max_batch: int, max_queue: int, max_wait: float = MAX_WAIT, observe: Observer = nobody) -> None:
        self._max_batch, self._max_queue, self._max_wait = max_batch, max_queue, max_wait
        self._observe = observe
        self._lock = threading.Lock()  # guards all below; held for moments, and never while anything runs
        self._line = Line()
        self._peers: WeakValueDictionary[Hashable, Peers] = WeakValueDictionary()
        self._busy = self._closed = False

    @property
    def waiting(self) -> int:
        """How many works are in line."""
        with self._lock:
            return len(self._line)

    @property
    def line(self) -> list[Work]:
        """The works in line."""
        with self._lock:
            return [ticket.work for ticket in self._line]

    def run(self, work: Work) -> Any:
        """Runs a work, alone or with others, and returns its result.

        Raises:
            LimitExceeded: Too many wait already.
            DeadlineExceeded: The caller's deadline passed before it was begun.
            CallCancelled: The caller was gone before it was begun.
            ServerUnavailable: The scheduler is closed.
        """
        with self._lock:
            if self._closed:
                raise work.caller.refusal() or _closed()
            peer = work.peer
            if peer is not None:
                peer.back(time.monotonic())
            free = not self._busy and not self._line and (peer is None or peer.peers.expected_until() is None)
            if free:
                self._busy = True
            else:
                ticket = self._join_line(work)
                leader = self._next(ticket)
        if free:
            return self._run_at_once(work)
        _wake(leader)
        return self._wait(ticket)

    def peer(self, work: Work) -> Peer | None:
        """Makes a work the repeated step of an ascent, so that its peers know of it; None where it always runs alone."""
        group = work.group()
        if group is None:
            return None
        with self._lock:
            return Peer(self._peers.setdefault(group, Peers()))

    def leave(self, peer: Peer) -> None:
        """Tells its peers that an ascent takes no more steps."""
        peer.gone = True
        # A garbage collection may end an ascent in the middle of our own critical section, in the very thread that holds
        # the lock. Then its peers find out by themselves, after a wait that is bounded.
        if not self._lock.acquire(blocking=False):
            return
        try:
            peer.peers.members.discard(peer)
            leader = self._next()
        finally:
            self._lock.release()
        _wake(leader)

    def close(self) -> None:
        """Ends what waits with an error; what runs is finished."""
        with self._lock:
            self._closed = True
            waiting = self._line.clear()
        for ticket in waiting:
            ticket.fail(ticket.work.caller.refusal() or _closed())
            ticket.wake()

    # ---- running -----------------------------------------------------------------------------------------------------

    def _run_at_once(self, work: Work) -> Any:
        began = ended = time.monotonic()
        try:
            result = work.alone()
        finally:
            ended = time.monotonic()
            _wake(self._free([work], ended - began))
            self._observe(Run(work.priority, work.samples(), ended - began))
        self._observe(Turn(work.subject, work.priority, work.samples(), began, began, ended, work.samples()))
        return result

    def _lead(self, own: Ticket) -> None:
        """Runs a batch for all its callers."""
        batch, own.batch = own.batch, ()
        runs: list[Run] = []
        started = time.monotonic()
        try:
            _run_batch(batch, runs)
        finally:
            # What an interrupt (Ctrl-C in this thread) left undone is the others' still.
            undone = [ticket for ticket in batch if not ticket.done and ticket is not own]
            done = [ticket for ticket in batch if ticket.done]
            _wake(self._free([ticket.work for ticket in done], time.monotonic() - started, undone))
            for ticket in done:
                if ticket is not own:
                    ticket.wake()
            for run in runs:
                self._observe(run)

    def _free(self, works: Sequence[Work], seconds: float, undone: Sequence[Ticket] = ()) -> Ticket | None:
        """Frees the device, and says who leads next."""
        with self._lock:
            self._busy = False
            self._line.put_back(undone)
            now = time.monotonic()
            for peer in (work.peer for work in works if work.peer is not None):
                peer.left(now)
                peer.peers.ran_for(seconds, self._max_wait)
            return self._next()

    # ---- waiting -----------------------------------------------------------------------------------------------------

    def _join_line(self, work: Work) -> Ticket:
        # An ascent under way is not broken off.
        under_way = work.peer is not None and work.peer.under_way
        if len(self._line) >= self._max_queue and self._busy and not under_way:
            msg = f"queue: at most {self._max_queue} runs wait at a time (max_queue); try again when some have ended"
            raise LimitExceeded(msg)
        ticket = Ticket(work)
        self._line.join(ticket)
        return ticket

    def _wait(self, ticket: Ticket) -> Any:
        try:
            while not ticket.done:
                if ticket.batch:
                    self._lead(ticket)
                elif not ticket.sleep():
                    self._overslept(ticket)
        except BaseException:
            self._abandon(ticket)
            raise
        result, work = ticket.result(), ticket.work
        self._observe(
            Turn(work.subject, work.priority, work.samples(), ticket.asked, ticket.began, ticket.ended, ticket.company)
        )
        return result

    def _overslept(self, ticket: Ticket) -> None:
        """The deadline has passed, or the wait for peers is over."""
        with self._lock:
            late = time.monotonic() >= ticket.work.caller.deadline and self._line.leave(ticket)
            if ticket.keeps:
                ticket.looks_again()
            leader = self._next(ticket)
        if late:
            ticket.fail(too_late())
        _wake(leader)

    def _abandon(self, ticket: Ticket) -> None:
        """The thread that waited was interrupted; whatever it was to do falls to another."""
        with self._lock:
            self._line.leave(ticket)
            if ticket.batch:
                self._busy = False
                self._line.put_back([other for other in ticket.batch if other is not ticket])
                ticket.batch = ()
            leader = self._next()
        _wake(leader)

    # ---- choosing ----------------------------------------------------------------------------------------------------

    def _next(self, own: Ticket | None = None) -> Ticket | None:
        """Whom to wake: who leads the next batch (`own`, if it can), or keeps the time until peers are back, or nobody."""
        if self._busy or not self._line:
            return None
        head = self._line.first()
        until = self._worth_waiting(head)
        if until is not None:
            if head.keeps:
                return None
            head.looks_again(until, for_peers=True)
            return head
        batch = self._line.take(head, self._max_batch)
        self._busy = True
        leader = own if own in batch else head
        leader.batch = batch
        return leader

    def _worth_waiting(self, head: Ticket) -> float | None:
        """Until when to wait for peers of the first in line, if at all."""
        peer = head.work.peer
        if peer is None or any(ticket.group is None or ticket.group != head.group for ticket in self._line):
            return None
        if sum(ticket.work.samples() for ticket in self._line) >= self._max_batch:
            return None
        return peer.peers.expected_until()


def _wake(ticket: Ticket | None) -> None:
    if ticket is not None:
        ticket.wake()


def _run_batch(batch: Sequence[Ticket], runs: list[Run]) -> None:
    """Runs what is still wanted; should it fail together, one by one, so that an error is its own caller's only.

    What runs alone does so in the context of its caller, and a batch in that of nobody: what it logs is not the leader's.

    Args:
        batch: What was taken from the line.
        runs: Gets the runs of the device.
    """
    for ticket in batch:
        error = ticket.work.caller.refusal()
        if error is not None:
            ticket.fail(error)
    wanted = [ticket for ticket in batch if not ticket.done]
    for ticket in wanted:
        ticket.begins()
    if len(wanted) > 1:
        try:
            with _timed(wanted, runs):
                results = Context().run(wanted[0].work.together, [ticket.work for ticket in wanted])
        except Exception as error:
            _log.info("a batch of %d runs failed; they run one by one: %s", len(wanted), error)
        else:
            for ticket, result in zip(wanted, results, strict=True):
                ticket.company = runs[-1].samples
                ticket.succeed(result)
            return
    for ticket in wanted:
        try:
            with _timed([ticket], runs):
                result = ticket.context.run(ticket.work.alone)
            ticket.succeed(result)
        except Exception as error:
            ticket.fail(error)


@contextmanager
def _timed(tickets: Sequence[Ticket], runs: list[Run]) -> Iterator[None]:
    """Keeps the time of a run of the device."""
    began = time.monotonic()
    try:
        yield
    finally:
        samples = sum(ticket.work.samples() for ticket in tickets)
        runs.append(Run(tickets[0].work.priority, samples, time.monotonic() - began))


def _closed() -> ServerUnavailable:
    return ServerUnavailable("the engine was closed before this run was begun")
