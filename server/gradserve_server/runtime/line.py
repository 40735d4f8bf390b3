"""The line before the device: who is next, and who runs along.

Predictions go before gradients, and those before steps of ascents; among predictions, those of a higher level first. Such
as go before or behind one another are in bands, and a band that was passed over often goes first. Within a band the
callers take turns (`runtime.turns`), and the works of one caller come in their order.
"""

import itertools
from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter

from gradserve_server.runtime.company import Company
from gradserve_server.runtime.ticket import Band, Ticket
from gradserve_server.runtime.turns import Turns

PATIENCE = 8
"""A band that was passed over so many times in a row goes first: ascents get a ninth of the runs at least, even on a server
that is full of predictions. Of several such it is the one that was passed over most."""

_order = attrgetter("order")


class _Waiting:
    """Those of one band."""

    def __init__(self) -> None:
        self.tickets: list[Ticket] = []
        """In order."""
        self.turns = Turns()
        self.passed_over = 0


class Line:
    """Tickets that wait."""

    def __init__(self) -> None:
        self._bands: dict[Band, _Waiting] = {}  # none is empty
        self._number = itertools.count()

    def __len__(self) -> int:
        return sum(len(band.tickets) for band in self._bands.values())

    def __bool__(self) -> bool:
        return bool(self._bands)

    def __iter__(self) -> Iterator[Ticket]:
        for band in sorted(self._bands):
            yield from self._bands[band].tickets

    def join(self, ticket: Ticket) -> None:
        """Stands where it is its caller's turn."""
        band = self._bands.setdefault(ticket.band, _Waiting())
        ticket.order = (band.turns.start(ticket.work.caller.identity, ticket.samples or 1), next(self._number))
        insort(band.tickets, ticket, key=_order)

    def put_back(self, tickets: Sequence[Ticket]) -> None:
        """Stand where they stood."""
        for ticket in tickets:
            ticket.looks_again()
            insort(self._bands.setdefault(ticket.band, _Waiting()).tickets, ticket, key=_order)

    def leave(self, ticket: Ticket) -> bool:
        """Gives a place up; False where the ticket is not in line."""
        band = self._bands.get(ticket.band)
        if band is None or ticket not in band.tickets:
            return False
        band.tickets.remove(ticket)
        if not band.tickets:
            del self._bands[ticket.band]
        return True

    def fall_back(self, ticket: Ticket) -> None:
        """Stands behind those of its rank from here on, if it is in line."""
        if self.leave(ticket):
            ticket.falls_back()
            self.join(ticket)

    def clear(self) -> list[Ticket]:
        """Sends everybody away."""
        tickets = list(self)
        self._bands.clear()
        return tickets

    def of_group(self, ticket: Ticket) -> list[Ticket]:
        """The ticket, and those that could run with it, in their order."""
        group = ticket.group
        return [ticket] if group is None else [ticket, *[o for o in self if o is not ticket and o.group == group]]

    def first(self, ripe_at: Callable[[Ticket], float | None]) -> tuple[Ticket, float | None]:
        """Who is next, and when.

        Args:
            ripe_at: Until when a ticket should wait for those that it runs with; None: no longer. Asked of one ticket of a
                group.

        Returns:
            The first in order that need not wait, and None; or whose wait is over first, and when it is.
        """
        waits: dict[object, float] = {}
        soonest: tuple[Ticket, float | None] | None = None
        for band in self._in_order():
            for ticket in band.tickets:
                if ticket.group in waits:
                    continue
                until = ripe_at(ticket)
                if until is None:
                    return ticket, None
                waits[ticket.group] = until
                if soonest is None or until < (soonest[1] or 0.0):
                    soonest = ticket, until
        assert soonest is not None, "the line is empty"
        return soonest

    def take(self, head: Ticket, company: Company) -> list[Ticket]:
        """Removes the first and those of its group, in order, that fit into a batch with it."""
        group = self.of_group(head)
        batch, room = [head], company.size(sum(ticket.samples for ticket in group)) - head.samples
        for ticket in group[1:]:
            if ticket.samples <= room:
                batch.append(ticket)
                room -= ticket.samples
        chosen: dict[Band, list[Ticket]] = {}
        for ticket in batch:
            ticket.is_chosen()
            chosen.setdefault(ticket.band, []).append(ticket)
        for waiting in self._bands.values():
            waiting.passed_over += 1
        for band, tickets in chosen.items():
            waiting = self._bands[band]
            waiting.passed_over = 0
            cost = sum(ticket.samples or 1 for ticket in tickets)
            waiting.turns.served(head.order[0] if band == head.band else 0.0, cost)
            if len(tickets) == len(waiting.tickets):
                del self._bands[band]
            else:
                waiting.tickets = [ticket for ticket in waiting.tickets if ticket not in tickets]
        return batch

    def _in_order(self) -> list[_Waiting]:
        """The bands, who is next first."""
        if len(self._bands) == 1:
            return list(self._bands.values())
        return [
            waiting
            for _, waiting in sorted(
                self._bands.items(),
                key=lambda item: (-item[1].passed_over if item[1].passed_over >= PATIENCE else 0, item[0]),
            )
        ]
