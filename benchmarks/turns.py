"""Contenders in processes of their own that run in turn, so that neither's idle threads slow the other down."""

import math
import multiprocessing
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

Ready = tuple[Callable[[int], float], Callable[[], Any]]
"""A function that does n steps and returns the seconds they took, and one that reports at the end."""
Contender = Callable[[], Ready]
"""Sets itself up."""

MOST_STEPS = 5000
"""Of one turn."""


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
    context = multiprocessing.get_context("spawn")
    running: dict[str, tuple[Any, Connection]] = {}
    outcomes: dict[str, Outcome] = {}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    try:
        for name, contender in contenders.items():
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(contender, seconds, theirs), daemon=True)
            process.start()
            theirs.close()  # so that a contender that dies ends our wait with EOFError
            problem = _receive(ours)  # one set-up at a time: some of them compile for a minute on every core
            if problem:
                outcomes[name] = Outcome(math.nan, problem=problem)
                ours.close()
            else:
                running[name] = (process, ours)
        for _ in range(rounds):
            for name, (_, connection) in running.items():
                connection.send("turn")
                times[name].append(connection.recv())
        for name, (_, connection) in running.items():
            connection.send("report")
            outcomes[name] = Outcome(statistics.median(times[name]), connection.recv())
    finally:
        for process, connection in running.values():
            connection.close()
            process.join(timeout=30)
    return {name: outcomes[name] for name in contenders}


def _receive(connection: Connection) -> str:
    try:
        return str(connection.recv())
    except EOFError:
        return "the process died"


def _serve(contender: Contender, seconds: float, connection: Connection) -> None:
    try:
        run, report = contender()
        run(2)  # the first steps allocate
        steps = _steps_in(run, seconds)
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error}".splitlines()[0])
        return
    connection.send("")
    try:
        while True:
            wanted = connection.recv()
            connection.send(run(steps) / steps if wanted == "turn" else report())
    except EOFError:
        return


def _steps_in(run: Callable[[int], float], seconds: float) -> int:
    """How many steps fill a turn: found by more and more of them, because some begin with what is done once."""
    steps = 1
    while (taken := run(steps)) < seconds / 4 and steps < MOST_STEPS:
        steps *= 2
    return max(1, min(MOST_STEPS, round(steps * seconds / taken)))
