"""The kernels around the model against NumPy code that does the same: one prepare and one step of an ascent.

python benchmarks/kernels.py [--rounds 200]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table

from gradserve import Adam, GradientNormalization, Sgd
from gradserve_server import kernels
from gradserve_server.kernels import Ascender

SHAPES = [(1, 3, 224, 224), (8, 3, 224, 224), (10, 1, 28, 28)]
RULES = {"SGD": Sgd(0.05), "Adam": Adam(0.05)}
LOW, HIGH = -2.0, 2.0
# Medians of float32 results of both sides must agree, or the comparison is of two different things.
AGREEMENT = 1e-4


class NumpyAscent:
    """What a careful person writes: in place where NumPy can, one scratch array, no loop but over samples."""

    def __init__(self, shape: tuple[int, ...], rule: Sgd | Adam, mean: np.ndarray, scale: np.ndarray) -> None:
        self.rule = rule
        self.mean, self.scale = mean[:, None, None], scale[:, None, None]
        self.d, self.scratch = np.empty(shape, np.float32), np.empty(shape, np.float32)
        self.m, self.v, self.t = np.zeros(shape, np.float32), np.zeros(shape, np.float32), 0

    def prepare(self, image: np.ndarray, offsets: np.ndarray, out: np.ndarray) -> None:
        for n, offset in enumerate(offsets):
            out[n] = np.roll(image[n], offset, axis=(1, 2))
        out -= self.mean
        out *= self.scale

    def step(self, image: np.ndarray, gradient: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        d = self.d
        for n, offset in enumerate(offsets):
            d[n] = np.roll(gradient[n], -offset, axis=(1, 2))
        d *= self.scale
        norms = np.linalg.norm(d.reshape(len(d), -1), axis=1)
        if not np.isfinite(norms).all():
            msg = "the gradient is not finite"
            raise FloatingPointError(msg)
        d /= d.std(axis=(1, 2, 3), keepdims=True)
        if isinstance(self.rule, Adam):
            self.adam(d)
        d *= self.rule.learning_rate
        image += d
        np.clip(image, LOW, HIGH, out=image)
        return norms

    def adam(self, g: np.ndarray) -> None:
        """Replaces g by Adam's direction."""
        rule, m, v, scratch = self.rule, self.m, self.v, self.scratch
        self.t += 1
        np.multiply(g, 1 - rule.beta1, out=scratch)
        m *= rule.beta1
        m += scratch
        g *= g
        g *= 1 - rule.beta2
        v *= rule.beta2
        v += g
        np.divide(v, 1 - rule.beta2**self.t, out=scratch)
        np.sqrt(scratch, out=scratch)
        scratch += rule.epsilon
        np.divide(m, 1 - rule.beta1**self.t, out=g)
        g /= scratch


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(shape: tuple[int, int, int, int], rule: Sgd | Adam, rounds: int) -> tuple[float, float]:
    """Median seconds of prepare + step: the kernels', NumPy's; the two take turns."""
    rng = np.random.default_rng(0)
    mean, scale = np.float32([0.48, 0.46, 0.41])[: shape[1]], np.float32([4.4, 4.5, 4.4])[: shape[1]]
    image, gradient = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    offsets = rng.integers(-16, 17, (shape[0], 2), dtype=np.int32)
    ascender = Ascender(
        shape[1:],
        rule=rule,
        mean=mean,
        scale=scale,
        normalization=GradientNormalization.STD,
        low=LOW,
        high=HIGH,
    )
    state, baseline = ascender.new_state(shape[0]), NumpyAscent(shape, rule, mean, scale)
    images, outs = (image.copy(), image.copy()), (np.empty_like(image), np.empty_like(image))

    def ours() -> None:
        ascender.prepare(images[0], offsets, outs[0])
        ascender.step(images[0], gradient, offsets, state)

    def numpys() -> None:
        baseline.prepare(images[1], offsets, outs[1])
        baseline.step(images[1], gradient, offsets)

    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + rounds // 10):
        for taken, call in zip(times, (ours, numpys), strict=True):
            elapsed = seconds(call)
            if turn >= rounds // 10:  # the first tenth warms caches and threads up
                taken.append(elapsed)
    difference = np.abs(images[0] - images[1]).max()
    if difference > AGREEMENT * rounds:
        msg = f"images: expected the same from both, got a difference of {difference}"
        raise AssertionError(msg)
    return statistics.median(times[0]), statistics.median(times[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds

    target, threads = kernels.simd_targets()[0], kernels.num_threads()
    table = Table(title=f"prepare + step, std, clip; {target}, up to {threads} threads; median of {rounds}")
    for heading in ("shape", "rule", "kernels", "NumPy", "ratio"):
        table.add_column(heading, justify="left" if heading in ("shape", "rule") else "right")
    for shape in SHAPES:
        for name, rule in RULES.items():
            ours, numpys = measure(shape, rule, rounds)
            label = "x".join(map(str, shape))
            table.add_row(label, name, f"{ours * 1e6:.0f} µs", f"{numpys * 1e6:.0f} µs", f"{numpys / ours:.1f}x")
    Console().print(table)


if __name__ == "__main__":
    main()
