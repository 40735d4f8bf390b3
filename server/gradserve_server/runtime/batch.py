"""Several runs of one graph as one: inputs joined along the batch axis, outputs split again.

A graph's shapes say that axis 0 is a batch (`graph.batch_axis`). That its samples do not see one another is what inference
form promises, but no shape can prove it: attention over a sequence that lies along axis 0 looks the same. So the first
batch of a session is run both ways, and only if the results agree is there ever a second.
"""

import logging
from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np

from gradserve.errors import RunFailed
from gradserve_server.runtime.session import Array, Session
from gradserve_server.runtime.verify import TOLERANCES, difference

_log = logging.getLogger(__name__)

Feeds = Mapping[str, Array]
Signature = tuple[tuple[str, tuple[int, ...], str], ...]


class Batch:
    """Joins the runs of one session.

    Args:
        session: Runs them.
        broadcast: Inputs that may have one entry for all samples.
    """

    def __init__(self, session: Session, broadcast: frozenset[str]) -> None:
        self._session, self._broadcast = session, broadcast
        self.allowed = True
        """Whether runs may be joined; no longer once it was seen to change results."""
        self.tried = False
        """Whether it was seen not to."""

    def signature(self, feeds: Feeds) -> Signature:
        """What runs must have in common: shapes without the batch axis, and types."""
        return tuple((name, array.shape[1:], array.dtype.str) for name, array in sorted(feeds.items()))

    def samples(self, feeds: Feeds) -> int:
        """How many a run has."""
        return next(len(array) for name, array in feeds.items() if name not in self._broadcast)

    def run(self, runs: Sequence[Feeds]) -> list[dict[str, Array]]:
        """Runs all as one.

        Returns:
            The outputs of each, as views of what they have in common: to be copied, for who keeps one keeps all.
        """
        sizes = [self.samples(feeds) for feeds in runs]
        ends = list(accumulate(sizes))
        joined = {name: self._join(name, [feeds[name] for feeds in runs], sizes) for name in runs[0]}
        outputs = self._session.run(joined)
        for name, array in outputs.items():
            if array.shape[:1] != (ends[-1],):
                msg = (
                    f"output '{name}': expected {ends[-1]} along axis 0, one for each sample, got shape {list(array.shape)}"
                )
                raise ValueError(msg)
        return [
            {name: array[end - size : end] for name, array in outputs.items()} for size, end in zip(sizes, ends, strict=True)
        ]

    def compare(self, runs: Sequence[Feeds], alone: Sequence[Feeds]) -> None:
        """Decides whether runs may be joined, from the results that they have alone.

        Nothing is decided by runs with the same inputs, whose samples may see one another without a difference, nor by
        results that are not finite.
        """
        first, second, *_ = runs
        if all(np.array_equal(first[name], second[name]) for name in first if name not in self._broadcast):
            return
        floats = [array for results in alone for array in results.values() if array.dtype.name in TOLERANCES]
        if not all(np.isfinite(array).all() for array in floats):
            return
        try:
            joined = self.run(runs)
        except (RunFailed, ValueError) as error:
            self._refuse(str(error))
            return
        for expected, got in zip(alone, joined, strict=True):
            for name, array in expected.items():
                tolerance = TOLERANCES.get(array.dtype.name)
                same = np.array_equal(array, got[name]) if tolerance is None else difference(array, got[name]) <= tolerance
                if not same:
                    self._refuse(f"output '{name}': expected the same as alone, got another: samples see one another")
                    return
        self.tried = True

    def _refuse(self, why: str) -> None:
        self.allowed = False
        _log.warning("requests to this graph run one by one: %s", why)

    def _join(self, name: str, arrays: Sequence[Array], sizes: Sequence[int]) -> Array:
        if name in self._broadcast:
            arrays = [
                array if len(array) == size else np.broadcast_to(array, (size, *array.shape[1:]))
                for array, size in zip(arrays, sizes, strict=True)
            ]
        return np.concatenate(arrays)
