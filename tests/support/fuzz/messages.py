"""Random and nearly valid messages of any type, made from its descriptor; and bytes that are none."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

NOT_UTF8 = "<not UTF-8>"
"""A text that becomes bytes of the same length that are no text, once the message is serialized."""

MAX_DEPTH = 4
"""Of messages in random messages."""

WHOLE_NUMBERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
INTERESTING = (
    0,
    1,
    2,
    3,
    4,
    7,
    28,
    49,
    255,
    784,
    -1,
    -2,
    2**15,
    2**16,
    2**31 - 1,
    2**31,
    2**62,
    2**63 - 1,
    -(2**63),
    2**64 - 1,
)
"""Whole numbers at which something changes: sizes of the models, powers of two, signs."""

NUMBERS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, float("nan"), float("inf"), -float("inf"), 1e-45, 3.5e38, -1e300, 5e-324]),
    st.floats(),
)
BYTES = st.one_of(st.binary(max_size=16), st.sampled_from([0, 1, 4, 8, 40, 3136]).map(bytes))
ODD_TEXTS = (
    NOT_UTF8,
    "",
    "\0",
    "\n",
    "a" * 5000,
    "9" * 5000,
    "٣",
    "日本",
    "../..",
    "%s%n",
    "-1",
    "1.5",
    "nan",
    "\N{FAMILY}" * 50,
)


@dataclass
class Texts:
    """What strings of a random message may be: those of valid messages, each where another should be, and odd ones.

    Args:
        known: Of valid messages.
    """

    known: Sequence[str]
    strategy: st.SearchStrategy[str] = field(init=False)

    def __post_init__(self) -> None:
        self.strategy = st.one_of(
            st.sampled_from(sorted(self.known) or [""]), st.sampled_from(ODD_TEXTS), st.text(max_size=8)
        )


def texts_in(message: Message) -> set[str]:
    """Every string in a message."""
    found = set()
    for descriptor, value in message.ListFields():
        for one in _each(descriptor, value):
            if isinstance(one, Message):
                found |= texts_in(one)
            elif isinstance(one, str):
                found.add(one)
    return found


@st.composite
def nearly_valid(draw: st.DrawFn, valid: Sequence[Message], texts: Texts) -> Message:
    """A valid message with a few things changed: gets further than a random one."""
    original = draw(st.sampled_from(valid))
    message = type(original)()
    message.CopyFrom(original)
    for _ in range(draw(st.integers(1, 3))):
        _change(draw, message, texts)
    return message


@st.composite
def random_message(draw: st.DrawFn, cls: Any, texts: Texts) -> Message:
    """Any message of a type."""
    message = cls()
    _fill(draw, message, texts, MAX_DEPTH)
    return message


@st.composite
def mangled(draw: st.DrawFn, valid: Sequence[bytes]) -> bytes:
    """Bytes that were a message: cut off, overwritten, repeated, put together with others."""
    data = bytearray(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        few = draw(st.one_of(st.binary(max_size=8), st.sampled_from([b"\xff" * 11, b"\x0b" * 200, b"\x80" * 10 + b"\x01"])))
        match draw(st.sampled_from(["cut", "overwrite", "insert", "repeat", "append"])):
            case "cut":
                del data[at:]
            case "overwrite":
                data[at : at + len(few)] = few
            case "insert":
                data[at:at] = few
            case "repeat":
                data += data[at:]
            case "append":
                data += draw(st.sampled_from(valid))
    return bytes(data)


GARBAGE = st.one_of(
    st.binary(max_size=64),
    st.sampled_from(
        [b"", b"\x0b" * 10_000, b"\xff" * 1000, b"\0" * 100_000, b"GET / HTTP/1.1\r\n\r\n", b"\x0a\xff\xff\xff\x7f"]
    ),
)
"""Bytes that never were a message; groups within groups, and a length of 256 MiB, among them."""


def serialized(message: Message) -> bytes:
    """As bytes, with texts that are none where it says so."""
    return message.SerializeToString().replace(NOT_UTF8.encode(), b"\xff" * len(NOT_UTF8))


# ---- values ----------------------------------------------------------------------------------------------------------


def _scalar(draw: st.DrawFn, descriptor: FieldDescriptor, texts: Texts) -> Any:
    kind = descriptor.cpp_type
    if kind in WHOLE_NUMBERS:
        low, high = WHOLE_NUMBERS[kind]
        fitting = [number for number in INTERESTING if low <= number <= high]
        return draw(st.one_of(st.sampled_from(fitting), st.integers(low, high)))
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return draw(st.sampled_from([*descriptor.enum_type.values_by_number, 99, -1]))
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return draw(st.booleans())
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return draw(BYTES if descriptor.type == FieldDescriptor.TYPE_BYTES else texts.strategy)
    return draw(NUMBERS)


def _fill(draw: st.DrawFn, message: Message, texts: Texts, depth: int) -> None:
    for descriptor in message.DESCRIPTOR.fields:
        if draw(st.booleans()):
            for _ in range(draw(st.integers(1, 3)) if _is_repeated(descriptor) else 1):
                _put(draw, message, descriptor, texts, depth - 1)


def _put(draw: st.DrawFn, message: Message, descriptor: FieldDescriptor, texts: Texts, depth: int) -> None:
    """Sets a field, or adds to it if it is repeated."""
    value = getattr(message, descriptor.name)
    if _is_map(descriptor):
        key, of = (descriptor.message_type.fields_by_name[name] for name in ("key", "value"))
        name = _scalar(draw, key, texts)
        if of.message_type is None:
            value[name] = _scalar(draw, of, texts)
        elif depth:
            _fill(draw, value[name], texts, depth)
    elif descriptor.message_type is not None:
        child = value.add() if _is_repeated(descriptor) else value
        child.SetInParent()
        if depth:
            _fill(draw, child, texts, depth)
    elif _is_repeated(descriptor):
        value.append(_scalar(draw, descriptor, texts))
    else:
        setattr(message, descriptor.name, _scalar(draw, descriptor, texts))


# ---- changes ---------------------------------------------------------------------------------------------------------


def _change(draw: st.DrawFn, message: Message, texts: Texts) -> None:
    """One change, in this message or in one within it."""
    while within := _messages_within(message):
        if not draw(st.integers(0, 3)):
            break
        message = draw(st.sampled_from(within))
    fields = _fields_of(message.DESCRIPTOR)
    if not fields:
        return
    set_ = [descriptor for descriptor, _ in message.ListFields()]
    descriptor = draw(st.sampled_from(set_ if set_ and draw(st.booleans()) else fields))
    if _is_repeated(descriptor) and not _is_map(descriptor) and getattr(message, descriptor.name):
        _change_list(draw, message, descriptor, texts)
    elif draw(st.integers(0, 3)):
        _put(draw, message, descriptor, texts, MAX_DEPTH)
    else:
        message.ClearField(descriptor.name)


def _change_list(draw: st.DrawFn, message: Message, descriptor: FieldDescriptor, texts: Texts) -> None:
    elements = getattr(message, descriptor.name)
    at = draw(st.integers(0, len(elements) - 1))
    match draw(st.sampled_from(["remove", "replace", "add", "twice", "many"])):
        case "remove":
            del elements[at]
        case "replace":
            del elements[at]
            _put(draw, message, descriptor, texts, MAX_DEPTH)
        case "add":
            _put(draw, message, descriptor, texts, MAX_DEPTH)
        case "twice":
            elements.extend([elements[at]])
        case "many":
            elements.extend([elements[at]] * 100)


def _messages_within(message: Message) -> list[Message]:
    return [
        one for descriptor, value in message.ListFields() for one in _each(descriptor, value) if isinstance(one, Message)
    ]


def _each(descriptor: FieldDescriptor, value: Any) -> list[Any]:
    if _is_map(descriptor):
        return [*value.keys(), *(value[key] for key in value)]
    return list(value) if _is_repeated(descriptor) else [value]


def _fields_of(descriptor: Descriptor) -> list[FieldDescriptor]:
    return list(descriptor.fields)


def _is_repeated(descriptor: FieldDescriptor) -> bool:
    return bool(descriptor.is_repeated)


def _is_map(descriptor: FieldDescriptor) -> bool:
    return descriptor.message_type is not None and descriptor.message_type.GetOptions().map_entry
