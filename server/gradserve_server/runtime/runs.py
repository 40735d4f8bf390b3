"""What models ask of the device: predictions, runs of plans, and the steps of an ascent."""

from collections.abc import Hashable, Sequence
from types import TracebackType
from typing import Self

from gradserve_server.runtime.batch import Batch, Feeds
from gradserve_server.runtime.caller import ANYONE, Caller
from gradserve_server.runtime.scheduler import Scheduler
from gradserve_server.runtime.session import Array, Session
from gradserve_server.runtime.work import NOTHING, Priority, Subject, Work


class Prediction(Work):
    """A run of the model. Always alone: another batch size may change the last bits, and its bytes are promised.

    Args:
        session: Runs it.
        feeds: The model's inputs.
        outputs: Which outputs; all if none is named.
        caller: Who waits.
        subject: What it is about.
    """

    def __init__(
        self,
        session: Session,
        feeds: Feeds,
        outputs: Sequence[str],
        caller: Caller = ANYONE,
        subject: Subject = NOTHING,
    ) -> None:
        super().__init__(Priority.PREDICTION, caller, subject=subject)
        self._session, self._feeds, self._outputs = session, feeds, outputs

    def alone(self) -> dict[str, Array]:
        """The outputs."""
        return self._session.run(self._feeds, self._outputs)


class PlanRun(Work):
    """A run of a plan.

    Args:
        session: Runs it.
        batch: Joins it with others; None where it must run alone.
        feeds: Every input of the plan's graph.
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
        """The plan, with the shapes and types of the inputs."""
        batch = self._batch
        return (batch, batch.signature(self._feeds)) if batch is not None and batch.allowed else None

    def alone(self) -> Feeds:
        """The outputs."""
        return self._session.run(self._feeds)

    def together(self, works: Sequence[Self]) -> list[Feeds]:
        """The outputs of each; the first time on a plan they run one by one as well, to see that nothing changes."""
        assert self._batch is not None
        runs = [work._feeds for work in works]
        if self._batch.tried:
            return [work._take(results) for work, results in zip(works, self._batch.run(runs), strict=True)]
        alone = [work.alone() for work in works]
        if self._batch.allowed:
            self._batch.compare(runs, alone)
        return alone

    def _take(self, results: Feeds) -> Feeds:
        """What becomes of its part of a batch's results."""
        return results


class Steps(PlanRun):
    """The runs of an ascent, one at each call; alone they read and write its buffers without a copy.

    A context, so that ascents that take the same steps know whom to wait for: `with steps as run: run(); run()`.

    Args:
        scheduler: Of the device.
        session: Runs them.
        batch: Joins them with others'; None where they must run alone.
        feeds: Buffers to read.
        results: Buffers to write.
        caller: Who waits.
        subject: What they are about.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        session: Session,
        batch: Batch | None,
        feeds: Feeds,
        results: Feeds,
        caller: Caller = ANYONE,
        subject: Subject = NOTHING,
    ) -> None:
        super().__init__(session, batch, feeds, Priority.ASCENT, caller, subject)
        self._scheduler, self._results = scheduler, results
        self._run = session.bind(feeds, results)

    def alone(self) -> Feeds:
        """The buffers, written."""
        self._run()
        return self._results

    def __call__(self) -> None:
        """Runs once, when its turn comes."""
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
