"""Named parameters of a prediction: which this server knows, and what they may be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gradserve.errors import InvalidParameter
from gradserve_server.rpc.oip.shared_memory import Place

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
    # Microseconds that the request would wait for its turn, and its level: where the model's configuration has such.
    "timeout": _WHOLE,
    "priority": _WHOLE,
    # Models keep nothing from one request to the next: the rest is checked, and changes nothing.
    "sequence_id": _Kind(("int64_param", "uint64_param", "string_param"), "a number or a text"),
    "sequence_start": _YES_NO,
    "sequence_end": _YES_NO,
    "triton_enable_empty_final_response": _YES_NO,
}
_OUTPUT = {
    "classification": _Kind(("int64_param",), "a whole number of 0 or more", lambda value: value >= 0),
}
_PLACE = {
    "shared_memory_region": _Kind(("string_param",), "the name of a region"),
    "shared_memory_offset": _WHOLE,
    "shared_memory_byte_size": _WHOLE,
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


def output_parameters(parameters: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Those of a requested output that this server knows, by name.

    Raises:
        InvalidParameter: Of another type, or out of range.
    """
    return _known(parameters, _OUTPUT, f"{what}: parameter")


def tensor_place(parameters: Mapping[str, Any], what: str) -> Place | None:
    """Where an input is, or an output should go, in shared memory; None: in the message.

    Raises:
        InvalidParameter: Of another type, out of range, or one without the others.
    """
    given = _known(parameters, _PLACE, f"{what}: parameter")
    if not given:
        return None
    for needed in ("shared_memory_region", "shared_memory_byte_size"):
        if needed not in given:
            msg = f"{what}: parameter '{needed}': expected with '{next(iter(given))}', got nothing"
            raise InvalidParameter(msg)
    return Place(given["shared_memory_region"], given.get("shared_memory_offset", 0), given["shared_memory_byte_size"])


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
