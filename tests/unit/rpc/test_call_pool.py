"""How long a call waited for a thread."""

import threading
from time import perf_counter_ns

from gradserve_server.rpc.call_pool import CallPool, waited_ns


def test_a_call_knows_how_long_it_waited():
    release = threading.Event()
    with CallPool(1) as pool:
        pool.submit(release.wait)
        waiting = pool.submit(waited_ns)
        submitted = perf_counter_ns()
        assert not waiting.done()
        released = perf_counter_ns()
        release.set()
        assert waiting.result(timeout=60) >= released - submitted


def test_each_call_has_its_own():
    release = threading.Event()
    with CallPool(1) as pool:
        pool.submit(release.wait)
        waited = [pool.submit(waited_ns) for _ in range(3)]
        release.set()
        assert len({each.result(timeout=60) for each in waited}) == 3


def test_elsewhere_nobody_waited():
    assert waited_ns() == 0


def test_arguments_results_and_errors_pass():
    with CallPool(1) as pool:
        assert pool.submit(divmod, 7, 3).result() == (2, 1)
        assert isinstance(pool.submit(divmod, 1, 0).exception(), ZeroDivisionError)
