"""Ascents that take the same steps at the same time: who of them is expected back, so that their batch forms again.

After a step an ascent updates its images before it asks for the next run. Whoever is back first would run alone, and the
others would find the device busy. So those who are back wait for those who are not, but

- only for ascents that are under way with the same group of runs, and that came back in time after their last step;
- for at most as long as the group's last run took, and never longer than `MAX_WAIT`;
- only while there is nothing else to run (`runtime.scheduler` sees to that).
"""

import math
import time

MAX_WAIT = 0.010
"""Seconds; updating the images of eight full-size ascents takes less."""


class Peers:
    """The ascents whose steps are of one group."""

    def __init__(self) -> None:
        self.members: set[Peer] = set()
        self.patience = 0.0
        """Seconds to wait for a peer."""

    def ran_for(self, seconds: float, longest: float) -> None:
        """Notes how long a run of theirs took."""
        self.patience = min(seconds, longest)

    def expected_until(self) -> float | None:
        """Until when it is worth waiting for those who are not back yet; None where nobody is expected."""
        if len(self.members) == 1:
            return None
        self.members = {peer for peer in self.members if not peer.gone}
        until = max(peer.expected_until() for peer in self.members)
        return until if until > time.monotonic() else None


class Peer:
    """An ascent that takes steps.

    Args:
        peers: With whom.
    """

    def __init__(self, peers: Peers) -> None:
        self.peers = peers
        peers.members.add(self)
        self.gone = False
        """Takes no more steps."""
        self.under_way = False
        """Has taken a step."""
        self._prompt = True
        self._away_since: float | None = None

    def back(self, now: float) -> None:
        """Asks for its next run."""
        if self._away_since is not None:
            self._prompt = now - self._away_since <= self.peers.patience
            self._away_since = None

    def left(self, now: float) -> None:
        """Has the result of a run."""
        self._away_since, self.under_way = now, True

    def expected_until(self) -> float:
        """Until when it is worth waiting for; minus infinity while it is here, or if it was late the last time."""
        if self._away_since is None or not self._prompt:
            return -math.inf
        return self._away_since + self.peers.patience
