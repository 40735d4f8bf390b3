"""Ascents that take the same steps: who waits for whom, and for how long."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.jobs import FOREVER, Job
from support.waiting import WAIT, wait_for

from gradserve.errors import DeadlineExceeded
from gradserve_server.runtime.caller import Caller
from gradserve_server.runtime.peers import Peers
from gradserve_server.runtime.scheduler import Scheduler
from gradserve_server.runtime.work import Priority


@pytest.fixture
def ascents(crowd, log):
    """Two ascents that have just taken a step together, and would wait very long for each other."""
    steps = [Job(name, log, Priority.ASCENT, group="g") for name in "ab"]
    for step in steps:
        step.peer = crowd.scheduler.peer(step)
    answers = [crowd.ask(step) for step in steps]
    crowd.let_go()
    for answer in answers:
        answer.result(WAIT)
    assert log == [("a", "b")]
    log.clear()
    steps[0].peer.peers.patience = FOREVER
    return steps


def test_who_is_back_waits_for_its_peer(crowd, ascents, log):
    answers = [crowd.ask(ascents[0])]
    assert crowd.scheduler.waiting == 1
    assert crowd.scheduler.run(ascents[1]) == "b"
    assert answers[0].result(WAIT) == "a"
    assert log == [("a", "b")]
    assert ascents[0].ran_in == threading.get_ident()  # who comes last need not wake anybody to begin


def test_nobody_waits_for_a_peer_that_has_ended(crowd, ascents):
    answer = crowd.ask(ascents[0])
    assert crowd.scheduler.waiting == 1
    crowd.scheduler.leave(ascents[1].peer)
    assert answer.result(WAIT) == "a"


def test_an_ascent_that_ends_in_the_middle_of_a_decision_is_no_peer_any_more(crowd, ascents):
    """As a garbage collection may have it, in the very thread that decides."""
    with crowd.scheduler._lock:
        crowd.scheduler.leave(ascents[1].peer)
    assert crowd.scheduler.run(ascents[0]) == "a"


def test_nobody_waits_for_a_peer_that_was_late(crowd, ascents):
    peers = ascents[0].peer.peers
    peers.patience = 0.0
    assert crowd.scheduler.run(ascents[1]) == "b"  # comes back after more time than that
    peers.patience = FOREVER
    assert crowd.scheduler.run(ascents[0]) == "a"


def test_the_wait_for_a_peer_ends(crowd, ascents, log):
    ascents[0].peer.peers.patience = 0.05
    assert crowd.scheduler.run(ascents[0]) == "a"
    assert log == [("a",)]


@pytest.mark.parametrize(
    ("priority", "group", "runs"),
    [
        (Priority.GRADIENT, "g", [("c", "a")]),
        (Priority.GRADIENT, "h", [("c",), ("a", "b")]),
        (Priority.ASCENT, "h", [("c",), ("a", "b")]),
    ],
)
def test_other_work_does_not_wait_for_peers(crowd, ascents, log, priority, group, runs):
    step = crowd.ask(ascents[0])
    assert crowd.scheduler.waiting == 1
    assert crowd.scheduler.run(Job("c", log, priority, group=group)) == "c"
    if "b" in runs[-1]:
        assert crowd.scheduler.run(ascents[1]) == "b"
    assert step.result(WAIT) == "a"
    assert log == runs


def test_a_full_batch_does_not_wait_for_more_peers(crowd, ascents, log):
    ascents[0]._samples = 3
    step = crowd.ask(ascents[0])
    assert crowd.scheduler.waiting == 1
    third = Job("c", log, Priority.ASCENT, group="g")
    third.peer = crowd.scheduler.peer(third)
    assert crowd.scheduler.run(third) == "c"
    assert step.result(WAIT) == "a"
    assert log == [("a", "c")]


def test_who_waits_for_peers_does_not_fill_the_line(log):
    scheduler = Scheduler(max_batch=4, max_queue=1)
    steps = [Job(name, log, Priority.ASCENT, group="g") for name in "ab"]
    for step in steps:
        step.peer = scheduler.peer(step)
        scheduler.run(step)
    steps[0].peer.peers.patience = FOREVER
    with ThreadPoolExecutor(1) as threads:
        waits = threads.submit(scheduler.run, steps[0])
        wait_for(lambda: scheduler.waiting == 1)
        assert scheduler.run(Job("c", log)) == "c"
        scheduler.leave(steps[1].peer)
        assert waits.result(WAIT) == "a"


@pytest.mark.parametrize(("seconds", "patience"), [(0.001, 0.001), (5.0, 0.01)])
def test_the_wait_is_as_long_as_a_run_and_bounded(seconds, patience):
    peers = Peers()
    peers.ran_for(seconds, 0.01)
    assert peers.patience == patience


def test_a_deadline_ends_the_wait_for_peers(crowd, ascents):
    ascents[0].caller = Caller(deadline=time.monotonic())
    with pytest.raises(DeadlineExceeded):
        crowd.scheduler.run(ascents[0])
    assert crowd.scheduler.waiting == 0
