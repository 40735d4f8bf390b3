"""The kernels' formulas in float64, without fusion, a line each; and cases to compare them on."""

import math
from dataclasses import dataclass

import numpy as np

from gradserve import Adam, GradientNormalization, Sgd
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
