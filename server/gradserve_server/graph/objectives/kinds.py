"""What each kind of term feeds to the graph of its form."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve.errors import InvalidObjective, TooLarge
from gradserve.numbers import Linear, Schedule, scheduled
from gradserve.objectives import (
    Alignment,
    Caricature,
    Channel,
    ChannelEnergy,
    Cotangent,
    Direction,
    DirectionNeuron,
    Diversity,
    InterpolatedChannel,
    LayerEnergy,
    Matching,
    Neuron,
    Scaled,
    Style,
    Term,
    Unit,
)
from gradserve_server.graph.objectives.forms import ADDED, WEIGHTS, Form, Head

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

MAX_APART = 16
"""Heads of one graph that no other term shares: a tenth of a second each, when the graph is made."""

MAX_GRAM_NUMBERS = 2**26
"""In the Gram matrices of all samples together: 256 MiB of float32."""


@dataclass(frozen=True)
class Fed:
    """What one term feeds, axis 0 being the samples or 1."""

    weights: Array
    """W, yet to be scaled."""
    others: Mapping[str, Array]
    """By their names in `forms.INPUTS`."""


# ---- weights only ----------------------------------------------------------------------------------------------------
# Of one sample, from the shape of one sample.


def _unit(term: Unit, shape: Shape) -> Array:
    _index(term, "index", term.index, math.prod(shape))
    return _one_hot(shape, np.unravel_index(term.index, shape))


def _neuron(term: Neuron, shape: Shape) -> Array:
    position = _position(term, term.position, shape[1:])
    _index(term, "channel", term.channel, shape[0] if shape else 0)
    return _one_hot(shape, (term.channel, *position))


def _along_channels(term: Channel | ChannelEnergy | InterpolatedChannel, shape: Shape) -> Array:
    axis = _axis(term, term.axis, shape)
    _index(term, "channel", term.channel, shape[axis])
    index = [0] * len(shape)
    index[axis] = term.channel
    return _one_hot(tuple(size if i == axis else 1 for i, size in enumerate(shape)), tuple(index))


def _channel(term: Channel | InterpolatedChannel, shape: Shape) -> Array:
    one_hot = _along_channels(term, shape)
    return one_hot * (one_hot.size / math.prod(shape))


def _layer(term: LayerEnergy, shape: Shape) -> Array:  # noqa: ARG001
    return np.full([1] * len(shape), 1.0 / math.prod(shape))


def _flat_direction(term: Direction, shape: Shape) -> Array:
    axis = _check_vector(term, shape)
    across = [1] * len(shape)
    across[axis] = shape[axis]
    return np.asarray(term.vector, np.float64).reshape(across) / (math.prod(shape) // shape[axis])


def _flat_direction_neuron(term: DirectionNeuron, shape: Shape) -> Array:
    axis = _check_vector(term, shape)
    spatial = (*shape[:axis], *shape[axis + 1 :])
    position = _position(term, term.position, spatial)
    # The channels last, then where they belong.
    weights = np.zeros((*spatial, shape[axis]))
    weights[position] = term.vector
    return np.moveaxis(weights, -1, axis)


def _of_one(weights: Callable[[Any, Shape], Array], term: Term, shape: Shape) -> Fed:
    return Fed(weights(term, shape[1:])[np.newaxis], {})


# ---- those that differ from sample to sample, or need more than weights ----------------------------------------------


def _interpolated(term: InterpolatedChannel, shape: Shape) -> Fed:
    share = np.arange(shape[0]) / max(shape[0] - 1, 1)
    share = 1 - share if term.falling else share
    return Fed(share.reshape(-1, *[1] * (len(shape) - 1)) * _channel(term, shape[1:]), {})


def _cotangent(term: Cotangent, shape: Shape) -> Fed:
    return Fed(_like(term, "a cotangent", shape), {})


def _direction(term: Direction, shape: Shape) -> Fed:
    axis = _check_vector(term, shape[1:])
    positions = math.prod(shape[1:]) // shape[1:][axis]
    return Fed(np.full((1, 1), 1 / positions), _vector(term))


def _direction_neuron(term: DirectionNeuron, shape: Shape) -> Fed:
    axis = _check_vector(term, shape[1:])
    spatial = (*shape[1:][:axis], *shape[1:][axis + 1 :])
    return Fed(_one_hot(spatial, _position(term, term.position, spatial)).reshape(1, -1), _vector(term))


def _vector(term: Direction | DirectionNeuron) -> dict[str, Array]:
    return {"vector": term.vector.reshape(1, -1, 1), "power": np.full((1, 1), term.cosine_power)}


def _caricature(term: Caricature, shape: Shape) -> Fed:
    target = _flat(_like(term, "activations", shape))
    return Fed(np.ones(1), {"target": target, "power": np.full((1, 1), _power(term))})


def _matching(term: Matching, shape: Shape) -> Fed:
    return Fed(np.full(1, -1 / math.prod(shape[1:])), {"target": _flat(_like(term, "activations", shape))})


def _style(term: Style, shape: Shape) -> Fed:
    axis = _axis(term, term.axis, shape[1:]) + 1
    channels, array = shape[axis], term.array
    if array.ndim != len(shape) or array.shape[axis] != channels or array.shape[0] not in (1, shape[0]) or not array.size:
        expected = [*("1 or N" if i == 0 else str(channels) if i == axis else "?" for i in range(len(shape)))]
        msg = f"layer '{term.layer}': expected activations of shape [{', '.join(expected)}], got {list(array.shape)}"
        raise InvalidObjective(msg)
    _check_gram(term, shape[0], channels)
    target = np.moveaxis(array.astype(np.float64), axis, 1).reshape(array.shape[0], channels, -1)
    gram = target @ target.transpose(0, 2, 1) / target.shape[2]
    share = channels / math.prod(shape[1:])
    return Fed(np.full(1, -1 / (4 * channels**2)), {"target": gram, "share": np.full((1, 1, 1), share)})


def _alignment(term: Alignment, shape: Shape) -> Fed:
    if not 0 < term.decay < math.inf:
        msg = f"layer '{term.layer}': expected a decay above 0, got {term.decay}"
        raise InvalidObjective(msg)
    return Fed(np.full(1, -1 / (2 * math.prod(shape[1:]))), {"decay": np.full(1, term.decay)})


def _diversity(term: Diversity, shape: Shape) -> Fed:
    _check_gram(term, shape[0], shape[1:][_axis(term, term.axis, shape[1:])])
    return Fed(np.ones(1), {})


# ---- the table -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Kind:
    form: Form
    feed: Callable[[Any, Shape], Fed]
    """From the term and the layer's shape."""
    plain: "_Kind | None" = None
    """What it is where the power of its cosine is 0."""


_KINDS: Mapping[type[Term], _Kind] = {
    Unit: _Kind(Form.LINEAR, partial(_of_one, _unit)),
    Neuron: _Kind(Form.LINEAR, partial(_of_one, _neuron)),
    Channel: _Kind(Form.LINEAR, partial(_of_one, _channel)),
    ChannelEnergy: _Kind(Form.QUADRATIC, partial(_of_one, _along_channels)),
    LayerEnergy: _Kind(Form.QUADRATIC, partial(_of_one, _layer)),
    Cotangent: _Kind(Form.LINEAR, _cotangent),
    InterpolatedChannel: _Kind(Form.LINEAR, _interpolated),
    Direction: _Kind(Form.DIRECTION, _direction, _Kind(Form.LINEAR, partial(_of_one, _flat_direction))),
    DirectionNeuron: _Kind(Form.DIRECTION, _direction_neuron, _Kind(Form.LINEAR, partial(_of_one, _flat_direction_neuron))),
    Caricature: _Kind(
        Form.CARICATURE, _caricature, _Kind(Form.LINEAR, lambda term, shape: Fed(_like(term, "activations", shape), {}))
    ),
    Matching: _Kind(Form.MATCHING, _matching),
    Style: _Kind(Form.STYLE, _style),
    Alignment: _Kind(Form.ALIGNMENT, _alignment),
    Diversity: _Kind(Form.DIVERSITY, _diversity),
}


def _kind(term: Term) -> _Kind:
    kind = _KINDS[type(term)]
    return kind.plain if kind.plain is not None and _power(term) == 0 else kind


def _assigned(terms: Sequence[Scaled]) -> list[Head]:
    """The head of each term."""
    seen: Counter[Head] = Counter()
    assigned = []
    for _, term in terms:
        form = _kind(term).form
        head = Head(term.layer, form, 1 if form in ADDED else getattr(term, "axis", 1))
        assigned.append(head if form in ADDED else Head(head.layer, form, head.axis, seen[head]))
        seen[head] += 1
    return assigned


def heads(terms: Sequence[Scaled]) -> tuple[Head, ...]:
    """What graph the terms need, in a canonical order.

    Raises:
        TooLarge: Of too many heads: each takes time to be differentiated.
    """
    wanted = tuple(sorted(set(_assigned(terms))))
    apart = sum(head.form not in ADDED for head in wanted)
    if apart > MAX_APART:
        msg = f"objective: expected at most {MAX_APART} terms that are not linear or quadratic in their layer, got {apart}"
        raise TooLarge(msg)
    return wanted


def depends_on_count(terms: Sequence[Scaled]) -> bool:
    """Whether what the graph is fed depends on the number of samples."""
    return any(isinstance(term, InterpolatedChannel) for _, term in terms)


class Weights:
    """The run-time inputs of an objective's graph.

    Args:
        terms: Scales and terms.
        shapes: The layers' shapes, with the batch axis.
        dtypes: Their element types.

    Raises:
        InvalidObjective: A term does not fit its layer.
        TooLarge: Its Gram matrices would take too much memory.
    """

    def __init__(self, terms: Sequence[Scaled], shapes: Mapping[str, Shape], dtypes: Mapping[str, str]) -> None:
        self._parts: list[tuple[str, str, Schedule, Array]] = []
        self._others: dict[str, Array] = {}
        self.are_scheduled = any(isinstance(scale, Linear) for scale, _ in terms)
        """Whether they change in an ascent."""
        for head, (scale, term) in zip(_assigned(terms), terms, strict=True):
            if head.form not in ADDED and not shapes[term.layer][0]:
                msg = f"layer '{term.layer}': expected at least one sample for {head.form}, got none"
                raise InvalidObjective(msg)
            fed, dtype = _kind(term).feed(term, shapes[term.layer]), dtypes[term.layer]
            self._parts.append((head.input_name(WEIGHTS), dtype, scale, fed.weights))
            self._others |= {head.input_name(name): np.ascontiguousarray(a, dtype) for name, a in fed.others.items()}

    def all(self) -> dict[str, Array]:
        """All of them as an ascent begins, by the names that `Head` gives them."""
        return self._others | self.scaled(0.0)

    def scaled(self, progress: float) -> dict[str, Array]:
        """Those that scales are in, after a share of an ascent's steps."""
        feeds: dict[str, Array] = {}
        for name, dtype, scale, weights in self._parts:
            scaled = np.asarray(weights * scheduled(scale, progress), dtype)
            feeds[name] = feeds[name] + scaled if name in feeds else scaled
        return feeds


# ---- checks ----------------------------------------------------------------------------------------------------------


def _like(term: Cotangent | Matching | Caricature, what: str, shape: Shape) -> Array:
    if term.array.shape not in (shape, (1, *shape[1:])):
        msg = f"layer '{term.layer}': expected {what} of shape {list(shape)}, got {list(term.array.shape)}"
        raise InvalidObjective(msg)
    return np.asarray(term.array)


def _flat(array: Array) -> Array:
    return array.reshape(array.shape[0], -1)


def _check_vector(term: Direction | DirectionNeuron, shape: Shape) -> int:
    """The axis of the channels, which the vector fits."""
    axis = _axis(term, term.axis, shape)
    if term.vector.shape != (shape[axis],):
        msg = f"layer '{term.layer}': expected a direction of shape {[shape[axis]]}, got {list(term.vector.shape)}"
        raise InvalidObjective(msg)
    return axis


def _check_gram(term: Style | Diversity, samples: int, channels: int) -> None:
    if samples * channels**2 > MAX_GRAM_NUMBERS:
        limit = f"at most {MAX_GRAM_NUMBERS} numbers in the Gram matrices of all samples"
        msg = f"layer '{term.layer}': expected {limit}, got {samples} of {channels} x {channels}"
        raise TooLarge(msg)


def _power(term: Term) -> float:
    power: float = getattr(term, "cosine_power", 0.0)
    if not 0 <= power < math.inf:
        msg = f"layer '{term.layer}': expected a power of the cosine of 0 or more, got {power}"
        raise InvalidObjective(msg)
    return power


def _axis(term: Term, axis: int, shape: Shape) -> int:
    """Of one sample, from 0."""
    rank = len(shape) + 1
    found = (axis + rank if axis < 0 else axis) - 1
    if not 0 <= found < len(shape):
        msg = f"layer '{term.layer}': expected a channel axis from 1 to {len(shape)}, got {axis}"
        raise InvalidObjective(msg)
    return found


def _position(term: Term, given: tuple[int, ...], spatial: Shape) -> tuple[int, ...]:
    position = given or tuple(size // 2 for size in spatial)
    if len(position) != len(spatial):
        msg = f"layer '{term.layer}': expected {len(spatial)} numbers for a position, got {len(position)}"
        raise InvalidObjective(msg)
    for name, index, size in zip("yxzw", position, spatial, strict=False):
        _index(term, name, index, size)
    return position


def _one_hot(shape: Shape, index: tuple[Any, ...]) -> Array:
    weights = np.zeros(shape)
    weights[index] = 1.0
    return weights


def _index(term: Term, name: str, index: int, size: int) -> None:
    if not 0 <= index < size:
        msg = f"layer '{term.layer}': expected {name} from 0 to {size - 1}, got {index}"
        raise InvalidObjective(msg)
