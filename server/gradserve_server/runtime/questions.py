"""What objectives ask of a model, kept for the next request that asks the same."""

import threading
from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple

from cachetools import LRUCache

from gradserve_server.graph.derivatives import Wanted
from gradserve_server.graph.objectives import Terms
from gradserve_server.runtime.session import Array

MOST = 64
"""Questions that are kept of a model."""

MOST_BYTES = 2**15
"""Of what a graph is fed for one that is kept. Larger ones, of single neurons in large layers, are made anew."""


class Question(NamedTuple):
    """An objective on a model, for inputs of some shapes."""

    terms: Terms
    wanted: Wanted
    """The graph that answers."""
    fed: Mapping[str, Array]
    """What the graph reads beside the model's inputs. Read-only: requests share it."""


class Questions:
    """The questions that a model was asked last. Safe to use from many threads.

    To make one takes Python 15 us, which is a tenth of what a small model's whole gradient takes.
    """

    def __init__(self) -> None:
        self._kept: LRUCache[Hashable, Question] = LRUCache(MOST)
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Question]) -> Question:
        """The question with this key; made if it is not there.

        Args:
            key: Equal for equal questions. What cannot be hashed, for there are arrays in it, is not kept.
            make: Makes it.
        """
        try:
            with self._lock:
                kept = self._kept.get(key)
        except TypeError:
            return make()
        if kept is not None:
            return kept
        question = make()
        arrays = question.fed.values()
        if sum(array.nbytes for array in arrays) <= MOST_BYTES:
            for array in arrays:
                array.flags.writeable = False
            with self._lock:
                self._kept[key] = question
        return question
