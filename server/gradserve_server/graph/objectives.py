"""Objectives as graph: how a layer's value becomes one scalar per sample, and what that sends back.

Every objective of one layer is linear or quadratic in it, with weights W that are known only at run time:

    linear:     f_n = sum(W[n] * A[n])        d f_n / d A[n] = W[n]
    quadratic:  f_n = sum(W[n] * A[n]^2)      d f_n / d A[n] = 2 * W[n] * A[n]

W is an input of the graph, of the layer's rank, each axis the layer's size or 1. So one graph serves every channel, unit and
cotangent of a layer. `_WEIGHTS` says what W is for each kind of term.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gradserve.errors import InvalidObjective
from gradserve.objectives import Channel, ChannelEnergy, Cotangent, Direction, LayerEnergy, Neuron, Term, Unit
from gradserve_server.graph.autodiff.names import cotangent_name
from gradserve_server.graph.reduce import sum_per_sample
from gradserve_server.graph.values import opset_of

VALUE = "objective/value"
"""The output of an objective: [N]."""

Weights = npt.NDArray[Any]


class Form(StrEnum):
    """How an objective depends on its layer."""

    LINEAR = "linear"
    QUADRATIC = "quadratic"


@dataclass(frozen=True, order=True)
class Head:
    """One layer and one form: what a graph is built for."""

    layer: str
    form: Form

    @property
    def weights_name(self) -> str:
        """The graph input that holds W."""
        return f"objective/{self.form}/{self.layer}"


# ---- weights ---------------------------------------------------------------------------------------------------------

Shape = tuple[int, ...]


def _unit(term: Unit, shape: Shape) -> Weights:
    _index(term, "index", term.index, int(np.prod(shape)))
    return _one_hot(shape, np.unravel_index(term.index, shape))


def _neuron(term: Neuron, shape: Shape) -> Weights:
    spatial = shape[1:]
    position = term.position or tuple(size // 2 for size in spatial)
    if len(position) != len(spatial):
        msg = f"layer '{term.layer}': expected {len(spatial)} numbers for a position, got {len(position)}"
        raise InvalidObjective(msg)
    for name, index, size in zip(("channel", *"yxzw"), (term.channel, *position), shape, strict=False):
        _index(term, name, index, size)
    return _one_hot(shape, (term.channel, *position))


def _channel(term: Channel, shape: Shape) -> Weights:
    one_hot = _along_channels(term, shape)
    return one_hot * (one_hot.size / np.prod(shape))


def _along_channels(term: Channel | ChannelEnergy, shape: Shape) -> Weights:
    rank = len(shape) + 1
    axis = (term.axis + rank if term.axis < 0 else term.axis) - 1
    if not 0 <= axis < len(shape):
        msg = f"layer '{term.layer}': expected a channel axis from 1 to {len(shape)}, got {term.axis}"
        raise InvalidObjective(msg)
    _index(term, "channel", term.channel, shape[axis])
    index = [0] * len(shape)
    index[axis] = term.channel
    return _one_hot(tuple(size if i == axis else 1 for i, size in enumerate(shape)), tuple(index))


def _layer(term: LayerEnergy, shape: Shape) -> Weights:  # noqa: ARG001
    return np.full([1] * len(shape), 1.0 / np.prod(shape))


def _direction(term: Direction, shape: Shape) -> Weights:
    if term.vector.shape != shape[:1]:
        msg = f"layer '{term.layer}': expected a direction of shape {list(shape[:1])}, got {list(term.vector.shape)}"
        raise InvalidObjective(msg)
    positions = int(np.prod(shape[1:]))
    return np.asarray(term.vector, np.float64).reshape(-1, *[1] * (len(shape) - 1)) / positions


@dataclass(frozen=True)
class _Kind:
    form: Form
    weights: Callable[[Any, Shape], Weights] | None
    """One sample's W, from the term and the layer's shape without its batch axis."""


_WEIGHTS: dict[type[Term], _Kind] = {
    Unit: _Kind(Form.LINEAR, _unit),
    Neuron: _Kind(Form.LINEAR, _neuron),
    Channel: _Kind(Form.LINEAR, _channel),
    ChannelEnergy: _Kind(Form.QUADRATIC, _along_channels),
    LayerEnergy: _Kind(Form.QUADRATIC, _layer),
    Direction: _Kind(Form.LINEAR, _direction),
    Cotangent: _Kind(Form.LINEAR, None),  # differs from sample to sample: see `weights`
}


def heads(terms: Sequence[tuple[float, Term]]) -> tuple[Head, ...]:
    """What graph the terms need, in a canonical order."""
    return tuple(sorted({Head(term.layer, _WEIGHTS[type(term)].form) for _, term in terms}))


def weights(terms: Sequence[tuple[float, Term]], shapes: dict[str, Shape], dtypes: dict[str, str]) -> dict[str, Weights]:
    """The run-time inputs of an objective's graph.

    Args:
        terms: Scales and terms.
        shapes: The layers' shapes, with the batch axis.
        dtypes: Their element types.

    Returns:
        W for each head, by `Head.weights_name`; scaled, and terms of the same head added.

    Raises:
        InvalidObjective: A term does not fit its layer.
    """
    feeds: dict[str, Weights] = {}
    for scale, term in terms:
        shape = shapes[term.layer]
        kind = _WEIGHTS[type(term)]
        one = (
            _cotangent(term, shape) if isinstance(term, Cotangent) else kind.weights(term, shape[1:])[np.newaxis]  # type: ignore[misc]
        )
        name = Head(term.layer, kind.form).weights_name
        scaled = np.asarray(one * scale, dtypes[term.layer])
        feeds[name] = feeds[name] + scaled if name in feeds else scaled
    return feeds


def _cotangent(term: Cotangent, shape: Shape) -> Weights:
    if term.array.shape not in (shape, (1, *shape[1:])):
        msg = f"layer '{term.layer}': expected a cotangent of shape {list(shape)}, got {list(term.array.shape)}"
        raise InvalidObjective(msg)
    return np.asarray(term.array)


def _one_hot(shape: Shape, index: tuple[Any, ...]) -> Weights:
    weights = np.zeros(shape)
    weights[index] = 1.0
    return weights


def _index(term: Term, name: str, index: int, size: int) -> None:
    if not 0 <= index < size:
        msg = f"layer '{term.layer}': expected {name} from 0 to {size - 1}, got {index}"
        raise InvalidObjective(msg)


# ---- graph -----------------------------------------------------------------------------------------------------------


def append_heads(vjp: ir.Model, wanted: Sequence[Head]) -> None:
    """Puts an objective in front of a vector-Jacobian product, in place.

    Every cotangent input is replaced by the objective's derivative with respect to that layer; the model gets the inputs
    `Head.weights_name` and, first among its outputs, `VALUE` [N]. The layers are no longer outputs.
    """
    graph, opset = vjp.graph, opset_of(vjp)
    nodes: list[ir.Node] = []

    def emit(op: str, inputs: Sequence[ir.Value], name: str, like: ir.Value) -> ir.Value:
        node = ir.node(op, list(inputs), name=name)
        out = node.outputs[0]
        out.name, out.type, out.shape = name, like.type, like.shape
        nodes.append(node)
        return out

    layers = {value.name: value for value in graph.outputs}
    cotangents: dict[str, list[ir.Value]] = {}
    values: list[ir.Value] = []
    for head in wanted:
        layer, name = layers[head.layer], head.weights_name
        rank = None if layer.shape is None else len(layer.shape)
        shape = None if rank is None else ir.Shape([f"{name}/{axis}" for axis in range(rank)])
        weight = ir.Value(name=name, type=layer.type, shape=shape)
        graph.inputs.append(weight)
        weighted = emit("Mul", [layer, weight], f"{name}/weighted", layer)
        if head.form is Form.LINEAR:
            # The layer's own size, without a copy where the weights have it already.
            size = emit("Shape", [layer], f"{name}/size", layer)
            size.type, size.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([rank])
            cotangent = emit("Expand", [weight, size], f"{name}/cotangent", layer)
            product = weighted
        else:
            cotangent = emit("Mul", [weighted, _scalar(graph, f"{name}/two", 2.0, layer)], f"{name}/cotangent", layer)
            product = emit("Mul", [weighted, layer], f"{name}/square", layer)
        cotangents.setdefault(head.layer, []).append(cotangent)
        summed = sum_per_sample(graph, product, opset, f"{name}/value")
        nodes += summed
        values.append(summed[-1].outputs[0])

    def add(parts: list[ir.Value], name: str) -> ir.Value:
        total, *rest = parts
        for number, part in enumerate(rest):
            total = emit("Add", [total, part], f"{name}/{number}", total)
        return total

    for layer_name, parts in cotangents.items():
        old = next(value for value in graph.inputs if value.name == cotangent_name(layer_name))
        ir.convenience.replace_all_uses_with(old, add(parts, f"{old.name}/sum"), replace_graph_outputs=True)
        graph.inputs.remove(old)
    value = add(values, "objective/sum")
    value.name = VALUE
    graph.outputs[:] = [value, *(out for out in graph.outputs if out.name not in layers or out.name not in cotangents)]
    graph.extend(nodes)
    graph.sort()


def _scalar(graph: ir.Graph, name: str, number: float, like: ir.Value) -> ir.Value:
    tensor = ir.tensor(np.asarray(number, like.dtype.numpy() if like.dtype is not None else np.float32), name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape([]), const_value=tensor)
    graph.register_initializer(value)
    return value
