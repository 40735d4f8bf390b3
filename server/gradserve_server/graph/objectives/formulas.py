"""What heads compute, as nodes: the value of each form, and what it sends back to its layer.

Linear and quadratic heads send back what is known in closed form, without a copy. The others are differentiated by the
portable backend's walk over the nodes of their value.
"""

from collections.abc import Callable, Mapping

import onnx_ir as ir

from gradserve.errors import InvalidObjective
from gradserve_server.graph.autodiff.emitter import Emitter, Expr
from gradserve_server.graph.autodiff.reverse import pull_back
from gradserve_server.graph.objectives.forms import WEIGHTS, Form, Head

Inputs = Mapping[str, Expr]
"""By their name in `forms.INPUTS`."""

FLOOR = 0.1
"""The least cosine, in Lucid."""

EPSILON = 1e-4
"""Added to each length in a cosine, in Lucid."""

NEIGHBOURS = 4
"""How far alignment reaches, in Lucid."""

LEAST_SQUARE = 1e-10
"""Of a Gram matrix's length, in Lucid."""

_ROWS = 2
"""The rank of what is flat."""


def value_and_cotangent(g: Emitter, head: Head, layer: Expr, inputs: Inputs) -> tuple[Expr, Expr]:
    """The head's value [N], and the derivative of the sum of its values with respect to the layer."""
    if head.form is Form.LINEAR:
        weights = inputs[WEIGHTS]
        return _sum(g, layer * weights), g.expand_like(weights, layer)
    if head.form is Form.QUADRATIC:
        weighted = layer * inputs[WEIGHTS]
        return _sum(g, weighted * layer), weighted * 2
    # As large as they are in the end: where sizes are known to agree, no broadcast is to be undone on the way back.
    inputs = {what: _for_each_sample(g, x, layer) for what, x in inputs.items()}
    start = len(g.nodes)
    value = _VALUES[head.form](g, head, layer, inputs)
    seed = g.expand_like(g.const(1, value.dtype), value)
    (cotangent,) = pull_back(g, g.nodes[start:], {value.value: seed}, [layer.value]).values()
    return value, cotangent


def _direction(g: Emitter, head: Head, layer: Expr, inputs: Inputs) -> Expr:
    agreement = _agreement(g, _channels(g, head, layer), inputs["vector"], inputs["power"])
    return g.sum(agreement * inputs[WEIGHTS], [1], keepdims=False)


def _caricature(g: Emitter, head: Head, layer: Expr, inputs: Inputs) -> Expr:  # noqa: ARG001
    whole, target = (g.op("Unsqueeze", x, g.ints(2)) for x in (_flat(g, layer), inputs["target"]))
    return g.sum(_agreement(g, whole, target, inputs["power"]), [1], keepdims=False) * inputs[WEIGHTS]


def _agreement(g: Emitter, a: Expr, v: Expr, power: Expr) -> Expr:
    """dot * max(0.1, cos)^power over axis 1, [N, positions], as Lucid's `_dot_cossim`."""
    dot = g.sum(a * v, [1], keepdims=False)
    cosine = dot / (_length(g, a) + EPSILON) / (_length(g, v) + EPSILON)
    return dot * g.op("Max", cosine, FLOOR) ** power


def _length(g: Emitter, x: Expr) -> Expr:
    """Over axis 1. Its derivative is 0 at 0, where that of a root is infinite: activations after a ReLU are often all 0."""
    square = g.sum(x * x, [1], keepdims=False)
    positive = square > 0
    return g.where(positive, g.op("Sqrt", g.where(positive, square, 1)), 0)


def _matching(g: Emitter, head: Head, layer: Expr, inputs: Inputs) -> Expr:  # noqa: ARG001
    return _square(g, _flat(g, layer) - inputs["target"]) * inputs[WEIGHTS]


def _style(g: Emitter, head: Head, layer: Expr, inputs: Inputs) -> Expr:
    difference = _gram(g, head, layer) * inputs["share"] - inputs["target"]
    return _square(g, _flat(g, difference)) * inputs[WEIGHTS]


def _alignment(g: Emitter, head: Head, layer: Expr, inputs: Inputs) -> Expr:  # noqa: ARG001
    a = _flat(g, layer)
    count, index = _samples(g, a)
    total: Expr | None = None
    for step in range(1, NEIGHBOURS + 1):
        ahead, behind = index + step, index - step
        neighbour = g.op("Gather", a, g.op("Min", ahead, count - 1), axis=0)
        distance = _square(g, a - neighbour) * g.cast(ahead < count, a.dtype)
        from_behind = g.op("Gather", distance, g.op("Max", behind, 0), axis=0) * g.cast(behind >= 0, a.dtype)
        both = (distance + from_behind) * inputs["decay"] ** float(-step)
        total = both if total is None else total + both
    assert total is not None
    return total * inputs[WEIGHTS]


def _diversity(g: Emitter, head: Head, layer: Expr, inputs: Inputs) -> Expr:
    gram = _flat(g, _gram(g, head, layer))
    unit = gram / g.op("Sqrt", g.op("Max", g.sum(gram * gram, [1]), LEAST_SQUARE))
    cosines = g.op("MatMul", unit, g.transpose(unit, [1, 0]))
    _, index = _samples(g, gram)
    others = g.op("Not", g.unsqueeze(index, [1]).equals(g.unsqueeze(index, [0])))
    return g.sum(cosines * g.cast(others, gram.dtype), [1], keepdims=False) * inputs[WEIGHTS]


_VALUES: Mapping[Form, Callable[[Emitter, Head, Expr, Inputs], Expr]] = {
    Form.DIRECTION: _direction,
    Form.CARICATURE: _caricature,
    Form.MATCHING: _matching,
    Form.STYLE: _style,
    Form.ALIGNMENT: _alignment,
    Form.DIVERSITY: _diversity,
}


def _channels(g: Emitter, head: Head, layer: Expr) -> Expr:
    """[N, C, positions]."""
    if head.axis != 1:
        if layer.shape is None:
            msg = f"layer '{head.layer}': expected a graph that tells the number of its axes, to find axis {head.axis}"
            raise InvalidObjective(msg)
        axis = head.axis % layer.rank
        layer = g.transpose(layer, [0, axis, *(other for other in range(1, layer.rank) if other != axis)])
    return g.op("Reshape", layer, g.ints(0, 0, -1))


def _gram(g: Emitter, head: Head, layer: Expr) -> Expr:
    """[N, C, C]: the sum over positions of the products of channels."""
    channels = _channels(g, head, layer)
    return g.op("MatMul", channels, g.transpose(channels, [0, 2, 1]))


def _flat(g: Emitter, x: Expr) -> Expr:
    """[N, everything else]."""
    return x if x.shape is not None and x.rank == _ROWS else g.op("Flatten", x, axis=1)


def _sum(g: Emitter, x: Expr) -> Expr:
    """Over all but the samples, [N]."""
    return g.sum(_flat(g, x), [1], keepdims=False)


def _square(g: Emitter, flat: Expr) -> Expr:
    """The sum of the squares of each row, [N]."""
    return g.sum(flat * flat, [1], keepdims=False)


def _for_each_sample(g: Emitter, x: Expr, layer: Expr) -> Expr:
    """An input that may have one entry for all of the layer's samples, with one for each."""
    out = g.op("Expand", x, g.concat(g.size(layer, 0), *[1] * (x.rank - 1)))
    if layer.shape is not None and x.shape is not None:
        out.value.shape = ir.Shape([layer.shape[0], *x.shape[1:]])
    return out


def _samples(g: Emitter, x: Expr) -> tuple[Expr, Expr]:
    """How many there are, int64 [1]; and their numbers, int64 [N]."""
    count = g.size(x, 0)
    stop = g.op("Squeeze", count, g.ints(0))
    index = g.op("Range", g.const(0), stop, g.const(1))
    if x.shape is not None:
        index.value.shape = ir.Shape([x.shape[0]])
    return count, index
