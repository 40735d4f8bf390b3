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
from gradserve_server.runtime.company import ORDINARY, Company, Queue
from gradserve_server.runtime.line import PATIENCE
from gradserve_server.runtime.peers import Peers
from gradserve_server.runtime.scheduler import Scheduler
from gradserve_server.runtime.work import Priority, Work


@pytest.fixture
def log():
    return []


@pytest.fixture
def crowd():
    with Crowd(Scheduler(max_batch=4, max_queue=100)) as crowd:
        yield crowd


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


# ---- peers -----------------------------------------------------------------------------------------------------------


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


# ---- company -----------------------------------------------------------------------------------------------------------


def prediction(name, log, company, **options):
    job = Job(name, log, Priority.PREDICTION, group="g", **options)
    job.company = company
    return job


@pytest.mark.parametrize(
    ("preferred", "count", "runs"),
    [((), 5, [4, 1]), ((2,), 5, [2, 2, 1]), ((2, 3), 6, [3, 3]), ((3,), 2, [2]), ((4,), 3, [3])],
)
def test_batches_of_preferred_sizes(crowd, log, preferred, count, runs):
    for index in range(count):
        crowd.ask(prediction(f"{index}", log, Company(4, preferred)))
    crowd.let_go()
    wait_for(lambda: len(log) == len(runs))
    assert [len(run) for run in log] == runs


def test_without_a_delay_nobody_waits_for_company(log):
    scheduler = Scheduler(max_batch=4, max_queue=0)
    job = prediction("a", log, Company(4, (2,)))
    assert scheduler.run(job) == "a"
    assert job.ran_in == threading.get_ident()


def test_with_a_delay_the_first_waits_and_others_run_meanwhile(log):
    scheduler, company = Scheduler(max_batch=4, max_queue=10), Company(4, (2,), FOREVER)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(scheduler.run, prediction("a", log, company))
        wait_for(lambda: scheduler.waiting == 1)
        assert scheduler.run(Job("ascent", log, Priority.ASCENT)) == "ascent"
        assert scheduler.run(prediction("b", log, company)) == "b"
        assert first.result(WAIT) == "a"
    assert log == [("ascent",), ("a", "b")]


def test_enough_samples_of_its_own_wait_for_nobody(log):
    assert Scheduler(max_batch=4, max_queue=0).run(prediction("a", log, Company(4, (), FOREVER), samples=4)) == "a"


def test_the_delay_ends(log):
    assert Scheduler(max_batch=4, max_queue=10).run(prediction("a", log, Company(4, (), 0.02))) == "a"


def test_who_waits_for_company_counts_in_a_full_line(log):
    scheduler, company = Scheduler(max_batch=4, max_queue=1), Company(4, (), FOREVER)
    with ThreadPoolExecutor(1) as threads:
        waits = threads.submit(scheduler.run, prediction("a", log, company))
        wait_for(lambda: scheduler.waiting == 1)
        with pytest.raises(LimitExceeded, match="max_queue"):
            scheduler.run(prediction("b", log, company))
        assert scheduler.run(Job("c", log)) == "c"
        scheduler.close()
        with pytest.raises(ServerUnavailable):
            waits.result(WAIT)


# ---- levels, time-outs, limits of a queue ------------------------------------------------------------------------------


def queued(name, log, queue, **caller):
    job = Job(name, log, Priority.PREDICTION, caller=Caller(**caller))
    job.queue = queue
    return job


def test_levels_go_before_one_another(crowd, log):
    for name, rank in (("low", 1), ("default", 0), ("high", -1)):
        crowd.ask(queued(name, log, Queue(rank=rank)))
    crowd.let_go()
    wait_for(lambda: log == [("high",), ("default",), ("low",)])


def test_who_has_waited_too_long_is_refused_while_the_device_is_busy(crowd, log):
    queue = Queue("model 'm'", timeout=60, shortened=True)
    late = crowd.ask(queued("a", log, queue, timeout=0.01))
    with pytest.raises(LimitExceeded, match="Request timeout expired: model 'm': expected its turn within 10000 us"):
        late.result(WAIT)
    stays = crowd.ask(queued("b", log, queue))
    crowd.let_go()
    assert stays.result(WAIT) == "b"
    assert log == [("b",)]


def test_who_had_waited_too_long_before_it_came_is_refused(crowd, log):
    with pytest.raises(LimitExceeded, match="timeout expired"):
        crowd.scheduler.run(queued("a", log, Queue(timeout=1), arrived=time.monotonic() - 2))
    assert crowd.scheduler.waiting == 0


def test_who_had_waited_too_long_is_refused_though_the_device_is_free(log):
    scheduler, queue = Scheduler(max_batch=4, max_queue=0), Queue(timeout=1)
    with pytest.raises(LimitExceeded, match="timeout expired"):
        scheduler.run(queued("a", log, queue, arrived=time.monotonic() - 2))
    assert scheduler.run(queued("b", log, queue, arrived=time.monotonic())) == "b"
    late = queued("c", log, Queue(timeout=1, delays=True), arrived=time.monotonic() - 2)
    assert scheduler.run(late) == "c"  # behind all others, of whom there are none


def test_who_may_not_want_less_waits(crowd, log):
    waits = crowd.ask(queued("a", log, Queue(), timeout=1e-6))
    assert crowd.scheduler.waiting == 1
    crowd.let_go()
    assert waits.result(WAIT) == "a"


@pytest.mark.parametrize("arrived", [0.0, None], ids=["before it came", "in line"])
def test_who_is_delayed_stands_behind_the_others(crowd, log, arrived):
    queue = Queue(timeout=0.01, delays=True)
    late = crowd.ask(queued("late", log, queue, arrived=arrived))
    wait_for(lambda: [ticket.delayed for ticket in crowd.scheduler._line] == [True])
    crowd.ask(queued("other", log, ORDINARY))
    crowd.let_go()
    assert late.result(WAIT) == "late"
    assert log == [("other",), ("late",)]


def test_a_full_queue_of_one_level_refuses_and_others_do_not(crowd, log):
    queue, other = Queue("model 'm', priority 2", limit=2), Queue()
    for name in "ab":
        crowd.ask(queued(name, log, queue))
    with pytest.raises(LimitExceeded, match="Exceeds maximum queue size: model 'm', priority 2: expected at most 2 "):
        crowd.scheduler.run(queued("c", log, queue))
    answers = crowd.ask(queued("d", log, other))
    crowd.let_go()
    assert answers.result(WAIT) == "d"


def test_one_caller_cannot_take_every_place(log):
    with Crowd(Scheduler(max_batch=4, max_queue=4, max_queue_per_caller=2)) as crowd:
        for _ in range(2):
            crowd.ask(queued("a", log, ORDINARY, identity="a"))
        with pytest.raises(LimitExceeded, match="at most 2 runs of one caller .*max_queue_per_caller"):
            crowd.scheduler.run(queued("a", log, ORDINARY, identity="a"))
        other = crowd.ask(queued("b", log, ORDINARY, identity="b"))
        nobody = crowd.ask(queued("c", log, ORDINARY))
        crowd.let_go()
        assert (other.result(WAIT), nobody.result(WAIT)) == ("b", "c")


def test_callers_take_turns(crowd, log):
    for name in "aaab":
        crowd.ask(queued(name, log, ORDINARY, identity=name))
    crowd.let_go()
    wait_for(lambda: len(log) == 4)
    assert "".join(name for (name,) in log) == "abaa"


# ---- again -------------------------------------------------------------------------------------------------------------


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
