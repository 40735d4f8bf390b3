"""Running statistics beside those of the data, layer by layer; and which ReLUs the data leaves dead.

Everything is seen in the switched form, with the running statistics that the file has: what a layer gets from the layers
before it is what it gets in predictions.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gradserve.diagnosis import Activity, ChannelStatistics, Finding
from gradserve_server.graph.doctor import finding
from gradserve_server.graph.doctor.finding import label
from gradserve_server.graph.inference_form.fold_batchnorm import EPSILON
from gradserve_server.graph.inference_form.switch_mode import constant_behind
from gradserve_server.graph.values import attribute, is_op
from gradserve_server.runtime.doctor.moments import FEW, Float64, Moments
from gradserve_server.runtime.doctor.patient import Patient
from gradserve_server.runtime.doctor.watch import Watch
from gradserve_server.runtime.session import Array

SHOWN = 64
"""Channels of a layer that a diagnosis tells of."""
CONFLICT = 1.0
"""From here on statistics are in conflict: means one deviation apart, or deviations by a factor e. A few samples of the
training data stay below half of that."""
DEAD = 0.9
"""Share of dead units from which a layer is: random features of a few samples are dead for half of the units by chance."""


def measure(patient: Patient) -> tuple[list[ChannelStatistics], list[Activity], list[Finding]]:
    """Runs all samples, and looks at every BatchNormalization and ReLU of the main graph."""
    model, samples = patient.switched, patient.samples
    if model is None or samples is None:
        return [], [], []
    norms = [(node, Moments(mean)) for node in model.graph if (mean := _running_mean(node)) is not None]
    relus = [(node, _Units()) for node in model.graph if is_op(node, "Relu")]
    watched = [(node.inputs[0], seen) for node, seen in norms] + [(node.outputs[0], seen) for node, seen in relus]
    if not watched:
        return [], [], []
    watch = Watch(model, (value.name or "" for value, _ in watched if value is not None), patient.settings["threads"])
    for feeds in samples.runs():
        values = watch.run(feeds)
        for value, seen in watched:
            if value is not None:
                seen.add(values[value.name or ""])
    statistics = [_statistics(node, seen) for node, seen in norms if seen.count >= FEW]
    activity = [Activity(label(node), seen.units, seen.dead, seen.zero) for node, seen in relus if seen.units]
    findings = [*(_conflicts(statistics) if samples.given else ()), *_dead(activity)]
    return statistics, activity, findings


class _Units:
    """What was seen of a ReLU: channels where there are any, else single values."""

    def __init__(self) -> None:
        self._alive: npt.NDArray[np.bool_] | None = None
        self._zeros = self._values = 0

    def add(self, values: Array) -> None:
        """Takes a batch, [N, C, ...]."""
        if values.ndim < 2 or not values.size:
            return
        positive = values > 0
        alive: npt.NDArray[np.bool_] = np.any(positive, axis=tuple(axis for axis in range(values.ndim) if axis != 1))
        self._alive = alive if self._alive is None else self._alive | alive
        self._zeros += int(values.size - positive.sum())
        self._values += values.size

    @property
    def units(self) -> int:
        return 0 if self._alive is None else self._alive.size

    @property
    def dead(self) -> float:
        return 0.0 if self._alive is None else float(1 - self._alive.mean())

    @property
    def zero(self) -> float:
        return self._zeros / max(1, self._values)


def _running_mean(node: ir.Node) -> Array | None:
    """Of a BatchNormalization whose statistics are known."""
    if not is_op(node, "BatchNormalization") or constant_behind(node.inputs[4]) is None:
        return None
    return constant_behind(node.inputs[3])


def _statistics(node: ir.Node, seen: Moments) -> ChannelStatistics:
    mean, variance = (np.asarray(constant_behind(value), np.float64).ravel() for value in node.inputs[3:5])
    observed_mean, observed_variance = seen.mean.ravel(), seen.variance.ravel()
    apart = conflict(mean, variance, observed_mean, observed_variance, attribute(node, "epsilon", EPSILON))
    shown = np.unique(np.linspace(0, mean.size - 1, min(SHOWN, mean.size)).astype(int))
    columns = (mean, variance, observed_mean, observed_variance)
    told = [tuple(column[shown].tolist()) for column in columns]
    return ChannelStatistics(label(node), tuple(shown.tolist()), told[0], told[1], told[2], told[3], apart)


def conflict(mean: Float64, variance: Float64, observed_mean: Float64, observed_variance: Float64, epsilon: float) -> float:
    """How far running and observed statistics are apart; infinite where a running variance is none.

    Returns:
        The median over channels of |ln(ratio of variances)| / 2 + |difference of means| / running deviation, epsilon added
        to both variances.
    """
    running, observed = variance + epsilon, observed_variance + epsilon
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.abs(np.log(observed / running)) / 2 + np.abs(observed_mean - mean) / np.sqrt(running)
    return float(np.median(np.where(np.isfinite(apart), apart, np.inf)))


def _conflicts(statistics: list[ChannelStatistics]) -> Iterator[Finding]:
    for one in statistics:
        if not one.conflict < CONFLICT:
            yield finding("batchnorm-statistics-conflict", one.node, f"conflict {one.conflict:.2g}, where 1 is too much")


def _dead(activity: list[Activity]) -> Iterator[Finding]:
    for one in activity:
        if one.dead >= DEAD:
            yield finding("relu-dead", one.node, f"{one.dead:.0%} of {one.units} units")
