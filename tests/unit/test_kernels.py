"""The C++ kernels against plain float64 NumPy, also where gradients are at their edge."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.kernel_reference import (
    BOUNDS,
    LANE_SIZES,
    NORMALIZE,
    RULES,
    THREADS,
    TOLERANCE,
    Case,
    check_against_reference,
    run,
    same_bits,
)

from gradserve import Adam, Sgd
from gradserve_server import kernels
from gradserve_server.kernels import Ascender, Layout

# ---- right -----------------------------------------------------------------------------------------------------------

cases = st.builds(
    Case,
    shape=st.tuples(st.integers(1, 3), st.integers(1, 5), st.sampled_from([1, 2, 5]), st.sampled_from(LANE_SIZES)),
    layout=st.sampled_from(Layout),
    normalization=st.sampled_from(list(NORMALIZE)),
    rule=st.sampled_from(RULES),
    weight_decay=st.sampled_from([0.0, 1e-4, 0.3, 1.0]),
    bounds=st.sampled_from(BOUNDS),
    offset_range=st.sampled_from([(0, 0), (-40, 40), (-(2**31), 2**31 - 1)]),
    seed=st.integers(0, 2**32 - 1),
)


@settings(max_examples=300, deadline=None)
@given(case=cases, simd=st.sampled_from(kernels.simd_targets()), threads=st.sampled_from(THREADS))
def test_prepare_and_step_agree_with_numpy(case, simd, threads):
    check_against_reference(case, simd=simd, threads=threads)


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("rule", RULES[:2], ids=["sgd", "adam"])
@pytest.mark.parametrize("normalization", NORMALIZE)
def test_several_blocks_agree_with_numpy(normalization, rule, layout):
    # 17 100 pixels: two whole blocks and a partial one, cut in the middle of a row
    case = Case((2, 3, 100, 171), layout, normalization, rule, weight_decay=0.01, bounds=(-1, 1))
    check_against_reference(case)


def test_a_single_row_is_shared_between_blocks():
    check_against_reference(Case((2, 1, 1, 20_000), normalization="std", offset_range=(-30_000, 30_000)))


@settings(max_examples=100, deadline=None)
@given(case=cases)
def test_step_is_the_adjoint_of_prepare(case):
    case = replace(case, normalization="none", rule=Sgd(1.0), weight_decay=0.0, bounds=(-math.inf, math.inf))
    object.__setattr__(case, "mean", np.zeros_like(case.mean))  # the linear part
    ascender = case.ascender()
    x, y = case.image, case.gradients[0]
    forward, adjoint = np.empty_like(y), np.zeros_like(x)
    ascender.prepare(x, case.offsets, forward)
    ascender.step(adjoint, y, case.offsets, ascender.new_state(case.shape[0]))
    left, right = (np.sum(a.astype(np.float64) * b) for a, b in ((forward, y), (x, adjoint)))
    magnitude = np.sum(np.abs(forward.astype(np.float64) * y))
    assert abs(left - right) <= TOLERANCE["adjoint"] * magnitude


def test_no_offsets_means_no_jitter():
    case = Case(normalization="std", rule=Adam(0.1), offset_range=(0, 0))
    without = replace(case)
    object.__setattr__(without, "offsets", None)
    assert same_bits(run(case), run(without))


# ---- gradients at the edge -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("normalization", NORMALIZE)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("position", [0, 700, -1], ids=["first", "middle", "last"])
def test_a_gradient_that_is_not_finite_leaves_its_sample_alone(position, bad, normalization, layout):
    case = Case((3, 3, 20, 33), layout, normalization, Adam(0.05), weight_decay=0.1, bounds=(-0.1, 0.1))
    ascender, image, poisoned = case.ascender(), case.image.copy(), case.gradients[0].copy()
    state = ascender.new_state(3)
    state.first_moment[:], state.second_moment[:] = 0.25, 0.5
    poisoned[1].reshape(-1)[position] = bad
    norms = ascender.step(image, poisoned, case.offsets, state)
    assert np.isfinite(norms).tolist() == [True, False, True]
    assert image[1].tobytes() == case.image[1].tobytes()
    assert (state.first_moment[1] == 0.25).all()
    assert (state.second_moment[1] == 0.5).all()
    assert (image[[0, 2]] != case.image[[0, 2]]).all()


def test_a_step_that_would_overflow_float32_leaves_the_sample_alone():
    ascender = Ascender((1, 1, 4), rule=Sgd(1.0), scale=10.0)
    image, gradient = np.ones((2, 2, 1, 1, 4), np.float32)
    gradient[1] = 3e38
    norms = ascender.step(image, gradient, None, ascender.new_state(2))
    assert norms.tolist() == [20.0, math.inf]
    assert (image[0] == 11).all()
    assert (image[1] == 1).all()


@pytest.mark.parametrize("normalization", NORMALIZE)
@pytest.mark.parametrize("rule", [*RULES[:2], Adam(0.05, epsilon=2e-45)], ids=["sgd", "adam", "least-epsilon"])
def test_a_zero_gradient_moves_nothing(rule, normalization):
    case = Case(rule=rule, normalization=normalization)
    ascender, image = case.ascender(), case.image.copy()
    norms = ascender.step(image, np.zeros_like(image), case.offsets, ascender.new_state(2))
    assert norms.tolist() == [0, 0]
    assert image.tobytes() == case.image.tobytes()


@pytest.mark.parametrize("normalization", ["std", "min_max"])
@pytest.mark.parametrize("value", [0.1, -3e-12, 1e30])
def test_a_constant_gradient_has_no_spread(value, normalization):
    ascender = Ascender((3, 100, 171), rule=Sgd(1.0), scale=0.3, normalization=normalization)
    image, gradient = np.zeros((1, 3, 100, 171), np.float32), np.full((1, 3, 100, 171), value, np.float32)
    ascender.step(image, gradient, None, ascender.new_state(1))
    assert (image == 0).all()


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("normalization", sorted(NORMALIZE.keys() - {"none"}))
@pytest.mark.parametrize("magnitude", [1e-43, 1e-39, 1e-30, 1e30, 3e37], ids=str)
def test_the_size_of_the_gradient_does_not_matter(magnitude, normalization, layout):
    case = Case((2, 3, 9, 33), layout, normalization, Sgd(0.5))
    object.__setattr__(case, "gradients", [(case.gradients[0] * magnitude).astype(np.float32)])
    check_against_reference(case)


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("spread", [1e-6, 1e-3, 0.03, 0.04, 0.3])  # variances from far below 1 / 1024 to far above
def test_a_nearly_constant_gradient_keeps_its_spread(spread, layout):
    rng = np.random.default_rng(0)
    case = Case((1, 3, 100, 171), layout, normalization="std", rule=Sgd(0.5))
    object.__setattr__(case, "scale", np.ones(3, np.float32))
    object.__setattr__(case, "gradients", [case.buffer(1 + spread * rng.normal(size=case.shape))])
    check_against_reference(case)
    expected = run(case, simd="scalar", threads=1)
    for simd, threads in itertools.product(kernels.simd_targets(), THREADS):
        assert same_bits(run(case, simd=simd, threads=threads), expected), (simd, threads)


def test_no_decay_is_no_arithmetic():
    # 1e8 + 1 * (p - 1e8) is not p in float32
    ascender = Ascender((1, 1, 5), rule=Sgd(0.1), mean=1e8)
    image = np.array([0.1, 1e-30, 0.0, 3e38, np.pi], np.float32).reshape(1, 1, 1, 5)
    before = image.tobytes()
    ascender.step(image, np.zeros_like(image), None, ascender.new_state(1))
    assert image.tobytes() == before
