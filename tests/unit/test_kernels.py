"""The C++ kernels against plain float64 NumPy, and every SIMD target and thread count against each other."""

import itertools
import math
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradserve import Adam, GradientNormalization, Sgd
from gradserve_server import kernels
from gradserve_server.kernels import Ascender, Layout

# Relative to the largest term of the sum that is compared.
TOLERANCE = {
    "prepare": 3e-7,  # a subtraction and a product: two roundings of 2**-24 each
    "step": 2e-6,  # about a dozen: scale / statistic, normalized gradient, moments, root, quotient, update
    "moments": 1e-6,  # half a dozen of them
    "norm": 1e-12,  # float64 throughout, only the order of the additions differs
    "adjoint": 1e-6,  # float32 products, float64 sums
}
LANE_SIZES = [1, 7, 8, 9, 15, 16, 17, 31, 33]  # around multiples of every vector width
THREADS = [1, 2, 4, 7]
RULES = [Sgd(0.3), Adam(0.05), Adam(-0.1, beta1=0, beta2=0.9, epsilon=1e-4)]
BOUNDS = [(-math.inf, math.inf), (-0.5, 0.75), (0.0, math.inf)]


# ---- the reference: float64, no fusion, one line per formula ----


def to_buffer(planar, layout):
    return planar if layout == Layout.NCHW else np.moveaxis(planar, 1, -1)


def from_buffer(buffer, layout):
    return buffer if layout == Layout.NCHW else np.moveaxis(buffer, -1, 1)


def roll(planar, offsets, sign):
    return np.stack([np.roll(p, sign * o, axis=(1, 2)) for p, o in zip(planar, offsets.astype(object), strict=True)])


def divide(d, statistic):
    return d / statistic if statistic > 0 else np.zeros_like(d)


NORMALIZE = {
    "none": lambda d: d,
    "std": lambda d: divide(d, d.std()),
    "rms": lambda d: divide(d, np.sqrt(np.mean(d * d))),
    "l2": lambda d: divide(d, np.sqrt(np.sum(d * d))),
    "mean_abs": lambda d: divide(d, np.mean(np.abs(d))),
    "sign": np.sign,
    "min_max": lambda d: divide(d - d.min(), d.max() - d.min()),
}


@dataclass(frozen=True)
class Case:
    """One ascent, and the arrays that it works on."""

    shape: tuple[int, int, int, int] = (2, 3, 5, 17)
    layout: Layout = Layout.NCHW
    normalization: str = "none"
    rule: Sgd | Adam = RULES[0]
    weight_decay: float = 0.0
    bounds: tuple[float, float] = (-math.inf, math.inf)
    offset_range: tuple[int, int] = (-40, 40)
    seed: int = 0

    def __post_init__(self):
        rng = np.random.default_rng(self.seed)
        samples, channels, _, _ = self.shape
        low, high = self.offset_range
        assign = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731
        assign("mean", rng.normal(size=channels).astype(np.float32))
        assign("scale", (rng.choice([-1, 1], channels) * rng.uniform(0.2, 5, channels)).astype(np.float32))
        assign("image", rng.normal(size=self.shape).astype(np.float32))
        assign("offsets", rng.integers(low, high, (samples, 2), dtype=np.int32, endpoint=True))
        assign("gradients", [self.buffer(rng.normal(size=self.shape)) for _ in range(3)])

    def buffer(self, planar):
        return np.ascontiguousarray(to_buffer(planar, self.layout), np.float32)

    def ascender(self, **execution):
        return Ascender(
            self.shape[1:],
            rule=self.rule,
            mean=self.mean,
            scale=self.scale,
            layout=self.layout,
            normalization=GradientNormalization(self.normalization),
            weight_decay=self.weight_decay,
            low=self.bounds[0],
            high=self.bounds[1],
            **execution,
        )

    def column(self, values):
        """Per-channel values, to broadcast over a planar batch."""
        return values.astype(np.float64)[:, None, None]

    def reference_prepare(self, image):
        normalized = (image.astype(np.float64) - self.column(self.mean)) * self.column(self.scale)
        return to_buffer(roll(normalized, self.offsets, 1), self.layout)

    def reference_step(self, image, gradient, state):
        """The next image, its moments, the norms, and the size of the largest term that went into a pixel."""
        planar = from_buffer(gradient, self.layout).astype(np.float64)
        d = roll(planar, self.offsets, -1) * self.column(self.scale)
        u = g = np.stack([NORMALIZE[self.normalization](sample) for sample in d])
        m = v = None
        if isinstance(self.rule, Adam):
            beta1, beta2, t = self.rule.beta1, self.rule.beta2, state.steps + 1
            m = beta1 * state.first_moment.astype(np.float64) + (1 - beta1) * g
            v = beta2 * state.second_moment.astype(np.float64) + (1 - beta2) * g**2
            u = (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + self.rule.epsilon)
        move = self.rule.learning_rate * u
        p = image + move
        p = self.column(self.mean) + (1 - self.weight_decay) * (p - self.column(self.mean))
        largest = max(np.abs(image).max(), np.abs(move).max(), np.abs(self.mean).max())
        norms = np.sqrt((d**2).sum(axis=(1, 2, 3)))
        return np.clip(p, *self.bounds), m, v, norms, largest


def run(case, **execution):
    """Three steps; all the arrays that a step writes."""
    ascender, state, image = case.ascender(**execution), None, case.image.copy()
    state = ascender.new_state(case.shape[0])
    out = np.full_like(case.gradients[0], np.nan)
    results = []
    for gradient in case.gradients:
        ascender.prepare(image, case.offsets, out)
        norms = ascender.step(image, gradient, case.offsets, state)
        moments = [] if state.first_moment is None else [state.first_moment.copy(), state.second_moment.copy()]
        results += [out.copy(), image.copy(), norms, *moments]
    return results


def same_bits(left, right):
    return all(a.tobytes() == b.tobytes() for a, b in zip(left, right, strict=True))


def assert_close(actual, expected, kind, largest=None):
    largest = np.abs(expected).max() if largest is None else largest
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE[kind] * largest)


def check_against_reference(case, **execution):
    ascender, image = case.ascender(**execution), case.image.copy()
    state = ascender.new_state(case.shape[0])
    for gradient in case.gradients:
        out = np.full_like(gradient, np.nan)
        ascender.prepare(image, case.offsets, out)
        largest = (np.abs(image).max() + np.abs(case.mean).max()) * np.abs(case.scale).max()
        assert_close(out, case.reference_prepare(image), "prepare", largest)

        expected, m, v, expected_norms, largest = case.reference_step(image, gradient, state)
        norms = ascender.step(image, gradient, case.offsets, state)
        np.testing.assert_allclose(norms, expected_norms, rtol=TOLERANCE["norm"])
        assert_close(image, expected, "step", largest)
        if m is not None:
            assert_close(state.first_moment, m, "moments")
            assert_close(state.second_moment, v, "moments")
    assert state.steps == len(case.gradients)


# ---- right ----

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


# ---- the same bits, whoever computes them ----


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


# ---- gradients at the edge ----


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


# ---- refused ----

GOOD = {
    "image": np.zeros((2, 3, 4, 5), np.float32),
    "gradient": np.zeros((2, 4, 5, 3), np.float32),
    "out": np.zeros((2, 4, 5, 3), np.float32),
    "offsets": np.zeros((2, 2), np.int32),
    "first_moment": np.zeros((2, 3, 4, 5), np.float32),
    "second_moment": np.zeros((2, 3, 4, 5), np.float32),
}


def read_only(array):
    array = array.copy()
    array.setflags(write=False)
    return array


def misaligned(array):
    return np.frombuffer(bytearray(array.nbytes + 1), array.dtype.str, array.size, 1).reshape(array.shape)


def call(**changes):
    arrays = {name: array.copy() for name, array in GOOD.items()} | changes
    ascender = Ascender((3, 4, 5), rule=Adam(0.1), layout=Layout.NHWC)
    state = kernels.AscentState(0, arrays["first_moment"], arrays["second_moment"])
    ascender.prepare(arrays["image"], arrays["offsets"], arrays["out"])
    ascender.step(arrays["image"], arrays["gradient"], arrays["offsets"], state)


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda a: a[:, :-1].copy(), r"\[2,\d.*\]"),
        (lambda a: a[..., :1].copy(), r"\[2,.*1\]"),
        (lambda a: a[0].copy(), r"\[.*\]"),
        (lambda a: a.astype(np.float64), "float64"),
        (lambda a: a.astype(a.dtype.newbyteorder()), ">[fi]4"),
        (lambda a: np.repeat(a, 2, axis=-1)[..., ::2], "non-contiguous"),
        (np.asfortranarray, "non-contiguous"),
        (misaligned, "misaligned"),
    ],
    ids=["size", "last-size", "rank", "dtype", "byte-order", "strided", "fortran", "misaligned"],
)
def test_a_wrong_array_is_refused(name, change, got):
    with pytest.raises(ValueError, match=rf"^{name}: expected C-contiguous .*\[.*\], got .*{got}"):
        call(**{name: change(GOOD[name])})


@pytest.mark.parametrize("name", GOOD)
def test_what_is_no_array_is_refused(name):
    with pytest.raises(TypeError, match=f"^{name}: expected numpy.ndarray, got list$"):
        call(**{name: GOOD[name].tolist()})


@pytest.mark.parametrize("name", ["image", "out", "first_moment", "second_moment"])
def test_read_only_memory_is_not_written(name):
    with pytest.raises(ValueError, match=rf"^{name}: expected C-contiguous writable .*, got read-only"):
        call(**{name: read_only(GOOD[name])})


def test_what_is_only_read_may_be_read_only():
    call(gradient=read_only(GOOD["gradient"]), offsets=read_only(GOOD["offsets"]))
    ascender = Ascender((3, 4, 5), rule=Sgd(0.1))
    ascender.prepare(read_only(GOOD["image"]), None, np.empty_like(GOOD["image"]))


@pytest.mark.parametrize(
    ("written", "other"),
    [("out", "image"), ("image", "gradient"), ("first_moment", "image"), ("second_moment", "first_moment")],
)
def test_shared_memory_is_refused(written, other):
    memory = np.zeros(130, np.float32)
    views = {name: memory[start : start + 120].reshape(GOOD[name].shape) for name, start in ((written, 0), (other, 10))}
    with pytest.raises(ValueError, match=f"^{written}: expected memory of its own, got memory shared with {other}"):
        call(**views)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Ascender((3, 4, 4), rule=Sgd(math.nan)),
            "learning_rate: expected a number that is finite in float32, got nan",
        ),
        (lambda: Ascender((3, 4, 4), rule=Adam(0.1, beta1=1.0)), r"beta1: expected a number in \[0, 1\), got 1.0"),
        (lambda: Ascender((3, 4, 4), rule=Adam(0.1, beta2=-0.1)), r"beta2: expected a number in \[0, 1\), got -0.1"),
        (
            lambda: Ascender((3, 4, 4), rule=Adam(0.1, epsilon=1e-50)),
            "epsilon: expected a number that is positive .*, got 1e-50",
        ),
        (
            lambda: Ascender((3, 4), rule=Sgd(1)),
            r"sample_shape: expected three positive sizes .*, got \(3, 4\)",
        ),
        (lambda: Ascender((3, 0, 4), rule=Sgd(1)), "sample_shape: expected .*, got"),
        (lambda: Ascender((1, 2**40, 2**40), rule=Sgd(1)), "sample_shape: expected .*, got"),
        (
            lambda: Ascender((3, 4, 4), rule=Sgd(1), mean=[1, 2]),
            r"mean: expected .* 3 numbers, got shape \[2\]",
        ),
        (lambda: Ascender((3, 4, 4), rule=Sgd(1), scale=1e39), "scale: expected .* float32, got 1e"),
        (lambda: Ascender((3, 4, 4), rule=Sgd(1), weight_decay=1.5), "weight_decay: expected .*, got 1.5"),
        (
            lambda: Ascender((3, 4, 4), rule=Sgd(1), low=1, high=0),
            "low: expected a number <= high = 0, got 1",
        ),
        (lambda: Ascender((3, 4, 4), rule=Sgd(1), low=math.nan), "low: expected"),
        (
            lambda: Ascender((3, 4, 4), rule=Sgd(1), layout="CHWN"),
            "layout: expected one of NCHW, NHWC, got 'CHWN'",
        ),
        (
            lambda: Ascender((3, 4, 4), rule=Sgd(1), normalization="l3"),
            "normalization: expected one of none, std",
        ),
        (lambda: Ascender((3, 4, 4), rule=Sgd(1), simd="mmx"), "simd: expected one of .*scalar, got 'mmx'"),
        (lambda: Ascender((3, 4, 4), rule=Sgd(1), threads=0), "threads: expected None or 1 to 256, got 0"),
        (lambda: kernels.set_num_threads(0), "threads: expected 1 to 256, got 0"),
        (lambda: kernels.set_num_threads(257), "threads: expected 1 to 256, got 257"),
    ],
)
def test_a_wrong_setting_is_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


def test_a_refused_step_changes_nothing():
    case = Case(rule=Adam(0.1))
    ascender, image = case.ascender(), case.image.copy()
    state = ascender.new_state(2)
    with pytest.raises(ValueError, match="gradient"):
        ascender.step(image, case.gradients[0][:, :1], case.offsets, state)
    assert state.steps == 0
    assert image.tobytes() == case.image.tobytes()


def test_no_samples_is_no_work():
    ascender = Ascender((3, 4, 5), rule=Adam(0.1))
    image = np.empty((0, 3, 4, 5), np.float32)
    ascender.prepare(image, np.empty((0, 2), np.int32), image.copy())
    assert ascender.step(image, image.copy(), None, ascender.new_state(0)).shape == (0,)


# ---- what is here ----


def test_simd_targets_end_in_the_reference():
    targets = kernels.simd_targets()
    assert targets[-2:] == ("baseline", "scalar")
    assert len(set(targets)) == len(targets)


def test_number_of_threads_can_be_set():
    before = kernels.num_threads()
    try:
        kernels.set_num_threads(3)
        assert kernels.num_threads() == 3
    finally:
        kernels.set_num_threads(before)


def test_all_is_complete():
    public = {name for name, value in vars(kernels).items() if getattr(value, "__module__", "") == kernels.__name__}
    assert {name for name in public if not name.startswith("_")} <= set(kernels.__all__)
    assert all(hasattr(kernels, name) for name in kernels.__all__)
