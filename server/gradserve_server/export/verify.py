"""Is the exported file right? Our own engine runs and differentiates it, beside the framework in float64, on random inputs.

A network of ReLUs and max-pools is piecewise smooth. Where a sample lies within float32's rounding of a kink, float32 lands
on either side of it, and the right gradient in float32 is not the right one in float64. So several samples are drawn, and
those are kept that are least in doubt: whose float64 gradient moves least as inputs move by 1e-6, and is nearest to the
framework's own in float32.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from gradserve.descriptions import ImageDescription
from gradserve.errors import InvalidModel, NotDifferentiable
from gradserve_server.engine import Engine
from gradserve_server.export.frameworks.exportable import Array, Evaluation, Exportable
from gradserve_server.export.settings import Check, Input

TOLERANCE = 1e-4
"""Of float32 beside float64. Fifty layers measure 1e-6; a wrong weight, form or operator is 1e-2 or more."""

DOUBT_FACTOR = 4.0
"""Two float32 computations may be in doubt to either side, and the doubt is an estimate of two draws."""

MAX_DOUBT = 0.025
"""Beyond it a comparison says nothing: what is then allowed is as much as mistakes make."""

CANDIDATES, KEPT = 6, 2
NOISE = 1e-6
"""Of the moved inputs, relative to their root mean square: about sixteen roundings of 2**-24."""

SMALL = 1e-3
"""A sample whose norm is less, relative to the largest of the batch, is compared as if it had that."""


def draw_feeds(
    network: Exportable, images: Mapping[str, ImageDescription], *, samples: int | None, seed: int
) -> dict[str, Array]:
    """Random inputs: pixels in the described range, normalized; else what the network knows; else normally distributed.

    Args:
        network: For which.
        images: Descriptions by input.
        samples: How many; None: as many as its inputs say.
        seed: Of the random numbers.

    Returns:
        By input; integers are 0 or 1.
    """
    random = np.random.default_rng(seed)
    known = network.draw(random, samples or network.inputs[0].shape[0]) or {}
    return {
        one.name: np.asarray(known[one.name] if one.name in known else _draw(one, images, samples, random), one.dtype)
        for one in network.inputs
    }


def _draw(one: Input, images: Mapping[str, ImageDescription], samples: int | None, random: np.random.Generator) -> Array:
    shape = (samples or one.shape[0], *one.shape[1:])
    if not one.dtype.startswith("float"):
        return random.integers(0, 2, shape)
    if image := images.get(one.name):
        return image.normalize(random.uniform(image.low, image.high, shape))
    return random.normal(size=shape)


def verify(engine: Engine, model: str, network: Exportable, feeds: Mapping[str, Array], seed: int) -> list[Check]:
    """Compares the file with the framework.

    Args:
        engine: Has the file.
        model: Its name there.
        network: What the file was made of; in float64 afterwards.
        feeds: Of candidates.
        seed: Of the cotangents.

    Returns:
        Each output and each of its gradients.

    Raises:
        InvalidModel: They disagree, or that cannot be told.
        UnsupportedGradient: An operator of the file has no gradient.
    """
    random = np.random.default_rng(seed + 1)
    plain = network.evaluate(feeds, {}, double=False)
    cotangents = {name: random.normal(size=array.shape) for name, array in plain.outputs.items() if array.dtype.kind == "f"}
    noisy = {
        name: array + NOISE * np.sqrt(np.mean(np.square(array))) * random.normal(size=array.shape)
        if array.dtype.kind == "f"
        else array
        for name, array in feeds.items()
    }
    single = network.evaluate(feeds, cotangents, double=False)
    exact = network.evaluate(feeds, cotangents, double=True)
    moved = network.evaluate(noisy, cotangents, double=True)
    kept = _least_in_doubt(exact, (single, moved), len(next(iter(feeds.values()))))
    truth = _Tensors(exact, kept)
    doubts = [_Tensors(one, kept) for one in (single, moved)]
    served = _served(engine, model, feeds, cotangents, exact, kept)
    checks = []
    for what, expected in truth.items():
        doubt = max(difference_of_samples(expected, other.get(what)) for other in doubts)
        allowed = max(TOLERANCE, DOUBT_FACTOR * doubt)
        checks.append(
            Check(
                what,
                expected.shape,
                difference_of_samples(expected, served[what]),
                doubt,
                allowed,
                is_zero=not expected.any(),
            )
        )
    _judge(checks, network.framework)
    return checks


def difference_of_samples(expected: Array, got: Array) -> float:
    """The relative difference in the L2 norm of the sample that differs most; infinite for other shapes, and for NaN."""
    if expected.shape != got.shape:
        return math.inf
    worst = float(_differences(expected, got).max(initial=0.0))
    return worst if math.isfinite(worst) else math.inf


def _differences(expected: Array, got: Array) -> Array:
    """Of each sample [N]."""
    a, b = (np.reshape(array, (len(array) if array.ndim else 1, -1)).astype(np.float64) for array in (expected, got))
    norms = np.linalg.norm(a, axis=1)
    scale = np.maximum(norms, SMALL * norms.max(initial=0.0))
    return np.asarray(np.linalg.norm(a - b, axis=1) / np.maximum(scale, float(np.finfo(np.float32).tiny)))


class _Tensors:
    """Everything of an evaluation by what it is, of some of its samples."""

    def __init__(self, evaluation: Evaluation, kept: Sequence[int]) -> None:
        self._all = dict(_named(evaluation))
        self._kept = list(kept)

    def items(self) -> Iterator[tuple[str, Array]]:
        """What it is, and the samples that were kept."""
        return ((what, _rows(array, self._kept)) for what, array in self._all.items())

    def get(self, what: str) -> Array:
        """One of them."""
        return _rows(self._all[what], self._kept)


def _named(evaluation: Evaluation) -> Iterator[tuple[str, Array]]:
    for output, array in evaluation.outputs.items():
        yield output, array
        for name, gradient in evaluation.gradients.get(output, {}).items():
            yield f"d {output} / d {name}", gradient


def _rows(array: Array, kept: Sequence[int]) -> Array:
    return array[list(kept)] if array.ndim and len(array) > max(kept) else array


def _least_in_doubt(exact: Evaluation, others: Sequence[Evaluation], samples: int) -> list[int]:
    """The samples to keep; all, where there are no more."""
    if samples < CANDIDATES:
        return list(range(samples))
    doubt = np.zeros(samples)
    for other in others:
        got = dict(_named(other))
        for what, expected in _named(exact):
            if expected.ndim and len(expected) == samples:
                doubt = np.maximum(doubt, _differences(expected, got[what]))
    return sorted(int(index) for index in np.argsort(doubt, kind="stable")[:KEPT])


def _served(
    engine: Engine,
    model: str,
    feeds: Mapping[str, Array],
    cotangents: Mapping[str, Array],
    exact: Evaluation,
    kept: Sequence[int],
) -> dict[str, Array]:
    """What the engine makes of the samples that were kept."""
    some = {name: _rows(array, kept) for name, array in feeds.items()}
    found = engine.infer(model, some)
    for output, expected in exact.gradients.items():
        zeros = {name: np.zeros_like(some[name]) for name, gradient in expected.items() if not gradient.any()}
        v = {output: _rows(cotangents[output], kept).astype(np.float32)}
        gradients: dict[str, Array] = {}
        if moving := [name for name in expected if name not in zeros]:
            _, gradients = engine.vjp(model, some, v, wrt=moving)
        for name, zero in zeros.items():
            try:
                gradients |= engine.vjp(model, some, v, wrt=[name])[1]
            except NotDifferentiable:  # the framework has a word for this, and so do we
                gradients[name] = zero
        found |= {f"d {output} / d {name}": gradient for name, gradient in gradients.items()}
    return found


def _judge(checks: Sequence[Check], framework: str) -> None:
    unclear = [check for check in checks if not check.doubt <= MAX_DOUBT]
    if unclear:
        what = ", ".join(f"{check.what} by {check.doubt:.1e}" for check in unclear)
        msg = (
            f"the file cannot be verified: {framework}'s own float32 is too far from its float64: {what}. "
            f"Another --seed draws other samples"
        )
        raise InvalidModel(msg)
    wrong = [check for check in checks if not check.difference <= check.allowed]
    if wrong:
        what = "; ".join(f"{check.what}: {check.difference:.1e}, expected at most {check.allowed:.0e}" for check in wrong)
        msg = f"the exported file disagrees with {framework} in float64: {what}. Another --seed draws other samples"
        raise InvalidModel(msg)
