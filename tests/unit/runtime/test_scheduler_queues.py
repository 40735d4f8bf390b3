"""What a model's configuration says of waiting: for company, by level, up to a time and a number."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.jobs import FOREVER, Crowd, Job
from support.waiting import WAIT, wait_for

from gradserve.errors import LimitExceeded, ServerUnavailable
from gradserve_server.runtime.caller import Caller
from gradserve_server.runtime.company import ORDINARY, Company, Queue
from gradserve_server.runtime.scheduler import Scheduler
from gradserve_server.runtime.work import Priority

# ---- company ---------------------------------------------------------------------------------------------------------


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


# ---- levels, time-outs, limits of a queue ----------------------------------------------------------------------------


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
