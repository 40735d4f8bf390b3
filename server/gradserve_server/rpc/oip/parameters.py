"""Named parameters of a prediction: which this server knows, and what they may be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gradserve.errors import InvalidParameter, NotSupported

_SHARED_MEMORY = "shared_memory_"
_RESERVED = ("headers", "binary_data_output")
_RESERVED_PREFIX = "triton_"


@dataclass(frozen=True)
class _Kind:
    """Values that a parameter may have."""

    fields: tuple[str, ...]
    """Of `InferParameter`."""
    expected: str
    fits: Callable[[Any], bool] = lambda _: True


_WHOLE = _Kind(("int64_param", "uint64_param"), "a whole number of 0 or more", lambda value: value >= 0)
_YES_NO = _Kind(("bool_param",), "true or false")

_REQUEST = {
    # Microseconds that the request may wait before it is worked on.
    "timeout": _WHOLE,
    # All requests are equal here, and models keep nothing from one to the next: the rest is checked, and changes nothing.
    "priority": _WHOLE,
    "sequence_id": _Kind(("int64_param", "uint64_param", "string_param"), "a number or a text"),
    "sequence_start": _YES_NO,
    "sequence_end": _YES_NO,
    "triton_enable_empty_final_response": _YES_NO,
}
_OUTPUT = {
    "classification": _Kind(("int64_param",), "a whole number of 0 or more", lambda value: value >= 0),
}


def request_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a request that this server knows, by name. Others are the caller's own, and ignored.

    Raises:
        InvalidParameter: Of another type, out of range, or a name that Triton keeps for itself.
    """
    for name in parameters:
        if name not in _REQUEST and (name in _RESERVED or name.startswith(_RESERVED_PREFIX)):
            msg = f"parameter '{name}': expected another name, because the protocol reserves it"
            raise InvalidParameter(msg)
    return _known(parameters, _REQUEST, "parameter")


def input_parameters(parameters: Mapping[str, Any], what: str) -> None:
    """Makes sure that an input brings its elements in the request.

    Raises:
        NotSupported: They are in shared memory.
    """
    _refuse_shared_memory(parameters, what)


def output_parameters(parameters: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Those of a requested output that this server knows, by name.

    Raises:
        InvalidParameter: Of another type, or out of range.
        NotSupported: It should go to shared memory.
    """
    _refuse_shared_memory(parameters, what)
    return _known(parameters, _OUTPUT, f"{what}: parameter")


def _known(parameters: Mapping[str, Any], kinds: Mapping[str, _Kind], what: str) -> dict[str, Any]:
    values = {}
    for name, kind in kinds.items():
        # Read only if there: to look up a name in a map of messages makes an entry of it.
        if name not in parameters:
            continue
        given = parameters[name].WhichOneof("parameter_choice")
        value = getattr(parameters[name], given) if given else None
        if given not in kind.fields or not kind.fits(value):
            got = f"{value!r} ({given.removesuffix('_param')})" if given else "nothing"
            msg = f"{what} '{name}': expected {kind.expected}, got {got}"
            raise InvalidParameter(msg)
        values[name] = value
    return values


def _refuse_shared_memory(parameters: Mapping[str, Any], what: str) -> None:
    if any(name.startswith(_SHARED_MEMORY) for name in parameters):
        msg = f"{what}: expected its elements in the message; this server does not do shared memory"
        raise NotSupported(msg)
