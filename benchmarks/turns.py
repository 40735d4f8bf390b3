"""Contenders in processes of their own that run in turn, so that neither's idle threads slow the other down."""

import multiprocessing
import statistics
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

Contender = Callable[[], tuple[Callable[[int], float], Any]]
"""Sets itself up; returns a function that does n steps and returns the seconds they took, and a result to compare."""


def take_turns(contenders: Mapping[str, Contender], rounds: int, steps: int) -> dict[str, tuple[float, Any]]:
    """Median seconds of one step of each contender, and the result that its set-up returned.

    Args:
        contenders: By name; each is called in a process of its own, so it must be picklable.
        rounds: Turns that each takes.
        steps: Of each turn.
    """
    context = multiprocessing.get_context("spawn")
    running: dict[str, tuple[Any, Connection]] = {}
    results: dict[str, Any] = {}
    try:
        for name, contender in contenders.items():
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(contender, theirs), daemon=True)
            process.start()
            theirs.close()  # so that a contender that dies ends our wait with EOFError
            running[name] = (process, ours)
            results[name] = ours.recv()  # one set-up at a time: some of them compile for a minute on every core
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, (_, connection) in running.items():
                connection.send(steps)
                times[name].append(connection.recv() / steps)
    finally:
        for process, connection in running.values():
            connection.close()
            process.join(timeout=30)
    return {name: (statistics.median(taken), results[name]) for name, taken in times.items()}


def _serve(contender: Contender, connection: Connection) -> None:
    run, result = contender()
    run(2)  # the first steps allocate and compile
    connection.send(result)
    try:
        while True:
            connection.send(run(connection.recv()))
    except EOFError:
        return
