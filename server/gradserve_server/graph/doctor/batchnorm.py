"""BatchNormalization: its form, its statistics, what it is shared by."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gradserve.diagnosis import Finding
from gradserve_server.graph.doctor.finding import finding, label
from gradserve_server.graph.doctor.subject import Subject
from gradserve_server.graph.inference_form.fold_batchnorm import EPSILON, is_foldable
from gradserve_server.graph.inference_form.switch_mode import (
    batchnorm_trains,
    constant_behind,
    extra_outputs,
    is_untrained,
    used,
)
from gradserve_server.graph.values import attribute

VANISHING = 1e-3
"""Of epsilon: below it, epsilon alone is what a channel is divided by."""
HUGE = 1e4
"""A running variance from which something exploded: inputs of a layer are of the order of 1, raw pixels of 5e3."""
DEAD = 1e-6
"""A scale, beside the node's largest, that is zero for float32."""
USUAL_EPSILON = (1e-7, 1e-2)


def batchnorm(subject: Subject) -> Iterator[Finding]:
    """Every finding of every BatchNormalization."""
    nodes = list(subject.nodes("BatchNormalization"))
    for node in nodes:
        if constant_behind(node.inputs[0]) is None:  # otherwise it standardizes a weight
            yield from _form(node, subject.opset)
            yield from _statistics(node)
        if is_foldable(node):
            yield finding("batchnorm-foldable", node)
    yield from _shared(nodes)


def _form(node: ir.Node, opset: int) -> Iterator[Finding]:
    trains, extra = batchnorm_trains(node, opset), extra_outputs(node)
    if trains:
        yield finding("batchnorm-training-form", node, _spelling(node, opset))
    if extra and (used(extra) or not trains):
        yield finding("batchnorm-extra-outputs", node, ", ".join(f"'{value.name}'" for value in extra))


def _spelling(node: ir.Node, opset: int) -> str:
    if opset < 7:
        return f"opset {opset}, is_test = 0"
    return f"opset {opset}, {len(node.outputs)} outputs" if opset < 14 else f"opset {opset}, training_mode = 1"


def _statistics(node: ir.Node) -> Iterator[Finding]:
    known = [constant_behind(value) for value in node.inputs[3:5]]
    if any(statistic is None for statistic in known):
        yield finding("batchnorm-statistics-not-constant", node)
        return
    mean, variance = (np.asarray(statistic, np.float64) for statistic in known)
    epsilon = attribute(node, "epsilon", EPSILON)
    invalid = ~np.isfinite(mean) | ~np.isfinite(variance) | (variance < 0)
    if is_untrained(mean, variance):
        yield finding("batchnorm-untrained", node, f"{mean.size} channels")
    if invalid.any():
        yield finding("batchnorm-variance-invalid", node, _channels(invalid))
    vanishing = ~invalid & (variance < VANISHING * epsilon)
    if vanishing.any():
        yield finding("batchnorm-variance-vanishing", node, f"{_channels(vanishing)}; epsilon {epsilon:.1e}")
    huge = ~invalid & (variance > HUGE)
    if huge.any():
        yield finding("batchnorm-variance-huge", node, f"{_channels(huge)}; largest {variance[huge].max():.1e}")
    scale = constant_behind(node.inputs[1])
    if scale is not None:
        size = np.abs(scale.astype(np.float64))
        dead = size <= DEAD * size.max(initial=0.0)
        if dead.any():
            yield finding("batchnorm-scale-dead", node, _channels(dead))
    if not USUAL_EPSILON[0] <= epsilon <= USUAL_EPSILON[1]:
        yield finding("batchnorm-epsilon-unusual", node, f"epsilon {epsilon:.1e}")


def _channels(which: npt.NDArray[np.bool_]) -> str:
    numbers = np.flatnonzero(which)
    few = ", ".join(map(str, numbers[:4])) + (", ..." if len(numbers) > 4 else "")
    return f"{len(numbers)} of {which.size} channels ({few})"


def _shared(nodes: list[ir.Node]) -> Iterator[Finding]:
    """Of all parameters: exporters write equal constants once, so that sharing some of them says nothing."""
    users: dict[tuple[ir.Value | None, ...], list[ir.Node]] = defaultdict(list)
    for node in nodes:
        users[tuple(node.inputs[1:5])].append(node)
    for sharing in users.values():
        if len(sharing) > 1:
            yield finding("batchnorm-shared", sharing[0], f"of {', '.join(map(label, sharing))}")
