"""What an engine tells its observers, and in whose context work is done."""

import logging
from contextvars import ContextVar

import numpy as np
import pytest
from support import golden
from support.jobs import Crowd, Job
from support.paths import MODELS
from support.waiting import WAIT

from gradserve import Step, StopReason
from gradserve import objectives as O
from gradserve.errors import InvalidObjective
from gradserve_server import Engine, EngineConfig
from gradserve_server.ascent.watched import CANCELLED, FAILED, watched
from gradserve_server.runtime.events import (
    AscentEnded,
    AscentStarted,
    Observers,
    PlanBuilt,
    PlanEvicted,
    PlanFound,
    Run,
    Turn,
)
from gradserve_server.runtime.scheduler import Scheduler
from gradserve_server.runtime.work import Priority, Subject, Work

X = {"image": golden.digits()}
UNIT = O.unit("logits", 7)
ONES = {"image": np.ones((4, 1, 28, 28), np.float32)}
COTANGENTS = {"logits": np.ones((4, 10), np.float32)}

VERBS = {
    "infer": lambda engine: engine.infer("digits", X),
    "gradient": lambda engine: engine.gradient("digits", X, UNIT),
    "vjp": lambda engine: engine.vjp("digits", X, COTANGENTS),
    "jvp": lambda engine: engine.jvp("digits", X, ONES),
    "hvp": lambda engine: engine.hvp("digits", X, UNIT, ONES),
    "activations": lambda engine: engine.activations("digits", X, ["relu6"]),
    "ascend": lambda engine: next(engine.ascend("digits", UNIT, steps=1, report_every=1)),
}


@pytest.fixture
def events():
    return []


@pytest.fixture
def engine(events):
    with Engine(MODELS, observe=events.append, config=EngineConfig(max_plans=1)) as engine:
        yield engine


def of(kind, events):
    return [event for event in events if isinstance(event, kind)]


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_a_turn_on_the_device(engine, events, verb):
    VERBS[verb](engine)
    (turn,), (run,) = of(Turn, events), of(Run, events)
    assert turn.subject == Subject("digits", 1, verb)
    assert turn.samples == turn.batch == run.samples == (4 if verb in {"gradient", "vjp", "jvp", "hvp"} else 1)
    assert turn.priority is run.priority
    assert turn.asked <= turn.began < turn.ended
    assert run.seconds == pytest.approx(turn.ended - turn.began)


def test_plans_are_built_found_and_evicted(engine, events):
    for verb in ("gradient", "gradient", "vjp", "gradient"):
        VERBS[verb](engine)
    told = [(type(event), event.subject.verb) for event in events if not isinstance(event, (Run, Turn))]
    assert told == [
        (PlanBuilt, "gradient"),
        (PlanFound, "gradient"),
        (PlanBuilt, "vjp"),
        (PlanEvicted, "gradient"),
        (PlanBuilt, "gradient"),
        (PlanEvicted, "vjp"),
    ]
    assert all(event.began < event.ended for event in of(PlanBuilt, events))


def test_a_mistake_is_no_plan_and_no_turn(engine, events):
    with pytest.raises(InvalidObjective):
        engine.gradient("digits", X, O.unit("logits", 10))
    assert not of(Turn, events)


# ---- ascents ---------------------------------------------------------------------------------------------------------


def ascents(events):
    return [event for event in events if isinstance(event, (AscentStarted, AscentEnded))]


SUBJECT = Subject("digits", 1, "ascend")


def test_an_ascent_that_finishes(engine, events):
    list(engine.ascend("digits", UNIT, steps=3))
    assert ascents(events) == [AscentStarted(SUBJECT), AscentEnded(SUBJECT, "FINISHED")]
    assert [turn.priority for turn in of(Turn, events)] == [Priority.ASCENT] * 4


def test_an_ascent_that_nobody_wants_any_more(engine, events):
    steps = engine.ascend("digits", UNIT, steps=1000, report_every=1)
    assert ascents(events) == []
    next(steps)
    assert ascents(events) == [AscentStarted(SUBJECT)]
    steps.close()
    assert ascents(events)[1:] == [AscentEnded(SUBJECT, CANCELLED)]


def test_an_ascent_that_is_stopped(engine, events):
    list(engine.ascend("digits", UNIT, steps=1000, should_stop=lambda: len(of(Turn, events)) == 2))
    assert ascents(events)[1:] == [AscentEnded(SUBJECT, CANCELLED)]


def test_an_ascent_that_fails(events):
    def steps():
        yield from ()
        msg = "wrong"
        raise ValueError(msg)

    with pytest.raises(ValueError, match="wrong"):
        list(watched(steps(), SUBJECT, events.append))
    assert events == [AscentStarted(SUBJECT), AscentEnded(SUBJECT, FAILED)]


def test_an_ascent_without_finite_numbers(events):
    last = Step(0, np.zeros(1), np.zeros(1), None, StopReason.NON_FINITE)
    list(watched((step for step in [last]), SUBJECT, events.append))
    assert ascents(events)[1:] == [AscentEnded(SUBJECT, "NON_FINITE")]


# ---- batches ---------------------------------------------------------------------------------------------------------


def test_a_batch_is_one_run_and_a_turn_for_each(events):
    log = []
    with Crowd(Scheduler(max_batch=4, max_queue=9, observe=events.append)) as crowd:
        answers = [crowd.ask(Job(name, log, group="g", samples=samples)) for name, samples in (("a", 1), ("b", 3))]
        crowd.let_go()
        for answer in answers:
            answer.result(WAIT)
    turns = [turn for turn in of(Turn, events) if turn.priority is Priority.GRADIENT]
    assert sorted((turn.samples, turn.batch) for turn in turns) == [(1, 4), (3, 4)]
    assert all(turn.asked < turn.began <= turn.ended for turn in turns)
    assert [run.samples for run in of(Run, events) if run.priority is Priority.GRADIENT] == [4]


def test_a_batch_that_fails_is_a_run_that_failed_and_one_for_each(events):
    log = []
    with Crowd(Scheduler(max_batch=4, max_queue=9, observe=events.append)) as crowd:
        good = crowd.ask(Job("a", log, group="g"))
        bad = crowd.ask(Job("b", log, group="g", error=ValueError("wrong")))
        crowd.let_go()
        good.result(WAIT)
        with pytest.raises(ValueError, match="wrong"):
            bad.result(WAIT)
    assert [run.samples for run in of(Run, events) if run.priority is Priority.GRADIENT] == [2, 1, 1]
    assert [turn.batch for turn in of(Turn, events) if turn.priority is Priority.GRADIENT] == [1]


caller = ContextVar("caller", default="nobody")


class Named(Work):
    """Says in whose context it runs."""

    def __init__(self, group, *, fails_together):
        super().__init__(Priority.GRADIENT)
        self._group, self._fails_together = group, fails_together

    def group(self):
        return self._group

    def alone(self):
        return caller.get()

    def together(self, works):
        if self._fails_together:
            raise ValueError
        return [caller.get() for _ in works]


@pytest.mark.parametrize(
    ("group", "fails_together", "seen"),
    [("g", False, ["nobody", "nobody"]), ("g", True, ["a", "b"]), (None, False, ["a", "b"])],
)
def test_what_is_logged_of_a_batch_is_not_its_leaders(group, fails_together, seen):
    scheduler = Scheduler(max_batch=4, max_queue=9)

    def call(name):
        caller.set(name)
        return scheduler.run(Named(group, fails_together=fails_together))

    with Crowd(scheduler) as crowd:
        answers = [crowd.join(call, name) for name in "ab"]
        crowd.let_go()
        assert [answer.result(WAIT) for answer in answers] == seen


def test_the_line_says_what_waits():
    with Crowd(Scheduler(max_batch=4, max_queue=9)) as crowd:
        job = Job("a", [], Priority.ASCENT)
        crowd.ask(job)
        assert crowd.scheduler.line == [job]
    assert crowd.scheduler.line == []


# ---- observers -------------------------------------------------------------------------------------------------------


def test_an_observer_that_fails_harms_nobody(caplog):
    def fail(event):
        raise ValueError(event)

    seen, observers = [], Observers()
    for observer in (fail, seen.append):
        observers.add(observer)
    with caplog.at_level(logging.ERROR):
        observers(AscentStarted(SUBJECT))
    assert seen == [AscentStarted(SUBJECT)]
    (record,) = caplog.records
    assert record.exc_info[0] is ValueError
    observers.remove(fail)
    observers(AscentStarted(SUBJECT))
    assert len(seen) == 2
    assert len(caplog.records) == 1
