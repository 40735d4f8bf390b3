"""Which calls are traced: Triton's trace settings, for the whole server and for single models."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gradserve.errors import InvalidParameter

OFF, TIMESTAMPS = "OFF", "TIMESTAMPS"
MODE = "opentelemetry"
"""Triton's name for the only mode that is here."""


def _level(values: Sequence[str]) -> list[str]:
    if list(values) not in ([OFF], [TIMESTAMPS]):
        msg = f"trace_level: expected {OFF} or {TIMESTAMPS}, got {', '.join(values)}"
        raise InvalidParameter(msg)
    return list(values)


def _whole(name: str, least: int) -> Callable[[Sequence[str]], list[str]]:
    def check(values: Sequence[str]) -> list[str]:
        try:
            (number,) = map(int, values)
        except ValueError:
            number = least - 1
        if not least <= number < 2**31:
            msg = f"{name}: expected one whole number from {least} to {2**31 - 1}, got {', '.join(values)}"
            raise InvalidParameter(msg)
        return [str(number)]

    return check


def _mode(values: Sequence[str]) -> list[str]:
    if list(values) != [MODE]:
        msg = f"trace_mode: expected {MODE}, the only one here, got {', '.join(values)}"
        raise InvalidParameter(msg)
    return list(values)


CHECKS: dict[str, Callable[[Sequence[str]], list[str]]] = {
    "trace_level": _level,
    "trace_rate": _whole("trace_rate", 1),
    "trace_count": _whole("trace_count", -1),
    "trace_mode": _mode,
}
"""By setting: what it may be."""


class _Scope:
    """The settings of a model, or of the server."""

    def __init__(self) -> None:
        self.values: dict[str, list[str]] = {}
        self.seen = 0


class TraceSettings:
    """Says of each call whether it is traced. Safe to use from many threads.

    Args:
        rate: One call in so many.
        level: At the start.
    """

    def __init__(self, rate: int = 1, level: str = TIMESTAMPS) -> None:
        self._start = {"trace_level": [level], "trace_rate": [str(rate)], "trace_count": ["-1"], "trace_mode": [MODE]}
        self._server = _Scope()
        self._server.values = dict(self._start)
        self._models: dict[str, _Scope] = {}
        self._lock = threading.Lock()

    def read(self, model: str = "") -> dict[str, list[str]]:
        """The settings of a model, or of the server. Of `trace_count`, what is left of it."""
        with self._lock:
            own = self._models[model].values if model in self._models else {}
            return self._server.values | own

    def update(self, model: str, given: Mapping[str, Sequence[str]]) -> None:
        """Changes the settings of a model, or of the server.

        Args:
            model: Its name; "" for the server.
            given: By setting; nothing goes back to how the server started, or for a model to the server's own.

        Raises:
            InvalidParameter: No such setting, or no such value of it. Then nothing is changed.
        """
        unknown = given.keys() - CHECKS.keys()
        if unknown:
            msg = f"trace setting {min(unknown)!r}: expected one of {', '.join(CHECKS)}"
            raise InvalidParameter(msg)
        checked = {name: CHECKS[name](values) if values else None for name, values in given.items()}
        with self._lock:
            scope = self._models.setdefault(model, _Scope()) if model else self._server
            for name, values in checked.items():
                if values is not None:
                    scope.values[name] = values
                elif model:
                    scope.values.pop(name, None)
                else:
                    scope.values[name] = self._start[name]
            if not scope.values:
                del self._models[model]

    def traced(self, model: str, *, chosen: bool = False) -> bool:
        """Whether to trace this call.

        Args:
            model: That it is about.
            chosen: Whether its client traces it: then the rate does not matter.
        """
        with self._lock:
            scope = self._models.get(model, self._server)
            values = self._server.values | scope.values
            if values["trace_level"] == [OFF]:
                return False
            turn = scope.seen % _number(values["trace_rate"]) == 0
            scope.seen += 1
            left = _number(values["trace_count"])
            if left == 0 or not (turn or chosen):
                return False
            if left > 0:
                owner = scope if "trace_count" in scope.values else self._server
                owner.values["trace_count"] = [str(left - 1)]
            return True


def _number(values: Sequence[Any]) -> int:
    return int(values[0])
