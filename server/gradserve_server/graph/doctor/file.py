"""The file itself: versions, other files, weights that are no numbers."""

from collections.abc import Iterator

import numpy as np

from gradserve.diagnosis import Finding
from gradserve_server.graph.doctor.finding import finding
from gradserve_server.graph.doctor.subject import Subject
from gradserve_server.graph.load import MAX_IR_VERSION, MIN_OPSET
from gradserve_server.graph.values import constant

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators whose constants are weights: elsewhere an infinity may mean something, as in a mask."""


def file(subject: Subject) -> Iterator[Finding]:
    """What can be said without looking at the graph's meaning."""
    if subject.opset < MIN_OPSET:
        yield finding("opset-too-old", detail=f"opset {subject.opset}")
    if subject.newest_opset is not None and subject.opset > subject.newest_opset:
        yield finding("opset-too-new", detail=f"opset {subject.opset}, the runtime's newest is {subject.newest_opset}")
    if subject.file.ir_version > MAX_IR_VERSION:
        yield finding("ir-too-new", detail=f"IR version {subject.file.ir_version}, read up to {MAX_IR_VERSION}")
    if subject.file.external:
        yield finding("external-data", detail=f"{subject.file.external} tensors")
    for node in subject.nodes(*WEIGHTED):
        for value in node.inputs[1:]:
            weight = constant(value)
            if weight is not None and weight.dtype.kind == "f" and not np.isfinite(weight).all():
                count = int((~np.isfinite(weight)).sum())
                yield finding("weights-not-finite", node, f"{count} of {weight.size} in '{value.name if value else ''}'")
