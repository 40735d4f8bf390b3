"""Deadlines at every stage of a call: it ends on time, what it waited for is not done for it, and others are served."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from support import golden
from support.jobs import Crowd
from support.paths import MODELS
from support.purity import Purity
from support.victim import FOREVER
from support.waiting import WAIT, wait_for

import gradserve
from gradserve import _calls, errors
from gradserve import objectives as O
from gradserve._status import from_rpc_error
from gradserve_server import Engine, ServerConfig
from gradserve_server.rpc.app import Server
from gradserve_server.runtime import model as runtime_model
from gradserve_server.runtime.work import Priority

IMAGE = {"image": golden.digits()}
UNIT = O.unit("logits", 7)
SOON = 1.0
"""Seconds of a deadline that passes while the test waits for it."""


class Hurried(gradserve.Client):
    """A client whose ascents have its deadline too."""

    def ascend(self, model, objective, **settings):
        call = _calls.ascend(model, objective, settings)
        try:
            yield from map(call.parse, self._rpcs[call.rpc](call.request, timeout=self._timeout))
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None


VERBS: dict[str, Callable] = {
    "infer": lambda client: client.infer("digits", IMAGE),
    "gradient": lambda client: client.gradient("digits", IMAGE, UNIT),
    "vjp": lambda client: client.vjp("digits", IMAGE, {"logits": golden.logits()}),
    "jvp": lambda client: client.jvp("digits", IMAGE, IMAGE),
    "hvp": lambda client: client.hvp("digits", IMAGE, UNIT, IMAGE),
    "activations": lambda client: client.activations("digits", IMAGE, ["relu6"]),
    "ascend": lambda client: list(client.ascend("digits", UNIT, steps=3)),
}
BUILDS_A_PLAN = [verb for verb in VERBS if verb != "infer"]


@pytest.fixture
def engine():
    """One of its own, without plans."""
    with Engine(MODELS) as engine:
        yield engine


@contextmanager
def serving(engine, **settings):
    """A server and two clients of it: one in a hurry, and one that is not."""
    with (
        Server(engine, ServerConfig(port=0, drain_seconds=2, **settings)) as server,
        Hurried(server.address, timeout=SOON) as hurried,
        gradserve.Client(server.address, timeout=10 * WAIT) as patient,
    ):
        before = Purity(server.address)
        yield server, hurried, patient
        wait_for(lambda: server.running_ascents == 0)
        before.check()
        before.close()


@pytest.fixture
def runs(engine, monkeypatch):
    """The priorities of what the engine was asked to run."""
    asked, run = [], engine._scheduler.run
    monkeypatch.setattr(engine._scheduler, "run", lambda work: asked.append(work.priority) or run(work))
    return asked


@pytest.mark.parametrize("verb", VERBS)
def test_waiting_for_a_thread(engine, runs, verb):
    with (
        serving(engine, max_calls=1, max_ascents=1, max_streams=0) as (_, hurried, patient),
        Crowd(engine._scheduler) as crowd,
    ):
        holding = [crowd.join(VERBS["infer"], patient) for _ in range(2)]  # both threads
        with pytest.raises(errors.DeadlineExceeded):
            VERBS[verb](hurried)
        with pytest.raises(errors.DeadlineExceeded):
            hurried.inspect("digits")  # waits too; when it gives up, the server knows of the first
        runs.clear()
        crowd.let_go()
        for call in holding:
            call.result(WAIT)
        VERBS["activations"](patient)
        assert runs == [Priority.PREDICTION]  # of these activations: nothing for the one that had given up


@pytest.mark.parametrize("verb", VERBS)
def test_waiting_in_line(engine, verb):
    """In line for the device, before the first step of an ascent too."""
    with serving(engine) as (server, hurried, patient):
        expected = repr(VERBS[verb](patient))
        with Crowd(engine._scheduler) as crowd:
            waiting = crowd.join(VERBS[verb], hurried)
            with pytest.raises(errors.DeadlineExceeded):
                waiting.result(WAIT)
            if verb != "ascend":  # which leaves the line when its turn comes
                wait_for(lambda: crowd.scheduler.waiting == 0)
        wait_for(lambda: crowd.scheduler.waiting == 0)
        wait_for(lambda: server.running_ascents == 0)
        assert repr(VERBS[verb](patient)) == expected


def test_between_the_steps_of_an_ascent(engine):
    with serving(engine) as (server, hurried, patient):
        VERBS["ascend"](patient)  # makes the plan, which may take longer than those in a hurry have
        steps = hurried.ascend("digits", UNIT, steps=FOREVER, report_every=FOREVER)
        assert next(steps).index == 0
        with pytest.raises(errors.DeadlineExceeded):
            next(steps)
        wait_for(lambda: server.running_ascents == 0)
        assert VERBS["ascend"](patient)[-1].index == 3


@pytest.mark.parametrize("verb", BUILDS_A_PLAN)
def test_while_a_plan_is_built(engine, monkeypatch, verb):
    """The plan is finished all the same, and is the next caller's; nobody else waits for it."""
    derive, built = runtime_model.derive, []
    building, go_on = threading.Event(), threading.Event()

    def slowly(*arguments):
        built.append(arguments[1])
        building.set()
        assert go_on.wait(WAIT), "stuck"
        return derive(*arguments)

    monkeypatch.setattr(runtime_model, "derive", slowly)
    with serving(engine) as (server, hurried, patient), ThreadPoolExecutor(1) as pool:
        late = pool.submit(VERBS[verb], hurried)
        assert building.wait(WAIT)
        with pytest.raises(errors.DeadlineExceeded):
            late.result(WAIT)
        VERBS["infer"](patient)
        go_on.set()
        wait_for(lambda: server.running_ascents == 0)
        VERBS[verb](patient)
        assert len(built) == len(set(built))
