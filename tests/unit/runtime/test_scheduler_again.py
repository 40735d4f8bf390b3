"""Works that want to be run again, by whoever ran them."""

import threading
import time

import pytest
from support.jobs import Crowd, Job
from support.waiting import WAIT, wait_for

from gradserve.errors import CallCancelled, DeadlineExceeded, ServerUnavailable
from gradserve_server.runtime.caller import Caller
from gradserve_server.runtime.line import PATIENCE
from gradserve_server.runtime.scheduler import Scheduler
from gradserve_server.runtime.work import Priority


class Repeated(Job):
    """Wants so many runs."""

    def __init__(self, name, log, count, *, fails=False, **options):
        super().__init__(name, log, Priority.ASCENT, group="g", **options)
        self.left, self.fails, self.threads = count, fails, set()

    def again(self):
        self.threads.add(threading.get_ident())
        self.left -= 1
        if self.fails:
            msg = "cannot go on"
            raise ValueError(msg)
        return self.left > 0


def test_works_that_want_more_runs_get_them_in_one_thread(crowd, log):
    jobs = [Repeated(name, log, count) for name, count in (("a", 3), ("b", 3), ("c", 2))]
    answers = [crowd.ask(job) for job in jobs]
    crowd.let_go()
    assert [answer.result(WAIT) for answer in answers] == ["a", "b", "c"]
    assert log == [("a", "b", "c"), ("a", "b", "c"), ("a", "b")]
    assert jobs[0].threads == jobs[1].threads
    assert len(jobs[0].threads) == 1


def test_a_caller_that_wakes_too_early_sleeps_on(crowd, log):
    class Woken(Repeated):
        def again(self):
            for ticket in tickets:
                ticket.wake()
            time.sleep(0.02)  # time enough to go
            return super().again()

    answers = [crowd.ask(Woken(name, log, 3)) for name in "ab"]
    tickets = list(crowd.scheduler._line)
    crowd.let_go()
    assert [answer.result(WAIT) for answer in answers] == ["a", "b"]
    assert log == [("a", "b")] * 3


def test_alone_a_work_gets_them_too_and_lets_others_between(log):
    scheduler = Scheduler(max_batch=4, max_queue=4)
    first = Repeated("a", log, 3)
    assert scheduler.run(first) == "a"
    assert log == [("a",)] * 3


def test_others_go_between_two_runs(crowd, log):
    repeated = crowd.ask(Repeated("a", log, 2 * PATIENCE))
    crowd.let_go()
    repeated.result(WAIT)
    with Crowd(crowd.scheduler) as busy:
        log.clear()
        repeated = busy.ask(Repeated("a", log, 2))
        prediction = busy.ask(Job("b", log, Priority.PREDICTION))
        busy.let_go()
        assert (repeated.result(WAIT), prediction.result(WAIT)) == ("a", "b")
    assert log == [("b",), ("a",), ("a",)]


def test_who_cannot_go_on_fails_alone(crowd, log):
    bad, good = crowd.ask(Repeated("a", log, 3, fails=True)), crowd.ask(Repeated("b", log, 2))
    crowd.let_go()
    with pytest.raises(ValueError, match="cannot go on"):
        bad.result(WAIT)
    assert good.result(WAIT) == "b"


@pytest.mark.parametrize(
    ("caller", "error"),
    [
        (lambda job: Caller(lambda: job.left < 10**9 - 3), CallCancelled),
        (lambda _: Caller(should_stop=lambda: False, deadline=time.monotonic() + 0.05), DeadlineExceeded),
    ],
    ids=["gone", "deadline"],
)
def test_between_two_runs_a_work_is_dropped_that_nobody_wants(crowd, log, caller, error):
    job = Repeated("a", log, 10**9)
    job.caller = caller(job)
    dropped, other = crowd.ask(job), crowd.ask(Repeated("b", log, 2))
    crowd.let_go()
    with pytest.raises(error):
        dropped.result(WAIT)
    assert other.result(WAIT) == "b"


def test_closing_ends_those_that_want_more_runs(crowd, log):
    endless = [crowd.ask(Repeated(name, log, 10**9)) for name in "ab"]
    crowd.let_go()
    wait_for(lambda: len(log) > 3)
    crowd.scheduler.close()
    for each in endless:
        with pytest.raises(ServerUnavailable):
            each.result(WAIT)
