"""The golden vectors of the digits model: float64 autograd of torch, made by tests/golden/make_golden.py."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from support.paths import GOLDEN

from gradserve import Objective
from gradserve import objectives as O


@dataclass(frozen=True, eq=False)
class GoldenCase:
    """One objective, its value and its gradient with respect to the input."""

    name: str
    objective: Objective
    values: np.ndarray
    gradient: np.ndarray


def digits() -> np.ndarray:
    """The four digits that the vectors are about, normalized: float32 [4, 1, 28, 28]."""
    return _archive()["image"]


def logits() -> np.ndarray:
    """The logits of the four digits, float64 [4, 10]."""
    return _archive()["logits"]


def cases() -> Iterator[GoldenCase]:
    """Every objective of the design on an early and a late layer."""
    archive = _archive()
    make = {
        "unit": lambda c: O.unit(c["layer"], c["index"]),
        "neuron": lambda c: O.neuron(c["layer"], c["channel"], c["y"], c["x"]),
        "channel": lambda c: O.channel(c["layer"], c["channel"]),
        "channel_energy": lambda c: O.channel_energy(c["layer"], c["channel"]),
        "layer": lambda c: O.layer(c["layer"]),
        "direction": lambda c: O.direction(c["layer"], archive[c["vector"]]),
        "cotangent": lambda c: O.cotangent(c["layer"], archive[c["array"]]),
    }
    for case in json.loads(str(archive["cases"])):
        prefix = case["prefix"]
        objective = make[case["kind"]](case)
        yield GoldenCase(prefix, objective, archive[f"{prefix}/value"], archive[f"{prefix}/gradient"])


def _archive() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "digits.npz") as archive:
        return dict(archive)
