"""Measures the statistics of every BatchNormalization on data, and writes them in place of the running ones.

In the order of depth: the first layers' inputs depend on no statistics, so theirs are measured and written; then those of
the layers that have only repaired ones before them, and so on. Each level is one pass over all data, in which the means and
variances are streamed in float64 (`moments`). This gives exactly what a single batch of all the data would in training
form. One pass over smaller batches in training form would not: there each batch is normalized by statistics of its own.

Nodes that share all of their parameters (a siamese network's branches) are measured together, over all of their uses, at the
depth of the first. Statistics that are shared otherwise (exporters write equal constants once) become each node's own.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from gradserve_server.graph.autodiff.emitter import initializer
from gradserve_server.graph.doctor.finding import label
from gradserve_server.graph.inference_form.switch_mode import constant_behind
from gradserve_server.graph.repairs import CannotRepair
from gradserve_server.graph.values import is_op, unused_name
from gradserve_server.runtime.doctor.moments import FEW, Moments
from gradserve_server.runtime.doctor.samples import Samples
from gradserve_server.runtime.doctor.watch import Watch
from gradserve_server.runtime.session import Array

MEAN, VARIANCE = 3, 4
"""Inputs of a BatchNormalization."""

Parameters = tuple[ir.Value | None, ...]
"""Scale, offset, mean, variance, by which nodes belong together."""
Groups = Mapping[Parameters, Sequence[ir.Node]]


def recalibrate(model: ir.Model, samples: Samples, threads: int) -> list[str]:
    """Replaces all running statistics, in place.

    Args:
        model: With nothing in training form and nothing folded.
        samples: What the statistics are to be of.
        threads: Of a run.

    Raises:
        CannotRepair: Statistics that are no constants; too little data; data on which a channel is not finite.
    """
    groups = groups_of(model)
    if not groups:
        msg = "there is no BatchNormalization in the main graph"
        raise CannotRepair(msg)
    done = []
    for level in _levels(model, groups):
        measured = _measure(model, {key: groups[key] for key in level}, samples, threads)
        for key, moments in measured.items():
            nodes = groups[key]
            if moments.count < FEW:
                got = f"got {moments.count}: give more data"
                msg = f"node '{label(nodes[0])}': expected at least {FEW} values of each channel, {got}"
                raise CannotRepair(msg)
            if not (np.isfinite(moments.mean).all() and np.isfinite(moments.variance).all()):
                msg = f"node '{label(nodes[0])}': what it normalizes is not finite on this data"
                raise CannotRepair(msg)
            _write(model.graph, nodes, MEAN, moments.mean)
            _write(model.graph, nodes, VARIANCE, moments.variance)
            done.append(f"measured {', '.join(map(label, nodes))} on {moments.count} values of each channel")
    everywhere = ir.traversal.RecursiveGraphIterator(model.graph)
    inner = [label(node) for node in everywhere if is_op(node, "BatchNormalization") and node.graph is not model.graph]
    return done + ([f"left {', '.join(inner)} as it was: inside a subgraph nothing is measured"] if inner else [])


def groups_of(model: ir.Model) -> Groups:
    """The BatchNormalizations of the main graph, those together that share all parameters."""
    groups: dict[Parameters, list[ir.Node]] = defaultdict(list)
    for node in model.graph:
        if is_op(node, "BatchNormalization"):
            groups[tuple(node.inputs[1:5])].append(node)
    return groups


def _levels(model: ir.Model, groups: Groups) -> Iterator[list[Parameters]]:
    """Groups by how many BatchNormalizations lie before their first node, on the longest way."""
    member = {node: key for key, nodes in groups.items() for node in nodes}
    depth: dict[ir.Value, int] = defaultdict(int)
    first: dict[Parameters, int] = {}
    for node in model.graph:
        before = max((depth[value] for value in node.inputs if value is not None), default=0)
        if node in member:
            first[member[node]] = min(before, first.get(member[node], before))
            before += 1
        depth.update(dict.fromkeys(node.outputs, before))
    for level in sorted(set(first.values())):
        yield [key for key, at in first.items() if at == level]


def _measure(model: ir.Model, groups: Groups, samples: Samples, threads: int) -> dict[Parameters, Moments]:
    """The moments of what the nodes of each group normalize."""
    moments = {key: Moments(_statistic(nodes[0], MEAN)) for key, nodes in groups.items()}
    watched = [(moments[key], node.inputs[0]) for key, nodes in groups.items() for node in nodes]
    watch = Watch(model, (value.name or "" for _, value in watched if value is not None), threads)
    for feeds in samples.runs():
        values = watch.run(feeds)
        for seen, value in watched:
            if value is not None:
                seen.add(values[value.name or ""])
    return moments


def _statistic(node: ir.Node, index: int) -> Array:
    found = constant_behind(node.inputs[index])
    if found is None:
        msg = f"node '{label(node)}': its running statistics are not constants"
        raise CannotRepair(msg)
    return found


def _write(graph: ir.Graph, nodes: Sequence[ir.Node], index: int, array: Array) -> None:
    old = _statistic(nodes[0], index)
    value, new = nodes[0].inputs[index], array.astype(old.dtype)
    assert value is not None
    if value.is_initializer() and {(node, at) for node, at in value.uses()} == {(node, index) for node in nodes}:
        value.const_value = ir.tensor(new, name=value.name)
        return
    own = initializer(graph, unused_name(f"{value.name}/measured", graph.initializers), new)
    for node in nodes:
        node.replace_input_with(index, own)
