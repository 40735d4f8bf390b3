"""`LogSettings` and `TraceSetting`: what can be changed while the server runs."""

import logging
from collections.abc import Callable
from typing import Any

from gradserve.errors import InvalidParameter, NotSupported
from gradserve_server.rpc import logs
from gradserve_server.rpc.oip.messages import message
from gradserve_server.rpc.trace_settings import OFF, TraceSettings

LEVELS = ("log_error", "log_warning", "log_info")
"""Flags, each of which stands for its own level and needs those before it."""

_BY_FLAGS = (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)
"""The level at which so many of the flags, and then verbose messages, are on."""

_BOOL, _UINT32, _STRING = "bool_param", "uint32_param", "string_param"

_KINDS = {
    "log_file": _STRING,
    **dict.fromkeys(LEVELS, _BOOL),
    "log_verbose_level": _UINT32,
    "log_format": _STRING,
}
"""Every setting, and the field of its value."""


def log_settings(request: Any) -> Any:
    """The `LogSettingsResponse`, after doing what a request asks.

    Raises:
        InvalidParameter: No such setting, or a value that it cannot have. Then nothing is changed.
    """
    now = _log_settings_now()
    wanted = now | {name: _value(name, setting) for name, setting in request.settings.items()}
    for name, what in (("log_file", "it logs to standard error"), ("log_format", "--log-format chooses it")):
        if wanted[name] != now[name]:
            msg = f"{name}: expected {now[name]!r}, because it cannot change while the server runs ({what})"
            raise InvalidParameter(msg)
    steps = [*(wanted[name] for name in LEVELS), bool(wanted["log_verbose_level"])]
    on = sum(steps)
    if not all(steps[:on]):
        order = f"{', '.join(LEVELS)}, log_verbose_level"
        msg = (
            f"log settings {order}: expected none on after one that is off, because each brings those before it, got {steps}"
        )
        raise InvalidParameter(msg)
    if request.settings:
        logs.OURS.setLevel(_BY_FLAGS[on])
    response = message("LogSettingsResponse")()
    for name, value in _log_settings_now().items():
        setattr(response.settings[name], _KINDS[name], value)
    return response


def trace_settings(request: Any, settings: TraceSettings | None, check_model: Callable[[str], object]) -> Any:
    """The `TraceSettingResponse`, after doing what a request asks.

    Args:
        request: What it asks.
        settings: To read and change; None where the server does not trace.
        check_model: Raises where there is no such model.

    Raises:
        NotSupported: A change, where the server does not trace.
        InvalidParameter: No such setting, or no such value of it. Then nothing is changed.
    """
    if request.model_name:
        check_model(request.model_name)
    given = {name: list(setting.value) for name, setting in request.settings.items()}
    if settings is None:
        if given:
            msg = "TraceSetting: this server does not trace; start it with --trace"
            raise NotSupported(msg)
        settings = TraceSettings(level=OFF)
    if given:
        settings.update(request.model_name, given)
    response = message("TraceSettingResponse")()
    for name, values in settings.read(request.model_name).items():
        response.settings[name].value.extend(values)
    return response


def _log_settings_now() -> dict[str, Any]:
    on = sum(logs.OURS.isEnabledFor(level) for level in _BY_FLAGS[1:])
    flags = {name: index < on for index, name in enumerate(LEVELS)}
    return {"log_file": "", **flags, "log_verbose_level": int(on > len(LEVELS)), "log_format": logs.format_in_use()}


def _value(name: str, setting: Any) -> Any:
    if name not in _KINDS:
        msg = f"log setting {name!r}: expected one of {', '.join(_KINDS)}"
        raise InvalidParameter(msg)
    given = setting.WhichOneof("parameter_choice")
    if given != _KINDS[name]:
        msg = f"log setting '{name}': expected {_KINDS[name]}, got {given or 'nothing'}"
        raise InvalidParameter(msg)
    return getattr(setting, given)
