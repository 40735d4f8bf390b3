"""The line: who is next, whatever comes; nobody is left behind."""

from hypothesis import given, settings
from hypothesis import strategies as st
from support.jobs import Job

from gradserve_server.runtime.caller import Caller
from gradserve_server.runtime.company import Company, Queue
from gradserve_server.runtime.line import PATIENCE, Line
from gradserve_server.runtime.ticket import Ticket
from gradserve_server.runtime.turns import SMALLEST_SHARE
from gradserve_server.runtime.work import Priority

ALONE, TOGETHER = Company(1), Company(4)
RANKS = {rank: Queue(rank=rank) for rank in (-1, 0, 1)}
BANDS = len(Priority) * len(RANKS) * 2


def ticket(caller="", priority=Priority.PREDICTION, rank=0, *, group=None, samples=1):
    job = Job(caller, [], priority, group=group, samples=samples, caller=Caller(identity=caller))
    job.queue = RANKS.get(rank) or Queue(rank=rank)
    return Ticket(job)


def run(line, company=ALONE):
    """The names of those that run next."""
    head, _ = line.first(lambda _: None)
    return [each.work.name for each in line.take(head, company)]


def joined(*tickets):
    line = Line()
    for each in tickets:
        line.join(each)
    return line


def test_a_caller_with_many_works_does_not_keep_one_with_one_waiting():
    line = joined(*[ticket("many") for _ in range(1000)], ticket("one"))
    assert [run(line), run(line)] == [["many"], ["one"]]


def test_a_batch_is_of_several_callers():
    line = joined(*[ticket("many", group="g") for _ in range(6)], ticket("one", group="g"))
    assert run(line, TOGETHER) == ["many", "one", "many", "many"]


def test_a_higher_level_goes_before_and_a_lower_one_behind():
    line = joined(ticket("low", rank=1), ticket("default"), ticket("high", rank=-1))
    assert [run(line)[0] for _ in range(3)] == ["high", "default", "low"]


def test_who_has_waited_too_long_stands_behind_its_own_level_only():
    late, other, low = ticket("late"), ticket("other"), ticket("low", rank=1)
    line = joined(late, other, low)
    line.fall_back(late)
    assert [run(line)[0] for _ in range(3)] == ["other", "late", "low"]


def test_the_band_that_was_passed_over_most_goes_first():
    line = joined(ticket("low", rank=1), ticket("gradient", Priority.GRADIENT))
    names = []
    for _ in range(PATIENCE + 3):
        line.join(ticket("high", rank=-1))
        names += run(line)
    assert names == ["high"] * PATIENCE + ["low", "gradient", "high"]


def test_bands_take_turns_at_going_first():
    """So many that there is always one that was passed over too often: not always the same."""
    ranks = range(2 * PATIENCE)
    line, served = joined(*[ticket(f"{rank}", rank=rank) for rank in ranks]), set()
    for _ in range(PATIENCE + len(ranks)):
        (name,) = run(line)
        served.add(name)
        line.join(ticket(name, rank=int(name)))
    assert served == {f"{rank}" for rank in ranks}


def test_who_asks_for_more_samples_gets_fewer_turns():
    line = joined(*[ticket("large", samples=4) for _ in range(2)], *[ticket("small") for _ in range(5)])
    assert [run(line)[0] for _ in range(7)] == ["large", *["small"] * 4, "large", "small"]


def test_who_waits_for_others_lets_those_pass_that_do_not():
    waits, runs = ticket("waits", group="g"), ticket("runs", Priority.ASCENT)
    line = joined(waits, runs)
    assert line.first({waits: 5.0, runs: None}.get) == (runs, None)
    assert line.first({waits: 5.0, runs: 4.0}.get) == (runs, 4.0)
    assert line.first({waits: 3.0, runs: 4.0}.get) == (waits, 3.0)


def test_put_back_is_where_one_stood():
    first, second = ticket("a"), ticket("a")
    line = joined(first, second)
    assert line.take(first, ALONE) == [first]
    line.put_back([first])
    assert list(line) == [first, second]


arrivals = st.tuples(
    st.sampled_from(["a", "b", "new"]),
    st.sampled_from(Priority),
    st.sampled_from(sorted(RANKS)),
    st.sampled_from(["g", None]),
    st.integers(0, 5),
)
"""Who comes; "new" is somebody else each time."""


@settings(max_examples=60, deadline=None)
@given(st.lists(arrivals, min_size=1, max_size=8), st.lists(arrivals, min_size=1, max_size=8), st.integers(0, 7))
def test_none_starves(there, coming, victim):
    """However the stream goes on, everyone that waits is begun after a bounded number of runs."""
    line, number = Line(), 0

    def arrive(caller, priority, rank, group, samples):
        nonlocal number
        number += 1
        name = f"new {number}" if caller == "new" else caller
        made = ticket(name, priority, rank, group=group, samples=samples)
        line.join(made)
        return made

    waiting = [arrive(*each) for each in there]
    marked = waiting[victim % len(waiting)]
    # Virtual time passes at least this fast; then only those that wait already can be before it, and its band has its turn
    # in so many runs.
    ahead = marked.order[0] / SMALLEST_SHARE + len(waiting)
    bound = int((ahead + 1) * (PATIENCE + BANDS))
    for runs in range(bound):
        head, _ = line.first(lambda _: None)
        if marked in line.take(head, TOGETHER):
            return
        if len(line) < 16:
            arrive(*coming[runs % len(coming)])
    raise AssertionError(bound)
