"""What a request to load a model says: parameters of the protocol become an override of the repository."""

from collections.abc import Mapping
from typing import Any

from gradserve.errors import InvalidParameter
from gradserve_server.runtime.overrides import Override

CONFIG, FILE = "config", "file:"
"""The parameters of a load: a configuration as JSON, and `file:<version>/<name>` for each file."""

UNLOAD_DEPENDENTS = "unload_dependents"
"""The parameter of an unload. Nothing depends on a model here: there are no ensembles."""


def override_of(parameters: Mapping[str, Any]) -> Override | None:
    """What is to count instead of the repository; None: nothing.

    Raises:
        InvalidParameter: One that a load has not, or of another type; or as `Override`.
        TooLarge: As `Override`.
    """
    config, files = "", {}
    for name in parameters:
        if name == CONFIG:
            config = _value(parameters, name, "string_param", "a text")
        elif name.startswith(FILE):
            files[name.removeprefix(FILE)] = _value(parameters, name, "bytes_param", "bytes")
        else:
            msg = f"parameter '{name}': expected {CONFIG} or {FILE}<version>/<name>"
            raise InvalidParameter(msg)
    return Override(config, files) if CONFIG in parameters or files else None


def check_unload(parameters: Mapping[str, Any]) -> None:
    """Makes sure that an unload has no parameters but its own.

    Raises:
        InvalidParameter: One that it has not, or of another type.
    """
    for name in parameters:
        if name != UNLOAD_DEPENDENTS:
            msg = f"parameter '{name}': expected {UNLOAD_DEPENDENTS}"
            raise InvalidParameter(msg)
        _value(parameters, name, "bool_param", "true or false")


def _value(parameters: Mapping[str, Any], name: str, field: str, expected: str) -> Any:
    given = parameters[name].WhichOneof("parameter_choice")
    if given != field:
        msg = f"parameter '{name}': expected {expected}, got {given.removesuffix('_param') if given else 'nothing'}"
        raise InvalidParameter(msg)
    return getattr(parameters[name], field)
