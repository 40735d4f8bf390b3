"""Contenders in processes of their own that run in turn, so that neither's idle threads slow the other down."""

import gc
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Self

Ready = tuple[Callable[[int], float], Callable[[], Any]]
"""A function that does n steps and returns the seconds they took, and one that reports at the end."""
Contender = Callable[[], Ready]
"""Sets itself up."""
Entrant = Callable[[], Callable[[Any], Ready]]
"""Sets itself up once, and then for one task after another."""

MOST_STEPS = 5000
"""Of one turn."""
ANSWER_SECONDS = 60.0
"""Within which a contender that is ready ends a turn or reports, beside the turn itself."""


@dataclass(frozen=True)
class Outcome:
    """How a contender did."""

    seconds: float
    """Of one step, the median of its turns; NaN where it failed."""
    report: Any = None
    problem: str = ""


def take_turns(contenders: Mapping[str, Contender], rounds: int, seconds: float) -> dict[str, Outcome]:
    """Lets each contender do steps for a while, in turn.

    Args:
        contenders: By name; each is called in a process of its own, so it must be picklable.
        rounds: Turns that each takes.
        seconds: That a turn lasts, about; at least one step.
    """
    with Contest({name: partial(_for_any_task, contender) for name, contender in contenders.items()}, seconds) as contest:
        return contest.turns(None, rounds)


def _for_any_task(contender: Contender) -> Callable[[Any], Ready]:
    return lambda _: contender()


class Contest:
    """Contenders whose processes stay, for several tasks.

    Args:
        entrants: By name; each is called in a process of its own, so it must be picklable.
        seconds: That a turn lasts, about; at least one step.
        at_once: Whether they start at the same time. Even then each sets itself up for a task when the others are idle: some
            compile for a minute on every core, some look for what is fastest.
    """

    def __init__(self, entrants: Mapping[str, Entrant], seconds: float, *, at_once: bool = False) -> None:
        self._entrants, self._seconds, self._at_once = entrants, seconds, at_once
        self._running: dict[str, tuple[SpawnProcess, Connection]] = {}
        self._out: dict[str, str] = {}
        """Who has left for good, and why."""

    def turns(self, task: Any, rounds: int, deadline: float = math.inf, *, least_steps: int = 1) -> dict[str, Outcome]:
        """How each did at a task. Who fails at one may still do the next.

        Args:
            task: What to do; it must be picklable.
            rounds: Turns that each takes.
            deadline: By time.monotonic(): who is not ready by then is out.
            least_steps: Of a turn, however long it lasts.
        """
        if self._at_once:
            started = [name for name in self._entrants if self._send(name, "start")]
            for name in started:
                self._receive(name, deadline)
        problems = {name: self._set_up(name, (task, least_steps), deadline) for name in self._entrants}
        ready = [name for name in self._entrants if not problems[name]]
        times: dict[str, list[float]] = {name: [] for name in ready}
        for _ in range(rounds):
            for name in ready:
                if not problems[name]:
                    taken, problems[name] = self._ask(name, "turn")
                    times[name].append(taken)
        reports = dict.fromkeys(problems)
        for name in ready:
            if not problems[name]:
                reports[name], problems[name] = self._ask(name, "report")
        return {
            name: Outcome(math.nan if problem else statistics.median(times[name]), reports[name], problem)
            for name, problem in problems.items()
        }

    def _set_up(self, name: str, asked: tuple[Any, int], deadline: float) -> str:
        return self._receive(name, deadline)[1] if self._send(name, "set up", asked) else self._out[name]

    def _send(self, name: str, order: str, asked: tuple[Any, int] | None = None) -> bool:
        """Tells a contender what to do; its first order starts its process. False where it has left."""
        if name in self._out:
            return False
        if name not in self._running:
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(self._entrants[name], self._seconds, theirs), daemon=True)
            process.start()
            theirs.close()  # so that a contender that dies ends our wait
            self._running[name] = process, ours
        try:
            self._running[name][1].send((order, asked))
        except OSError:
            self._expel(name, "the process died")
            return False
        return True

    def _ask(self, name: str, order: str) -> tuple[Any, str]:
        if not self._send(name, order):
            return None, self._out[name]
        return self._receive(name, time.monotonic() + ANSWER_SECONDS + 10 * self._seconds)

    def _receive(self, name: str, deadline: float) -> tuple[Any, str]:
        """What a contender says, or a problem."""
        connection = self._running[name][1]
        wait = None if deadline == math.inf else max(0.0, deadline - time.monotonic())
        try:
            if not connection.poll(wait):
                return None, self._expel(name, "did not answer in time")
            answer: tuple[Any, str] = connection.recv()
        except (EOFError, OSError):
            return None, self._expel(name, "the process died")
        return answer

    def _expel(self, name: str, problem: str) -> str:
        process, connection = self._running.pop(name)
        connection.close()
        process.kill()
        self._out[name] = problem
        return problem

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for running in self._running.values():
            running[1].close()
        for running in self._running.values():
            running[0].join(timeout=30)


def _serve(entrant: Entrant, seconds: float, connection: Connection) -> None:
    prepare: Callable[[Any], Ready] | None = None
    ready: tuple[Callable[[int], float], Callable[[], Any], int] | None = None
    try:
        while True:
            order, asked = connection.recv()
            answer: Any = None
            try:
                if order in {"start", "set up"}:
                    ready = None
                    gc.collect()  # of the last task
                    prepare = prepare or entrant()
                    if order == "set up":
                        task, least_steps = asked
                        ready = _ready(prepare, task, seconds, least_steps)
                else:
                    assert ready is not None
                    run, report, steps = ready
                    answer = run(steps) / steps if order == "turn" else report()
            except Exception as error:
                connection.send((None, f"{type(error).__name__}: {error}".splitlines()[0]))
            else:
                connection.send((answer, ""))
    except EOFError:
        return


def _ready(
    prepare: Callable[[Any], Ready], task: Any, seconds: float, least_steps: int
) -> tuple[Callable[[int], float], Callable[[], Any], int]:
    run, report = prepare(task)
    run(2)  # the first steps allocate
    return run, report, max(least_steps, _steps_in(run, seconds))


def _steps_in(run: Callable[[int], float], seconds: float) -> int:
    """How many steps fill a turn: found by more and more of them, because some begin with what is done once."""
    steps = 1
    while (taken := run(steps)) < seconds / 4 and steps < MOST_STEPS:
        steps *= 2
    return max(1, min(MOST_STEPS, round(steps * seconds / taken)))
