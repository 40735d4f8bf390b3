"""The same bits from the kernels, whoever computes them."""

import itertools
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from support.kernel_reference import (
    NORMALIZE,
    THREADS,
    Case,
    run,
    same_bits,
)

from gradserve import Adam, Sgd
from gradserve_server import kernels
from gradserve_server.kernels import Layout


@pytest.mark.parametrize("shape", [(1, 3, 100, 171), (3, 4, 33, 31), (2, 5, 9, 17), (2, 1, 7, 16)], ids=str)
@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("normalization", NORMALIZE)
def test_bits_do_not_depend_on_threads_or_target(normalization, layout, shape):
    for rule, weight_decay in ((Sgd(0.3), 0.0), (Adam(0.05), 0.01)):
        case = Case(shape, layout, normalization, rule, weight_decay, bounds=(-1, 1))
        expected = run(case, simd="scalar", threads=1)
        for simd, threads in itertools.product(kernels.simd_targets(), THREADS):
            assert same_bits(run(case, simd=simd, threads=threads), expected), (simd, threads, rule)


def test_samples_do_not_see_one_another():
    case = Case((3, 3, 20, 33), normalization="std", rule=Adam(0.05))
    together = run(case)
    for n in range(3):
        alone = replace(case, shape=(1, *case.shape[1:]))
        for name in ("mean", "scale"):
            object.__setattr__(alone, name, getattr(case, name))
        for name in ("image", "offsets"):
            object.__setattr__(alone, name, getattr(case, name)[n : n + 1].copy())
        object.__setattr__(alone, "gradients", [g[n : n + 1].copy() for g in case.gradients])
        assert same_bits(run(alone), [array[n : n + 1] for array in together])


@pytest.mark.parametrize("threads", [None, 4])
def test_many_python_threads_at_once(threads):
    # 307 200 values: large enough to share without being told
    cases = [Case((4, 3, 160, 160), normalization="std", rule=Adam(0.05), seed=seed) for seed in range(8)]
    expected = [run(case, threads=1) for case in cases]
    with ThreadPoolExecutor(8) as executor:
        for _ in range(3):
            actual = list(executor.map(lambda case: run(case, threads=threads), cases))
            assert all(map(same_bits, actual, expected))


def test_one_ascender_serves_many_threads():
    case = Case((1, 3, 64, 64), normalization="rms")
    ascender = case.ascender()

    def step(_):
        image = case.image.copy()
        ascender.step(image, case.gradients[0], case.offsets, ascender.new_state(1))
        return image.tobytes()

    with ThreadPoolExecutor(8) as executor:
        assert len(set(executor.map(step, range(64)))) == 1


def test_other_python_threads_run_during_a_step():
    case = Case((64, 3, 128, 128))
    ascender, image, state = case.ascender(threads=1), case.image.copy(), case.ascender().new_state(64)
    inside, seen = False, False

    def steps():
        nonlocal inside
        for _ in range(500):  # as many as the scheduler needs to let the other thread run within one
            inside = True
            ascender.step(image, case.gradients[0], case.offsets, state)
            inside = False
            if seen:
                return

    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)  # nobody loses the GIL but by giving it up
    try:
        thread = threading.Thread(target=steps)
        thread.start()
        while thread.is_alive() and not seen:
            time.sleep(0)
            seen = inside
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert seen


def test_a_forked_child_can_compute():
    script = """
import os, numpy as np
from gradserve import Sgd
from gradserve_server.kernels import Ascender
ascender = Ascender((3, 64, 64), rule=Sgd(1.0), threads=4)
image, out = np.ones((4, 3, 64, 64), np.float32), np.zeros((4, 3, 64, 64), np.float32)
ascender.prepare(image, None, out)
child = os.fork()
out[:] = 0
ascender.prepare(image, None, out)
assert (out == 1).all()
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, timeout=60)
