"""Drives a server with many clients for some time, and looks at its process meanwhile."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from support.purity import Purity
from support.server_process import ServerProcess

from soak.criterion import Sample
from soak.scenarios import World, killed_client, pick

CLIENTS = 4
"""That do this and that, one after the other."""

SAMPLES = 600
"""Of a run, at most: a sample each half second in a short one."""


@dataclass
class Run:
    """What happened."""

    samples: list[Sample] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    """How often each scenario was."""
    failures: list[str] = field(default_factory=list)
    """What went wrong and should not have."""

    @property
    def operations(self) -> int:
        """Scenarios done."""
        return sum(self.done.values())


def drive(server: ServerProcess, seconds: float, seed: int, tell: Callable[[Run], None] = lambda _: None) -> Run:
    """Drives a server.

    Args:
        server: That is driven.
        seconds: How long.
        seed: Of what is random.
        tell: Called after each sample.
    """
    run, over, purity = Run(), threading.Event(), Purity(server.address)

    def client(number: int, choose: Callable[[World], Callable[[World], None]]) -> None:
        world = World(server, seed + number)
        while not over.is_set():
            scenario = choose(world)
            try:
                scenario(world)
            except Exception as error:  # whatever it is, it is what a soak looks for
                run.failures.append(f"{scenario.__name__}: {error!r}")
            run.done[scenario.__name__] += 1
        world.close()

    threads = [threading.Thread(target=client, args=(number, pick)) for number in range(CLIENTS)]
    threads.append(threading.Thread(target=client, args=(CLIENTS, lambda _: killed_client)))
    with purity:
        started = time.monotonic()
        for thread in threads:
            thread.start()
        try:
            while (passed := time.monotonic() - started) < seconds:
                purity.check()
                run.samples.append(_sample(server, passed, run))
                tell(run)
                over.wait(max(0.5, seconds / SAMPLES))
        finally:
            over.set()
            for thread in threads:
                thread.join()
    return run


def _sample(server: ServerProcess, seconds: float, run: Run) -> Sample:
    process = server.os
    with process.oneshot():
        return Sample(seconds, run.operations, process.memory_info().rss / 2**20, process.num_threads(), process.num_fds())
