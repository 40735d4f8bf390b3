"""When images are done: the settings, and the probability that the model gives a unit."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from gradserve.errors import InvalidAscent
from gradserve.objectives import Scaled, Unit
from gradserve.stopping import Keep, Probability, StopAt, Value
from gradserve_server.ascent.ranges import LARGEST, LARGEST_COUNT, number, whole
from gradserve_server.graph.derivatives import Wanted
from gradserve_server.graph.objectives import Head
from gradserve_server.runtime.caller import Caller
from gradserve_server.runtime.model import Model

Measure = Callable[[], npt.NDArray[np.float64]]
"""What is measured of the images that the model's input holds, [count]."""


def check_stop_at(given: Any) -> StopAt | None:
    """Makes sure that a goal is one, and in range.

    Raises:
        InvalidAscent: It is not.
    """
    if given is None:
        return None
    if type(given) not in get_args(StopAt):
        known = ", ".join(kind.__name__ for kind in get_args(StopAt))
        msg = f"stop_at: expected one of {known}, got {type(given).__name__}"
        raise InvalidAscent(msg)
    whole("stop_at: every", given.every, 1, LARGEST_COUNT)
    low, high = (-LARGEST, LARGEST) if isinstance(given, Value) else (np.finfo(float).tiny, 1.0)
    number("stop_at: at_least", given.at_least, low, high)
    goal: StopAt = given
    return goal


def check_keep(given: Any) -> Keep:
    """Which image is kept.

    Raises:
        InvalidAscent: No such choice.
    """
    try:
        return Keep(given)
    except ValueError:
        msg = f"keep: expected one of {', '.join(Keep)}, got {given!r}"
        raise InvalidAscent(msg) from None


def check_company(keep: Keep, heads: Iterable[Head]) -> None:
    """Makes sure that images which are delivered have their values: across a batch, those are of all images of one step.

    Raises:
        InvalidAscent: The best images are wanted, which may be of several.
    """
    for head in heads:
        if keep is Keep.BEST and head.across:
            msg = f"keep: expected last, because {head.form} on '{head.layer}' is of all images of one step, got {keep}"
            raise InvalidAscent(msg)


def probability(
    goal: Probability,
    model: Model,
    terms: Sequence[Scaled],
    feeds: Mapping[str, npt.NDArray[Any]],
    seen: Callable[[], Mapping[str, npt.NDArray[Any]]],
    caller: Caller,
) -> Measure:
    """Measures the share of one unit among those of its layer, in float64.

    Args:
        goal: Of which unit.
        model: It is a layer of it.
        terms: The objective, whose unit it may be.
        feeds: The model's inputs.
        seen: Those that have changed when it is measured.
        caller: Whose run it is.

    Raises:
        InvalidAscent: There is no such unit.
        UnknownLayer: There is no such layer.
    """
    layer, index = (model.resolve(goal.layer), goal.index) if goal.layer else _own_unit(terms)
    plan = model.plan(Wanted((), (layer,)))
    shape = model.layer_shapes([layer], dict(feeds))[layer]
    if len(shape) != 2 or not 0 <= index < shape[1]:
        msg = f"stop_at: expected a unit of a layer [N, K], got {index} of layer '{layer}' {list(shape)}"
        raise InvalidAscent(msg)

    def measure() -> npt.NDArray[np.float64]:
        values = plan.run({**feeds, **seen()}, caller=caller)[layer].astype(np.float64)
        if goal.softmax:
            powers = np.exp(values - values.max(axis=1, keepdims=True))
            values = powers / powers.sum(axis=1, keepdims=True)
        return values[:, index]

    return measure


def _own_unit(terms: Sequence[Scaled]) -> tuple[str, int]:
    match terms:
        case [(_, Unit(layer=layer, index=index))]:
            return layer, index
    msg = "stop_at: expected the layer of the probability, because the objective is not one unit, got none"
    raise InvalidAscent(msg)
