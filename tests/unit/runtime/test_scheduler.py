"""The scheduler: who runs when, with whom, and what becomes of those who do not."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.jobs import FOREVER, Crowd, Job
from support.waiting import WAIT, wait_for

from gradserve.errors import CallCancelled, DeadlineExceeded, LimitExceeded, ServerUnavailable
from gradserve_server.runtime.caller import Caller
from gradserve_server.runtime.line import PATIENCE
from gradserve_server.runtime.scheduler import Scheduler
from gradserve_server.runtime.work import Priority, Work

# ---- alone -----------------------------------------------------------------------------------------------------------


def test_who_finds_the_device_free_runs_in_its_own_thread():
    class Where(Work):
        def alone(self):
            return threading.get_ident()

    assert Scheduler(max_batch=4, max_queue=0).run(Where(Priority.ASCENT)) == threading.get_ident()


def test_the_device_is_free_again_after_an_error(log):
    scheduler = Scheduler(max_batch=4, max_queue=0)
    for _ in range(2):
        with pytest.raises(ValueError, match="wrong"):
            scheduler.run(Job("a", log, error=ValueError("wrong")))
    assert scheduler.run(Job("b", log)) == "b"


# ---- batches ---------------------------------------------------------------------------------------------------------


def test_what_waits_runs_together_and_each_gets_its_own(crowd, log):
    answers = [crowd.ask(Job(name, log, group="g")) for name in "abc"]
    crowd.let_go()
    assert [answer.result(WAIT) for answer in answers] == ["a", "b", "c"]
    assert log == [("a", "b", "c")]


@pytest.mark.parametrize(
    ("jobs", "runs"),
    [
        ([("a", "g", 1), ("b", "g", 1), ("c", "g", 1), ("d", "g", 1), ("e", "g", 1)], [("a", "b", "c", "d"), ("e",)]),
        ([("a", "g", 2), ("b", "g", 3), ("c", "g", 2)], [("a", "c"), ("b",)]),
        ([("a", "g", 9), ("b", "g", 1)], [("a",), ("b",)]),
        ([("a", "g", 1), ("b", "h", 1), ("c", "g", 1)], [("a", "c"), ("b",)]),
        ([("a", None, 1), ("b", None, 1)], [("a",), ("b",)]),
    ],
    ids=["full", "samples", "larger than any batch", "groups", "no group"],
)
def test_batches_are_of_one_group_and_of_limited_size(crowd, log, jobs, runs):
    for name, group, samples in jobs:
        crowd.ask(Job(name, log, group=group, samples=samples))
    crowd.let_go()
    wait_for(lambda: len(log) == len(runs))
    assert log == runs


def test_works_of_different_classes_run_together(crowd, log):
    crowd.ask(Job("a", log, Priority.ASCENT, group="g"))
    crowd.ask(Job("b", log, Priority.GRADIENT, group="g"))
    crowd.let_go()
    wait_for(lambda: log == [("b", "a")])


def test_a_failing_batch_fails_only_who_is_to_blame(crowd, log):
    good = [crowd.ask(Job(name, log, group="g")) for name in "ab"]
    bad = crowd.ask(Job("bad", log, group="g", error=ValueError("wrong")))
    crowd.let_go()
    assert [answer.result(WAIT) for answer in good] == ["a", "b"]
    with pytest.raises(ValueError, match="wrong"):
        bad.result(WAIT)
    assert log == [("a", "b", "bad"), ("a",), ("b",), ("bad",)]


def test_an_interrupted_leader_leaves_nobody_behind(crowd, log):
    interrupted = crowd.ask(Job("a", log, group="g", error=KeyboardInterrupt()))
    others = [crowd.ask(Job(name, log, group="g")) for name in "bc"]
    crowd.let_go()
    with pytest.raises(KeyboardInterrupt):
        interrupted.result(WAIT)
    assert [other.result(WAIT) for other in others] == ["b", "c"]
    assert log == [("a", "b", "c"), ("b", "c")]


# ---- order -----------------------------------------------------------------------------------------------------------


def test_predictions_before_gradients_before_ascents_and_each_in_turn(crowd, log):
    for name, priority in zip("abcdef", [*reversed(Priority), *reversed(Priority)], strict=True):
        crowd.ask(Job(name, log, priority))
    crowd.let_go()
    wait_for(lambda: len(log) == 6)
    assert "".join(name for (name,) in log) == "cfbead"


def test_a_class_that_was_passed_over_often_goes_first(crowd, log):
    crowd.ask(Job("ascent", log, Priority.ASCENT))
    for _ in range(2 * PATIENCE):
        crowd.ask(Job("prediction", log, Priority.PREDICTION))
    crowd.let_go()
    wait_for(lambda: len(log) == 2 * PATIENCE + 1)
    assert log.index(("ascent",)) == PATIENCE


# ---- who does not run ------------------------------------------------------------------------------------------------


def test_a_full_queue_refuses_and_names_the_limit(log):
    with Crowd(Scheduler(max_batch=4, max_queue=2)) as crowd:
        waiting = [crowd.ask(Job(name, log)) for name in "ab"]
        with pytest.raises(LimitExceeded, match="at most 2 runs .*max_queue"):
            crowd.scheduler.run(Job("c", log))
        crowd.let_go()
        assert [answer.result(WAIT) for answer in waiting] == ["a", "b"]
        assert crowd.scheduler.run(Job("d", log)) == "d"
    assert ("c",) not in log


def test_the_first_step_of_an_ascent_may_be_refused_and_no_other(log):
    scheduler = Scheduler(max_batch=4, max_queue=0)
    step = Job("a", log, Priority.ASCENT, group="g")
    step.peer = scheduler.peer(step)
    with Crowd(scheduler) as crowd:
        with pytest.raises(LimitExceeded):
            scheduler.run(step)
        crowd.let_go()
        assert scheduler.run(step) == "a"
    with Crowd(scheduler) as crowd:
        answer = crowd.ask(step)
        crowd.let_go()
        assert answer.result(WAIT) == "a"


def test_who_has_gone_is_dropped(crowd, log):
    gone = threading.Event()
    leaves = crowd.ask(Job("a", log, group="g", caller=Caller(gone.is_set)))
    stays = crowd.ask(Job("b", log, group="g", caller=Caller(lambda: False)))
    gone.set()
    crowd.let_go()
    assert stays.result(WAIT) == "b"
    with pytest.raises(CallCancelled, match="while it waited"):
        leaves.result(WAIT)
    assert log == [("b",)]


def test_a_caller_who_cannot_say_gets_its_own_error(crowd, log):
    def broken():
        msg = "broken"
        raise ZeroDivisionError(msg)

    bad = crowd.ask(Job("a", log, group="g", caller=Caller(broken)))
    good = crowd.ask(Job("b", log, group="g"))
    crowd.let_go()
    assert good.result(WAIT) == "b"
    with pytest.raises(ZeroDivisionError, match="broken"):
        bad.result(WAIT)


def test_a_deadline_ends_the_wait_while_the_device_is_busy(crowd, log):
    late = crowd.ask(Job("a", log, caller=Caller(deadline=time.monotonic())))
    with pytest.raises(DeadlineExceeded, match="got no turn"):
        late.result(WAIT)
    assert crowd.scheduler.waiting == 0
    crowd.let_go()
    assert crowd.scheduler.run(Job("b", log)) == "b"
    assert log == [("b",)]


@pytest.mark.parametrize(
    ("caller", "refusal"),
    [
        (Caller(), type(None)),
        (Caller(lambda: False, deadline=FOREVER), type(None)),
        (Caller(lambda: True), CallCancelled),
        (Caller(lambda: True, deadline=0.0), DeadlineExceeded),
    ],
)
def test_why_a_run_is_not_begun(caller, refusal):
    assert type(caller.refusal()) is refusal


def test_closing_ends_what_waits_and_finishes_what_runs(crowd, log):
    waiting = [crowd.ask(Job(name, log)) for name in "ab"]
    gone = crowd.ask(Job("c", log, caller=Caller(lambda: True)))
    crowd.scheduler.close()
    for answer in waiting:
        with pytest.raises(ServerUnavailable, match="closed"):
            answer.result(WAIT)
    with pytest.raises(CallCancelled):
        gone.result(WAIT)
    crowd.let_go()
    with pytest.raises(ServerUnavailable, match="closed"):
        crowd.scheduler.run(Job("d", log))
    assert log == []


# ---- all at once -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_crowd_gets_its_own_answers_one_run_at_a_time(seed):
    scheduler = Scheduler(max_batch=4, max_queue=100)
    running = threading.Lock()

    class Once(Job):
        def together(self, works):
            assert running.acquire(blocking=False), "two runs at a time"
            try:
                return super().together(works)
            finally:
                running.release()

    def caller(number):
        chance = random.Random(1000 * seed + number)
        step = Once(f"{number}", [], Priority.ASCENT, group="g")
        step.peer = scheduler.peer(step)
        for index in range(50):
            if chance.random() < 0.5:
                assert scheduler.run(step) == f"{number}"
            else:
                job = Once(
                    f"{number}/{index}",
                    [],
                    chance.choice(list(Priority)),
                    group=chance.choice(["g", "h", None]),
                    samples=chance.randint(1, 5),
                    error=chance.choice([None, None, None, ValueError(f"{number}/{index}")]),
                )
                try:
                    assert scheduler.run(job) == job.name
                except ValueError as error:
                    assert str(error) == job.name  # noqa: PT017
        scheduler.leave(step.peer)

    with ThreadPoolExecutor(8) as threads:
        for future in [threads.submit(caller, number) for number in range(8)]:
            future.result(WAIT)
    assert scheduler.waiting == 0
