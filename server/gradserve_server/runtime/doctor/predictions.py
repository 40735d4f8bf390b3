"""Checks of predictions: finite, the same twice, the same in both forms, independent of their neighbours."""

from collections.abc import Iterator, Mapping

import numpy as np

from gradserve.diagnosis import Finding
from gradserve.errors import RunFailed
from gradserve_server.graph.doctor import finding
from gradserve_server.runtime.doctor.batch import why_no_batch
from gradserve_server.runtime.doctor.patient import Patient
from gradserve_server.runtime.session import Array
from gradserve_server.runtime.verify import TOLERANCES, difference, has_floats, largest_change

ABSURD = 1e6
"""A difference, relative to an output that is 0 but for rounding, of which no per cent are told."""


def predictions(patient: Patient) -> Iterator[Finding]:
    """What is wrong with what it predicts."""
    samples = patient.samples
    if samples is None:
        return
    feeds = samples.first(2)
    expected = patient.run(feeds)
    yield from _finite(expected, given=samples.given)
    again = patient.run(feeds)
    changed = [
        name for name in expected if not np.array_equal(expected[name], again[name], equal_nan=has_floats(expected[name]))
    ]
    if changed:
        yield finding("not-deterministic", ", ".join(changed), _worst(expected, again, changed))
        return
    if patient.original is not None and patient.served is not None:
        served = patient.served.predict(feeds, ())
        differing = _differing(expected, served)
        for name in differing:
            yield finding("forms-disagree", name, _worst(expected, served, [name]))
    if samples.batched and samples.fixed is None and samples.count > 1:
        yield from _neighbours(patient, expected)


def _finite(outputs: Mapping[str, Array], *, given: bool) -> Iterator[Finding]:
    """Made-up samples may leave a logarithm's domain: there, only an output without any number counts."""
    for name, array in outputs.items():
        if has_floats(array) and array.size:
            bad = ~np.isfinite(array.astype(np.float64))
            if bad.any() if given else bad.all():
                yield finding("output-not-finite", name, f"{int(bad.sum())} of {bad.size} values")


def _neighbours(patient: Patient, both: Mapping[str, Array]) -> Iterator[Finding]:
    assert patient.samples is not None
    try:
        alone = patient.run(patient.samples.first(1))
    except RunFailed as error:
        patient.notes.append(f"a batch of 1 does not run: {error}")
        return
    first = {name: array[:1] for name, array in both.items() if array.ndim and len(array) == 2}
    alone = {name: array for name, array in alone.items() if name in first and array.shape == first[name].shape}
    differing = _differing(alone, first)
    if differing and (reason := why_no_batch(patient)):
        patient.notes.append(f"the first axis is not taken for the batch: {reason}")
        return
    for name in differing:
        yield finding("batch-dependent", name, _worst(alone, first, [name]))


def _differing(expected: Mapping[str, Array], got: Mapping[str, Array]) -> list[str]:
    """Outputs that differ by more than rounding."""
    return [
        name
        for name, array in expected.items()
        if (tolerance := TOLERANCES.get(array.dtype.name)) is not None and not difference(array, got[name]) <= tolerance
    ]


def _worst(expected: Mapping[str, Array], got: Mapping[str, Array], names: list[str]) -> str:
    name = names[0]
    largest, relative = largest_change(expected[name], got[name])
    if not np.isfinite(relative):
        return "one gives a number where the other gives none"
    share = f"{relative:.1%} of the largest value" if relative < ABSURD else "where the other is 0"
    return f"by {largest:.2g} at most, {share}"
