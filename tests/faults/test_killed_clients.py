"""Clients that are killed: the server stops their work within a step, and keeps nothing of them."""

import pytest
from support.paths import MODELS
from support.victim import KINDS, UNDER_WAY, victim
from support.waiting import wait_for

import gradserve
from gradserve_server import Engine, ServerConfig
from gradserve_server.rpc.app import Server

TIMES = 3
"""How many of a kind are killed, one after the other: the second shows what the first has left."""


def under_way(metrics):
    return metrics["gradserve_running_ascents"] + metrics["gradserve_open_streams"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_client_leaves_nothing(served, kind):
    def state():
        return served.os.num_fds(), served.os.num_threads()

    with victim(served.address, kind):
        pass
    wait_for(lambda: under_way(served.scrape()) == 0)
    files, threads = state()
    for _ in range(TIMES):
        with victim(served.address, kind):
            assert under_way(served.scrape()) == (kind in UNDER_WAY)
        wait_for(lambda: under_way(served.scrape()) == 0)
    wait_for(lambda: served.os.num_fds() <= files)
    # A thread more may answer the scrapes just now; one for each client would be more.
    assert served.os.num_threads() < threads + TIMES


def test_an_ascent_makes_no_step_more_once_it_is_known_that_its_client_was_killed(monkeypatch):
    """Asked before each step whether to stop, it is told so once, and asks no more."""
    asked = []
    with Engine(MODELS) as engine, Server(engine, ServerConfig(port=0, drain_seconds=1)) as server:
        ascend = engine.ascend

        def watched(*arguments, should_stop, **settings):
            def ask():
                asked.append(should_stop())
                return asked[-1]

            return ascend(*arguments, should_stop=ask, **settings)

        monkeypatch.setattr(engine, "ascend", watched)
        with victim(server.address, "ascend"):
            assert server.running_ascents == 1
        wait_for(lambda: server.running_ascents == 0)
        assert asked.count(True) == 1
        assert asked[-1]
        with gradserve.Client(server.address) as client:  # the same plan, and the device, are free
            *_, last = client.ascend("digits", gradserve.objectives.unit("logits", 7), steps=3)
            assert last.index == 3
