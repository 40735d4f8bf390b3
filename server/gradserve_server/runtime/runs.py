"""What models ask of the device: runs of graphs, predictions, and the steps of an ascent."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from types import TracebackType
from typing import Self

from gradserve_server.runtime.batch import Batch, Feeds
from gradserve_server.runtime.caller import ANYONE, Caller
from gradserve_server.runtime.dynamic_batching import ALONE, DynamicBatching
from gradserve_server.runtime.exchange import Exchange
from gradserve_server.runtime.scheduler import Scheduler
from gradserve_server.runtime.session import Array, Session
from gradserve_server.runtime.tensors import Tensor
from gradserve_server.runtime.work import NOTHING, Priority, Subject, Work

SMALL = 2**15
"""Numbers in an ascent's images up to which it is not worth waking a thread to change them: that takes 40 us, and the change
10."""


class GraphRun(Work):
    """A run of a graph.

    Args:
        session: Runs it.
        batch: Joins it with others; None where it must run alone.
        feeds: Every input of the graph.
        priority: Its class.
        caller: Who waits.
        subject: What it is about.
    """

    def __init__(
        self,
        session: Session,
        batch: Batch | None,
        feeds: Feeds,
        priority: Priority,
        caller: Caller = ANYONE,
        subject: Subject = NOTHING,
    ) -> None:
        super().__init__(priority, caller, subject=subject)
        self._session, self._batch, self._feeds = session, batch, feeds

    def samples(self) -> int:
        """How many samples it has."""
        return self._batch.samples(self._feeds) if self._batch is not None else 1

    def group(self) -> Hashable | None:
        """The graph, with the shapes and types of the inputs."""
        batch = self._batch
        return (batch, batch.signature(self._feeds)) if batch is not None and batch.allowed else None

    def alone(self) -> Feeds:
        """The outputs."""
        return self._session.run(self._feeds)

    def together(self, works: Sequence[Self]) -> list[Feeds]:
        """The outputs of each; the first time on a graph they run one by one as well, to see that nothing changes."""
        assert self._batch is not None
        runs = [work._feeds for work in works]
        if self._batch.tried:
            results = self._batch.run(runs)
            for index, work in enumerate(works):
                if work.caller.ran is not None:
                    work.caller.ran(sum(other.samples() for other in works), index == 0)
            return [work._take(result) for work, result in zip(works, results, strict=True)]
        alone = [work.alone() for work in works]
        if self._batch.allowed:
            self._batch.compare(runs, alone)
        return alone

    def _take(self, results: Feeds) -> Feeds:
        """A copy of its part of a batch's results."""
        return {name: array.copy() for name, array in results.items()}


class Prediction(GraphRun):
    """A run of the model: alone unless its configuration says otherwise.

    Another batch size may change the last bits, and a prediction's bytes are promised.

    Args:
        session: Runs it.
        feeds: The model's inputs.
        outputs: Which outputs; all if none is named.
        caller: Who waits.
        batching: What the model's configuration says.
        subject: What it is about.
    """

    def __init__(
        self,
        session: Session,
        feeds: Feeds,
        outputs: Sequence[str],
        caller: Caller = ANYONE,
        batching: DynamicBatching = ALONE,
        subject: Subject = NOTHING,
    ) -> None:
        super().__init__(session, batching.batch, feeds, Priority.PREDICTION, caller, subject)
        self._outputs = outputs or session.outputs
        self.queue, self.company = batching.queue(caller.priority), batching.company

    def alone(self) -> dict[str, Array]:
        """The outputs."""
        return self._session.run(self._feeds, self._outputs)

    def _take(self, results: Feeds) -> Feeds:
        return {name: results[name].copy() for name in self._outputs}


class Steps(GraphRun):
    """The runs of an ascent; alone they read and write its memory without a copy.

    A context, so that ascents that take the same steps know whom to wait for: `with steps as run: run(advance)`.

    Args:
        scheduler: Of the device.
        session: Runs them.
        batch: Joins them with others'; None where they must run alone. So do those whose tensors stay on a device.
        feeds: Memory to read.
        results: Memory to write.
        caller: Who waits.
        subject: What they are about.
        exchange: What is done before and after each.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        session: Session,
        batch: Batch | None,
        feeds: Mapping[str, Array | Tensor],
        results: Mapping[str, Array | Tensor],
        caller: Caller,
        subject: Subject,
        exchange: Exchange,
    ) -> None:
        near = {name: x for name, x in feeds.items() if not isinstance(x, Tensor)}
        super().__init__(session, batch if exchange.stays_on is None else None, near, Priority.ASCENT, caller, subject)
        self._scheduler, self._exchange = scheduler, exchange
        self._results = {name: x for name, x in results.items() if not isinstance(x, Tensor)}
        self._run = session.bind(feeds, results)
        self._group = super().group()
        self._samples = super().samples() if exchange.stays_on is None else max(len(x) for x in self._results.values())
        # What advances on a device may fetch images from there: never in the turn of whoever ran a batch.
        self._small = exchange.stays_on is None and sum(array.size for array in self._results.values()) <= SMALL
        self._advance: Callable[[], bool] = lambda: False

    def samples(self) -> int:
        """How many samples it has."""
        return self._samples

    def group(self) -> Hashable | None:
        """The graph, with the shapes and types of the inputs; they never change."""
        return self._group if self._batch is not None and self._batch.allowed else None

    def alone(self) -> Feeds:
        """The arrays, written."""
        self._exchange.before()
        self._run()
        self._exchange.after()
        return self._results

    def again(self) -> bool:
        """Advances a small ascent, and says whether it goes on."""
        return self._small and self._advance()

    def __call__(self, advance: Callable[[], bool]) -> None:
        """Runs whenever its turn comes, and advances after each run, for as long as that says yes.

        Args:
            advance: Called by whoever ran a small ascent, in this thread for a large one: then those that ran together
                advance side by side.
        """
        self._advance = advance
        self._scheduler.run(self)
        while not self._small and advance():
            self._scheduler.run(self)

    def __enter__(self) -> Self:
        self.peer = self._scheduler.peer(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.peer is not None:
            self._scheduler.leave(self.peer)

    def _take(self, results: Feeds) -> Feeds:
        for name, buffer in self._results.items():
            buffer[...] = results[name]
        return self._results


class Relay:
    """Runs of one ascent by one plan and then by another: only those whose turn it is wait for their peers.

    A context that ends the last of them.
    """

    def __init__(self) -> None:
        self._now: Steps | None = None

    def of(self, steps: Steps) -> Callable[[Callable[[], bool]], None]:
        """Calls them, after it has ended those before."""

        def run(advance: Callable[[], bool]) -> None:
            if self._now is not steps:
                self._end()
                self._now = steps.__enter__()
            steps(advance)

        return run

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        if self._now is not None:
            self._now.__exit__(None, None, None)
        self._now = None
