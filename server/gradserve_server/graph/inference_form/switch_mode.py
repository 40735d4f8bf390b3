"""Switches nodes that the file left in training form to inference form, or refuses with the node's name.

How a node says that it is in training form depends on the opset:

| operator | opset | training form |
|---|---|---|
| BatchNormalization | 1-6 | `is_test` = 0, which is its default |
| BatchNormalization | 7-13 | more than one output |
| BatchNormalization | 14- | `training_mode` = 1 |
| Dropout | 1-6 | `is_test` = 0, which is its default |
| Dropout | 12- | third input true, or not known before the run |

What is older than opset 7 is never run: it is switched so that it can be converted (`graph.repairs`).

BatchNormalization is switched only where its statistics were trained: a running mean of all 0 and variance of all 1 is what
a network has before it has seen any data, and predictions made with it mean nothing.

Where what it normalizes is a constant, the statistics are that constant's own and nothing is switched: so torch's
TorchScript exporter writes a weight that is standardized (NFNet).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gradserve.errors import InvalidModel
from gradserve_server.graph.autodiff.emitter import initializer
from gradserve_server.graph.values import attribute, constant, describe, is_op, opset_of, supersede

FIRST_WITHOUT_IS_TEST = 7


def switch_mode(model: ir.Model, *, untrained: bool = False) -> list[str]:
    """Switches every node in training form, in place. A Dropout becomes an Identity in any case.

    Args:
        model: With constants lifted to initializers.
        untrained: Whether untrained statistics will do, because they are replaced next.

    Returns:
        What was switched, in words.

    Raises:
        InvalidModel: Statistics are untrained or not constant, or a Dropout's mask is used.
    """
    opset = opset_of(model)
    done: list[str] = []
    for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
        if is_op(node, "BatchNormalization") and batchnorm_trains(node, opset):
            if _normalized_constant(node):
                done.append(f"computed {describe(node, opset)}, which normalizes a constant")
            else:
                _check_statistics(node, opset, untrained=untrained)
                _switch_batchnorm(node, opset)
                done.append(f"switched {describe(node, opset)} from training to inference form")
        elif is_op(node, "BatchNormalization") and extra_outputs(node):
            _switch_batchnorm(node, opset)
            done.append(f"dropped the statistics that {describe(node, opset)} gives, which exist only in training form")
    return done + switch_off_dropout(model)


def switch_off_dropout(model: ir.Model) -> list[str]:
    """Every Dropout becomes an Identity, in place; nothing else changes.

    Returns:
        Those that were in training form, in words.

    Raises:
        InvalidModel: A mask is used.
    """
    opset, done = opset_of(model), []
    for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
        if not is_op(node, "Dropout"):
            continue
        if used(node.outputs[1:]):
            msg = f"{describe(node, opset)}: expected an unused mask output, got one that is used"
            raise InvalidModel(msg)
        if dropout_trains(node, opset):
            done.append(f"switched off {describe(node, opset)}, which was in training form")
        _pass_through(node, node.inputs[0], node.outputs[0])
        _remove(node)
    return done


def batchnorm_trains(node: ir.Node, opset: int) -> bool:
    """Whether a BatchNormalization is in training form."""
    if opset < FIRST_WITHOUT_IS_TEST:
        return attribute(node, "is_test", 0) == 0
    if opset < 14:
        return bool(extra_outputs(node))
    return attribute(node, "training_mode", 0) == 1


def extra_outputs(node: ir.Node) -> list[ir.Value]:
    """The statistics that a BatchNormalization gives beside its result."""
    return [value for value in node.outputs[1:] if value.name]


def is_untrained(mean: npt.ArrayLike, variance: npt.ArrayLike) -> bool:
    """Whether running statistics are those that a network has before it has seen any data."""
    return bool(np.all(np.asarray(mean) == 0) and np.all(np.asarray(variance) == 1))


def _check_statistics(node: ir.Node, opset: int, *, untrained: bool) -> None:
    mean, variance = (constant_behind(value) for value in node.inputs[3:5])
    if mean is None or variance is None:
        msg = f"{describe(node, opset)}: is in training form and its statistics are not constants; export in evaluation mode"
        raise InvalidModel(msg)
    if is_untrained(mean, variance) and not untrained:
        msg = (
            f"{describe(node, opset)}: is in training form and its statistics are untrained (mean 0, variance 1); "
            "write the trained statistics back and export in evaluation mode"
        )
        raise InvalidModel(msg)


def _switch_batchnorm(node: ir.Node, opset: int) -> None:
    # In inference form the running statistics pass through unchanged (outputs 1 and 2); the saved ones do not exist.
    for value, statistic in zip(node.outputs[1:3], node.inputs[3:5], strict=False):
        if used([value]):
            _pass_through(node, statistic, value)
    if used(node.outputs[3:]):
        msg = f"{describe(node, opset)}: expected its batch statistics unused, got readers; they exist only in training"
        raise InvalidModel(msg)
    node.resize_outputs(1)
    node.attributes.pop("training_mode", None)
    if opset < FIRST_WITHOUT_IS_TEST:
        node.attributes["is_test"] = ir.AttrInt64("is_test", 1)


def _normalized_constant(node: ir.Node) -> bool:
    """Computes the node if it normalizes a constant: (x - mean(x)) / sqrt(var(x) + epsilon) * scale + offset, by channel."""
    x, scale, offset = (constant_behind(value) for value in node.inputs[:3])
    if x is None or scale is None or offset is None:
        return False
    if used(node.outputs[1:]) or node.outputs[0].is_graph_output():
        return False
    wide = x.astype(np.float64)
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    by_channel = [-1 if axis == 1 else 1 for axis in range(x.ndim)]
    centred = wide - wide.mean(axes, keepdims=True)
    deviation = np.sqrt(wide.var(axes, keepdims=True) + attribute(node, "epsilon", 1e-5))
    y = centred / deviation * scale.reshape(by_channel) + offset.reshape(by_channel)
    out, graph = node.outputs[0], node.graph
    assert isinstance(graph, ir.Graph)
    name, out.name = out.name or "", None
    ir.convenience.replace_all_uses_with(out, initializer(graph, name, y.astype(x.dtype)))
    _remove(node)
    return True


def constant_behind(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    """A constant, also one that is shared by an Identity."""
    while value is not None and (node := value.producer()) is not None and is_op(node, "Identity"):
        value = node.inputs[0]
    return constant(value)


def dropout_trains(node: ir.Node, opset: int) -> bool:
    """Whether a Dropout drops, or may."""
    if opset < FIRST_WITHOUT_IS_TEST:
        return attribute(node, "is_test", 0) == 0
    mode = node.inputs[2] if len(node.inputs) > 2 else None
    if mode is None:
        return False
    known = constant(mode)
    return known is None or bool(known)


def _pass_through(node: ir.Node, x: ir.Value | None, y: ir.Value) -> None:
    """The node's output y becomes x, by an Identity that `drop_identities` removes where it may."""
    identity = ir.node("Identity", [x], name=f"{node.name}/{y.name}")
    node.append(identity)
    supersede(y, identity.outputs[0])


def _remove(node: ir.Node) -> None:
    assert node.graph is not None
    node.graph.remove(node, safe=True)


def used(values: Sequence[ir.Value]) -> bool:
    """Whether anything reads one of the values, or the model gives it."""
    return any(value.uses() or value.is_graph_output() for value in values)
