"""Who runs on the device, when, and together with whom.

One run at a time: each already uses all threads. There is no thread of the scheduler's own. A caller that finds the device
free runs right away in its own thread; those who come meanwhile wait in line, and when a run ends, the next batch is run by
one of its callers, who hands out the others' results.

- Works of one group (`Work.group`) run as one batch, made of what waits at that moment (`runtime.company` says how large).
- Predictions go before gradients, and those before steps of ascents; callers take turns within a class; none starves
  (`runtime.line`).
- Nobody waits for company, but predictions whose model's configuration says so, and steps of ascents for their peers
  (`runtime.peers`). Meanwhile others run.
- A work whose caller has gone, or whose deadline has passed, is dropped when its turn comes.
- A work that wants to be run again (`Work.again`) is asked by whoever has run it, and its own caller sleeps on: a batch of
  ascents steps in one thread.
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
from gradserve_server.runtime.company import ORDINARY, Company
from gradserve_server.runtime.events import Observer, Run, Turn, nobody
from gradserve_server.runtime.line import Line
from gradserve_server.runtime.peers import MAX_WAIT, Peer, Peers
from gradserve_server.runtime.ticket import Ticket
from gradserve_server.runtime.work import Work

_log = logging.getLogger(__name__)


class Scheduler:
    """Shares a device between callers. Safe to use from many threads.

    Args:
        max_batch: Samples that run together at most, where a work does not say so itself; a work of more runs alone.
        max_queue: Works that wait at most.
        max_queue_per_caller: Works of one caller that wait at most; None: as many as wait at all.
        max_wait: Seconds that steps of ascents wait for their peers at most.
        observe: Told of each run, and of each work that has its result.
    """

    def __init__(
        self,
        *,
        max_batch: int,
        max_queue: int,
        max_queue_per_caller: int | None = None,
        max_wait: float = MAX_WAIT,
        observe: Observer = nobody,
    ) -> None:
        self._observe = observe
        self._company, self._max_queue, self._max_wait = Company(max_batch), max_queue, max_wait
        self._max_queue_per_caller = max_queue if max_queue_per_caller is None else max_queue_per_caller
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
        """Runs a work, alone or with others, as often as it wants to be run, and returns its last result.

        Raises:
            LimitExceeded: Too many wait already, or it has waited too long.
            DeadlineExceeded: The caller's deadline passed before it was begun.
            CallCancelled: The caller was gone before it was begun.
            ServerUnavailable: The scheduler is closed.
        """
        while True:
            with self._lock:
                if self._closed:
                    raise work.caller.refusal() or _closed()
                peer = work.peer
                if peer is not None:
                    peer.back(time.monotonic())
                free = not self._busy and not self._line and not self._would_wait(work)
                if free:
                    self._busy = True
                else:
                    ticket = self._join_line(work)
                    leader = self._next(ticket)
            if not free:
                _wake(leader)
                return self._wait(ticket)
            result = self._run_at_once(work)
            if not work.again():
                return result

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
            ticket.let_go()

    # ---- running -----------------------------------------------------------------------------------------------------

    def _run_at_once(self, work: Work) -> Any:
        samples = work.samples()
        began = ended = time.monotonic()
        try:
            result = work.alone()
        finally:
            ended = time.monotonic()
            _wake(self._free([work], ended - began))
            self._observe(Run(work.priority, samples, ended - began))
        self._observe(Turn(work.subject, work.priority, samples, began, began, ended, samples))
        return result

    def _lead(self, own: Ticket) -> None:
        """Runs a batch for all its callers."""
        batch, own.batch = own.batch, ()
        runs: list[Run] = []
        started = time.monotonic()
        seconds = 0.0
        going_on: list[Ticket] = []
        try:
            _run_batch(batch, runs)
            seconds = time.monotonic() - started
            going_on = self._those_that_go_on(batch)
        finally:
            settled = [ticket for ticket in batch if ticket.settled]
            # What an interrupt (Ctrl-C in this thread) left undone is the others' still.
            undone = [ticket for ticket in batch if not ticket.settled and ticket not in going_on and ticket is not own]
            leader = self._free([ticket.work for ticket in settled], seconds, undone, going_on, own)
            if leader is not own:
                _wake(leader)
            # Only now: whoever goes may come back with its next run at once.
            for ticket in settled:
                ticket.let_go()
            for run in runs:
                self._observe(run)

    def _those_that_go_on(self, batch: Sequence[Ticket]) -> list[Ticket]:
        """The works that want another run; each is asked in the context of its caller."""
        going_on = []
        for ticket in batch:
            try:
                if not ticket.failed and ticket.context.run(ticket.work.again):
                    going_on.append(ticket)
            except Exception as error:
                ticket.fail(error)
        for ticket in going_on:
            ticket.context.run(self._observe, _turn(ticket))
            ticket.goes_on()
        return going_on

    def _free(
        self,
        works: Sequence[Work],
        seconds: float,
        undone: Sequence[Ticket] = (),
        going_on: Sequence[Ticket] = (),
        own: Ticket | None = None,
    ) -> Ticket | None:
        """Frees the device, and says who leads next."""
        with self._lock:
            self._busy = False
            self._line.put_back(undone)
            now = time.monotonic()
            for peer in (work.peer for work in works if work.peer is not None):
                peer.left(now)
                peer.peers.ran_for(seconds, self._max_wait)
            for ticket in going_on:
                if self._closed:
                    ticket.fail(ticket.work.caller.refusal() or _closed())
                    ticket.let_go()
                else:
                    self._line.join(ticket)
            return self._next(own)

    # ---- waiting -----------------------------------------------------------------------------------------------------

    def _join_line(self, work: Work) -> Ticket:
        # An ascent under way is not broken off. What waits for company while the device is idle takes no place from others.
        if (self._busy or (work.company is not None and work.company.delay)) and not (
            work.peer is not None and work.peer.under_way
        ):
            self._check_limits(work)
        ticket = Ticket(work)
        overdue = ticket.overdue(ticket.asked)
        if overdue is not None:
            raise overdue
        self._line.join(ticket)
        return ticket

    def _check_limits(self, work: Work) -> None:
        """Makes sure that not too many wait.

        Raises:
            LimitExceeded: They do.
        """
        waiting, who, queue = len(self._line), work.caller.identity, work.queue
        if waiting >= self._max_queue:
            msg = f"queue: at most {self._max_queue} runs wait at a time (max_queue); try again when some have ended"
            raise LimitExceeded(msg)
        most = self._max_queue_per_caller
        if who and waiting >= most and sum(ticket.work.caller.identity == who for ticket in self._line) >= most:
            msg = f"queue: at most {most} runs of one caller wait at a time (max_queue_per_caller); "
            msg += "try again when some have ended"
            raise LimitExceeded(msg)
        if (
            queue.limit
            and waiting >= queue.limit
            and sum(ticket.work.queue is queue for ticket in self._line) >= queue.limit
        ):
            raise queue.full()

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
        result = ticket.result()
        self._observe(_turn(ticket))
        return result

    def _overslept(self, ticket: Ticket) -> None:
        """It has waited too long, or long enough for others."""
        with self._lock:
            now = time.monotonic()
            error = ticket.overdue(now)
            late = error is not None and self._line.leave(ticket)
            if now >= ticket.expires and not late:
                self._line.fall_back(ticket)
            if not ticket.batch and not late:
                ticket.looks_again()
            leader = self._next(ticket)
        if late and error is not None:
            ticket.fail(error)
            ticket.let_go()
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
        head, until = self._line.first(self._ripe_at)
        if until is not None:
            if head.until <= until:
                return None
            head.looks_again(until, for_peers=True)
            return head
        batch = self._line.take(head, head.work.company or self._company)
        self._busy = True
        leader = own if own in batch else head
        leader.batch = batch
        return leader

    def _would_wait(self, work: Work) -> bool:
        """Whether a work is not to be run at once though the device is free: it waits for others, or has waited too long."""
        if work.queue is not ORDINARY and work.queue.expires(work.caller, now := time.monotonic()) <= now:
            return True
        if work.company is not None and work.company.delay:
            return not work.company.suffices(work.samples())
        return work.peer is not None and work.peer.peers.expected_until() is not None

    def _ripe_at(self, ticket: Ticket) -> float | None:
        """Until when a ticket should wait for those it runs with, if at all."""
        work, company = ticket.work, ticket.work.company or self._company
        if ticket.group is None or (work.peer is None and not company.delay):
            return None
        group = self._line.of_group(ticket)
        if company.suffices(sum(other.samples for other in group)):
            return None
        if company.delay:
            until = min(other.asked for other in group) + company.delay
            return until if until > time.monotonic() else None
        return work.peer.peers.expected_until() if work.peer is not None else None


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
        error = ticket.refusal()
        if error is not None:
            ticket.fail(error)
    wanted = [ticket for ticket in batch if not ticket.settled]
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
                ticket.ran_with = runs[-1].samples
                ticket.succeed(result)
            return
    for ticket in wanted:
        try:
            with _timed([ticket], runs):
                result = ticket.context.run(ticket.work.alone)
            ticket.succeed(result)
        except Exception as error:
            ticket.fail(error)


def _turn(ticket: Ticket) -> Turn:
    work = ticket.work
    return Turn(work.subject, work.priority, ticket.samples, ticket.asked, ticket.began, ticket.ended, ticket.ran_with)


@contextmanager
def _timed(tickets: Sequence[Ticket], runs: list[Run]) -> Iterator[None]:
    """Keeps the time of a run of the device."""
    began = time.monotonic()
    try:
        yield
    finally:
        samples = sum(ticket.samples for ticket in tickets)
        runs.append(Run(tickets[0].work.priority, samples, time.monotonic() - began))


def _closed() -> ServerUnavailable:
    return ServerUnavailable("the engine was closed before this run was begun")
