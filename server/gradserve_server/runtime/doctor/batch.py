"""Is the first axis the batch? What runs tell, where neither its name nor the graph does (`graph.doctor.batch`).

What normalizes over a batch, or reads from it otherwise, does so whatever the order of the samples. Where the order counts,
as for convolutions, recurrence and positions, or where attention runs along the axis, it is one of the sample's own.
"""

from collections.abc import Mapping

from gradserve.errors import GradserveError
from gradserve_server.graph.values import is_op, opset_of
from gradserve_server.runtime.doctor.patient import Patient
from gradserve_server.runtime.doctor.watch import Watch
from gradserve_server.runtime.session import Array
from gradserve_server.runtime.verify import TOLERANCES, difference

ROWS = 4
"""That are brought into another order."""
EACH_ROW = 13
"""The opset from which Softmax is over one axis; before it is over that and all behind it."""


def why_no_batch(patient: Patient) -> str:
    """Why an axis along which neighbours count is no batch; empty if it may be one."""
    samples = patient.samples
    if samples is None or samples.called_batch:
        return ""
    if all(array.ndim == 1 for array in samples.arrays.values()):
        return "it is the only one"
    if _order_counts(patient, samples.first(ROWS)):
        return "predictions depend on the order along it"
    if _softmax_runs_along(patient, samples.first(2), samples.first(1)):
        return "a Softmax runs along it"
    return ""


def _order_counts(patient: Patient, feeds: Mapping[str, Array]) -> bool:
    count = min(map(len, feeds.values()))
    order = [1, 0, *range(2, count)]
    straight = patient.run(dict(feeds))
    swapped = patient.run({name: array[order] for name, array in feeds.items()})
    return any(
        array.ndim > 0
        and len(array) == count
        and swapped[name].shape == array.shape
        and (tolerance := TOLERANCES.get(array.dtype.name)) is not None
        and not difference(array[order], swapped[name]) <= tolerance
        for name, array in straight.items()
    )


def _softmax_runs_along(patient: Patient, both: Mapping[str, Array], alone: Mapping[str, Array]) -> bool:
    model = patient.switched
    if model is None:
        return False
    is_over_one = opset_of(model) >= EACH_ROW
    axes = dict[str, slice]()
    for node in model.graph:
        if is_op(node, "Softmax", "LogSoftmax") and node.inputs[0] is not None:
            axis = node.attributes.get_int("axis", -1 if is_over_one else 1)
            axes[node.inputs[0].name or ""] = slice(axis, (axis + 1 or None) if is_over_one else None)
    watch = Watch(model, axes, patient.settings["threads"])
    try:
        two, one = watch.run(both), watch.run(alone)
    except GradserveError:
        return False
    return any(two[name].shape[over] != one[name].shape[over] for name, over in axes.items())
