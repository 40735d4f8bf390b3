"""Turns of callers: whoever asks for much keeps nobody waiting."""

from gradserve_server.runtime.turns import SMALLEST_SHARE, Turns


def served(turns, waiting):
    """The callers in the order of their starts."""
    order = []
    while waiting:
        start, caller, cost = min(waiting)
        waiting.remove((start, caller, cost))
        turns.served(start, cost)
        order.append(caller)
    return order


def ask(turns, *requests):
    return [(turns.start(caller, cost), caller, cost) for caller, cost in requests]


def test_callers_take_turns():
    turns = Turns()
    assert "".join(served(turns, ask(turns, *[("a", 1)] * 4, *[("b", 1)] * 2))) == "ababaa"


def test_who_asks_for_large_things_gets_fewer():
    turns = Turns()
    assert "".join(served(turns, ask(turns, *[("a", 4)] * 3, *[("b", 1)] * 5))) == "abbbbaba"


def test_who_comes_late_has_saved_up_nothing():
    turns = Turns()
    waiting = ask(turns, *[("a", 1)] * 10)
    for start, _, cost in waiting[:5]:
        turns.served(start, cost)
    assert "".join(served(turns, waiting[5:] + ask(turns, *[("b", 1)] * 3))) == "bababaaa"


def test_newcomers_without_end_do_not_keep_a_second_request_waiting():
    turns = Turns()
    (first, second) = ask(turns, ("a", 1), ("a", 1))
    turns.served(first[0], 1)
    for number in range(int(1 / SMALLEST_SHARE) + 1):
        (newcomer,) = ask(turns, (f"{number}", 1))
        if newcomer > second:
            break
        turns.served(newcomer[0], 1)
    assert newcomer[0] >= second[0]


def test_callers_are_forgotten():
    turns = Turns()
    for number in range(1000):
        turns.served(turns.start(number, 1), 1)
    assert len(turns._free) < 200
