"""Dataclasses as the messages that mirror them: the same name, the same names of fields.

A union of dataclasses is a message with a oneof `kind`: `AdamW` is its field `adam_w`, and a plain number its field
`constant`. A tuple of dataclasses is a repeated field of messages. An array, or a matrix of tuples, is a Tensor. None stays
unset; what is unset has the dataclass's default.
"""

import re
from dataclasses import MISSING, fields
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar, cast, get_args, get_type_hints

import numpy as np
from google.protobuf.message import Message

from gradserve.errors import InvalidAscent
from gradserve.tensors import from_wire, to_wire
from gradserve.v1.tensor_pb2 import Tensor

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

_CONSTANT = "constant"


def fill(message: Message, value: Any, *, without: str = "") -> None:
    """Fills a message from the dataclass that it mirrors.

    Args:
        message: To fill.
        value: The dataclass.
        without: A field that stands elsewhere.

    Raises:
        TypeError, ValueError: A value that no field of the message can hold.
    """
    hints = _hints(cast("Any", type(value)))
    for field in fields(value):
        if field.name != without:
            _put(message, field.name, getattr(value, field.name), hints[field.name])


def fill_kind(message: Message, value: Any, what: str = "") -> None:
    """Fills a message with a oneof `kind` from one of the dataclasses, or from a number.

    Raises:
        InvalidAscent: Another value.
        TypeError, ValueError: As `fill`.
    """
    if isinstance(value, (int, float, np.number)) and _CONSTANT in message.DESCRIPTOR.fields_by_name:
        setattr(message, _CONSTANT, float(value))
        return
    name = snake(type(value).__name__)
    if name not in message.DESCRIPTOR.fields_by_name or name == _CONSTANT:
        known = ", ".join(message.DESCRIPTOR.fields_by_name)
        msg = f"{what or snake(message.DESCRIPTOR.name)}: expected one of {known}, got {type(value).__name__}"
        raise InvalidAscent(msg)
    inner = getattr(message, name)
    inner.SetInParent()
    fill(inner, value)


def read(cls: type[T], message: Message, **given: Any) -> T:
    """The dataclass that a message mirrors.

    Args:
        cls: The dataclass.
        message: The message.
        **given: Fields that stand elsewhere.

    Raises:
        InvalidAscent: A number of an enum that this version does not know, or something that has no default is unset.
        InvalidTensor: A tensor that cannot be read.
    """
    hints, values = _hints(cast("Any", cls)), dict(given)
    for name, descriptor in message.DESCRIPTOR.fields_by_name.items():
        if descriptor.has_presence and not message.HasField(name):
            continue
        value = getattr(message, name)
        if descriptor.enum_type is not None:
            if value:
                values[name] = read_enum(message, name, hints[name])
        elif isinstance(value, Tensor):
            array = from_wire(value, what=name)
            values[name] = array if np.ndarray in _origins(hints[name]) else _as_tuples(array, name)
        elif isinstance(value, Message):
            values[name] = read_kind(hints[name], value)
        elif descriptor.message_type is not None:
            values[name] = tuple(read(get_args(hints[name])[0], one) for one in value)
        else:
            values[name] = value if isinstance(value, (int, float, str, bool)) else tuple(value)
    for field in fields(cast("Any", cls)):
        if field.name not in values and field.default is MISSING:
            msg = f"{snake(cls.__name__)}: expected a {field.name}, got none"
            raise InvalidAscent(msg)
    return cls(**values)


def read_kind(union: Any, message: Message) -> Any:
    """The dataclass, or the number, that a message with a oneof `kind` holds.

    Raises:
        InvalidAscent: It holds none.
    """
    name = message.WhichOneof("kind")
    if name is None:
        msg = f"{snake(message.DESCRIPTOR.name)}: expected a kind, got none"
        raise InvalidAscent(msg)
    value = getattr(message, name)
    if name == _CONSTANT:
        return value
    return read({snake(cls.__name__): cls for cls in get_args(union)}[name], value)


def put_enum(message: Message, name: str, enum: type[StrEnum], value: str) -> None:
    """Sets a field to the value that mirrors a member, or a member's text.

    Raises:
        InvalidAscent: No member has that text.
    """
    descriptor: Any = message.DESCRIPTOR.fields_by_name[name].enum_type
    try:
        number = descriptor.values_by_name[_prefix(descriptor.name) + enum(value).name].number
    except ValueError:
        msg = f"{name}: expected one of {', '.join(enum)}, got {value!r}"
        raise InvalidAscent(msg) from None
    setattr(message, name, number)


def read_enum(message: Message, name: str, enum: type[E]) -> E:
    """The member that the value of a field mirrors.

    Raises:
        InvalidAscent: This version does not know the value.
    """
    descriptor: Any = message.DESCRIPTOR.fields_by_name[name].enum_type
    number = getattr(message, name)
    known = descriptor.values_by_number.get(number)
    if known is None:
        msg = f"{name}: expected one of {', '.join(enum)}, got number {number}"
        raise InvalidAscent(msg)
    return enum[known.name.removeprefix(_prefix(descriptor.name))]


def _put(message: Message, name: str, value: Any, hint: Any) -> None:
    if value is None:
        return
    descriptor = message.DESCRIPTOR.fields_by_name[name]
    if descriptor.enum_type is not None:
        put_enum(message, name, hint, value)
    elif descriptor.message_type is Tensor.DESCRIPTOR:
        array = np.asarray(value) if len(value) else np.zeros((0, 0))
        getattr(message, name).CopyFrom(to_wire(array, what=name))
    elif descriptor.message_type is not None and isinstance(value, tuple):
        for one in value:
            fill(getattr(message, name).add(), one)
    elif descriptor.message_type is not None:
        fill_kind(getattr(message, name), value, name)
    elif isinstance(value, tuple):
        getattr(message, name).extend(value)
    else:
        setattr(message, name, value)


def _as_tuples(array: Any, name: str) -> tuple[tuple[float, ...], ...]:
    if array.ndim != 2:
        msg = f"{name}: expected a matrix, got shape {list(array.shape)}"
        raise InvalidAscent(msg)
    return tuple(map(tuple, array.tolist()))


@cache
def _hints(cls: Any) -> dict[str, Any]:
    """Resolved once: Python parses the annotations each time it is asked."""
    return get_type_hints(cls)


def _origins(hint: Any) -> set[Any]:
    return {getattr(hint, "__origin__", hint)}


def snake(name: str) -> str:
    """The name of a class as that of a field."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _prefix(name: str) -> str:
    """Of the values of an enum."""
    return snake(name).upper() + "_"
