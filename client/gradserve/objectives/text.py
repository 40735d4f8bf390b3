"""Objectives as the command line writes them."""

import re
from collections.abc import Callable, Mapping

from gradserve.errors import InvalidObjective
from gradserve.numbers import Linear
from gradserve.objectives import constructors as make
from gradserve.objectives.algebra import Objective

_ONE = re.compile(r"(?P<layer>.+?)(?::(?P<index>\d+)(?:(?P<energy>\^2)|@(?P<position>\d+(?:,\d+)*))?)?")
_CALL = re.compile(r"(?P<name>\w+)\((?P<inside>.*)\)")
_SIGN = re.compile(r"\s+([+-])\s+")
_NUMBER = r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?"
_SCALED = re.compile(rf"(?P<scale>{_NUMBER})(?:\.\.(?P<end>{_NUMBER}))?\s*\*\s*(?P<rest>.+)")
_TWO = re.compile(r"(?P<layer1>.+):(?P<index1>\d+),\s*(?P<layer2>.+):(?P<index2>\d+)")

_OF_THE_IMAGE: Mapping[str, Callable[..., Objective]] = {
    "l1": make.l1,
    "l2": make.l2,
    "total_variation": make.total_variation,
    "boundary_complexity": make.boundary_complexity,
    "blur_input_each_step": make.blur_input_each_step,
}
"""Their arguments are numbers, all optional."""

_OF_A_LAYER: Mapping[str, Callable[[str], Objective]] = {"alignment": make.alignment, "diversity": make.diversity}
"""Their argument is a layer's name."""


def parse(text: str, ranks: dict[str, int]) -> Objective:
    """The objective that a command line names.

    | text | objective |
    |---|---|
    | `logits:7` | `unit`, where the layer is [N, K] |
    | `relu3:4` | `channel`, where the layer has spatial axes |
    | `relu3:4@5,6` | `neuron` at y=5, x=6 |
    | `relu3:4^2` | `channel_energy` |
    | `relu3` | `layer` |
    | `diversity(relu3)`, `alignment(relu3)` | these |
    | `channel_interpolate(relu3:4, relu3:7)` | this |
    | `total_variation()`, `l2(0.5)`, ... | penalties on the image, with numbers as in Python |
    | `logits:7 - 0.001 * total_variation()` | a sum; there are blanks around its signs |
    | `logits:7 - 0..0.01 * l1()` | one whose scale changes from the first step to the last |

    Args:
        text: As in the table. A layer's name may contain colons.
        ranks: The number of axes of each layer, with the batch axis.

    Raises:
        InvalidObjective: Arguments that a term does not take.
    """
    if text in ranks:
        return make.layer(text)
    first, *more = _SIGN.split(text.strip())
    total = _scaled(first, ranks)
    for sign, part in zip(more[::2], more[1::2], strict=True):
        one = _scaled(part, ranks)
        total = total + one if sign == "+" else total - one
    return total


def _scaled(text: str, ranks: dict[str, int]) -> Objective:
    match = _SCALED.fullmatch(text)
    if match is None:
        return _one(text, ranks)
    scale = float(match["scale"])
    return _one(match["rest"], ranks) * (scale if match["end"] is None else Linear(scale, float(match["end"])))


def _one(text: str, ranks: dict[str, int]) -> Objective:
    call = _CALL.fullmatch(text) if text not in ranks else None
    if call is not None and call["name"] in _OF_THE_IMAGE:
        return _of_the_image(call["name"], call["inside"])
    if call is not None and call["name"] in _OF_A_LAYER:
        return _OF_A_LAYER[call["name"]](call["inside"].strip())
    if call is not None and call["name"] == "channel_interpolate" and (two := _TWO.fullmatch(call["inside"])):
        return make.channel_interpolate(two["layer1"], int(two["index1"]), two["layer2"], int(two["index2"]))
    return _of_an_index(text, ranks)


def _of_an_index(text: str, ranks: dict[str, int]) -> Objective:
    match = _ONE.fullmatch(text) if text not in ranks else None
    if match is None or match["index"] is None:
        return make.layer(text)
    name, index = match["layer"], int(match["index"])
    if match["energy"]:
        return make.channel_energy(name, index)
    if match["position"]:
        return make.neuron(name, index, *(int(p) for p in match["position"].split(",")))
    # channel is right for both where the rank is not known: the mean of a channel without spatial axes is the unit.
    return make.unit(name, index) if ranks.get(name) in (1, 2) else make.channel(name, index)


def _of_the_image(name: str, inside: str) -> Objective:
    try:
        return _OF_THE_IMAGE[name](*(float(number) for number in inside.split(",") if number.strip()))
    except (TypeError, ValueError, OverflowError) as error:
        msg = f"{name}: expected numbers as `gradserve.objectives.{name}` takes them, got '{inside}'"
        raise InvalidObjective(msg) from error
