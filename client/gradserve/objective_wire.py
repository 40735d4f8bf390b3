"""Objectives to and from messages. A term mirrors the field of `Term.form` that is named as its class is (`mirror`)."""

import re
from typing import Any

import numpy as np

from gradserve import mirror
from gradserve.errors import InvalidAscent, InvalidObjective, InvalidTensor
from gradserve.numbers import Linear, Schedule
from gradserve.objectives import Objective, Penalty, Term, terms_of
from gradserve.v1 import number_pb2, objective_pb2

__all__ = ["objective_from_wire", "objective_to_wire"]


def _kinds(base: type[Term] = Term) -> dict[str, type[Term]]:
    """Every kind of term, by the name of its field."""
    found: dict[str, type[Term]] = {}
    for kind in base.__subclasses__():
        found |= _kinds(kind) if kind is Penalty else {mirror.snake(kind.__name__): kind}
    return found


KINDS = _kinds()
_LAYER = "layer"
"""A field of every term, which the message has outside its form."""


def objective_to_wire(objective: Objective) -> objective_pb2.Objective:
    """An objective as a message.

    Raises:
        InvalidObjective: A term that no message can hold.
    """
    return objective_pb2.Objective(terms=[_term_to_wire(scale, term) for scale, term in terms_of(objective)])


def objective_from_wire(message: objective_pb2.Objective) -> Objective:
    """A message as an objective.

    Raises:
        InvalidObjective: A term without a form, or one that lacks something.
        InvalidTensor: An array that cannot be read.
    """
    return Objective(tuple((_scale_from_wire(term), _term_from_wire(term)) for term in message.terms))


def _term_to_wire(scale: Schedule, term: Term) -> objective_pb2.Term:
    message = objective_pb2.Term(layer=term.layer)
    if isinstance(scale, Linear):
        message.scale_schedule.CopyFrom(number_pb2.Linear(start=scale.start, end=scale.end))
    else:
        message.scale = scale
    form = getattr(message, mirror.snake(type(term).__name__))
    form.SetInParent()
    try:
        mirror.fill(form, term, without=_LAYER)
    except (TypeError, ValueError) as error:
        msg = f"objective{_where(term.layer)}: expected values in the range of the wire, got {_numbers(term)}"
        raise InvalidObjective(msg) from error
    return message


def _scale_from_wire(message: objective_pb2.Term) -> Schedule:
    if message.HasField("scale_schedule"):
        return Linear(message.scale_schedule.start, message.scale_schedule.end)
    return message.scale


def _term_from_wire(message: objective_pb2.Term) -> Term:
    name, where = message.WhichOneof("form"), _where(message.layer)
    if name is None:
        msg = f"objective{where}: expected one of {', '.join(KINDS)}, got none"
        raise InvalidObjective(msg)
    try:
        term = mirror.read(KINDS[name], getattr(message, name), layer=message.layer)
    except InvalidAscent as error:
        msg = f"objective{where}: {error}"
        raise InvalidObjective(msg) from error
    except InvalidTensor as error:
        msg = f"objective{where}: {name}: {error}"
        raise InvalidTensor(msg) from error
    for field, value in vars(term).items():
        if isinstance(value, np.ndarray) and value.dtype == object:
            msg = f"objective{where}: {name}: {field}: expected numbers, got strings"
            raise InvalidTensor(msg)
    return term


def _where(layer: str) -> str:
    return f" on '{layer}'" if layer else ""


def _numbers(term: Term) -> str:
    """A term without its arrays, which may be long."""
    shown: dict[str, Any] = {name: value for name, value in vars(term).items() if not isinstance(value, np.ndarray)}
    return re.sub(r"\s+", " ", f"{type(term).__name__} {shown}")
