"""What is logged, and how: lines of text or of JSON, each with the request id of the call that was worked on."""

import json
import logging
import sys

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from gradserve_server.config import LogConfig
from gradserve_server.rpc.call import Call, CallWatcher, current

OURS = logging.getLogger("gradserve_server")
"""Above every logger of the server: its level is the one that can be changed while the server runs."""

_access = OURS.getChild("access")


def configure(config: LogConfig) -> None:
    """Logs to standard error, as the command does.

    What libraries log is theirs to word: from warnings on, whatever the level of our own lines.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_FORMATTERS[config.log_format])
    handler.addFilter(_add_call)
    level = logging.getLevelNamesMapping()[config.log_level.upper()]
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler])
    OURS.setLevel(level)


def format_in_use() -> str:
    """The name of the format of the first handler that has one of ours; "text" where the application logs its own way."""
    formatters = [handler.formatter for handler in logging.getLogger().handlers]
    return next((name for name, formatter in _FORMATTERS.items() if formatter in formatters), "text")


class AccessLog(CallWatcher):
    """A line for each call at its end, at level info; of probes at debug. Nothing of what is in its tensors."""

    def ended(self, call: Call) -> None:
        """Logs it."""
        level = logging.DEBUG if call.is_probe else logging.INFO
        if _access.isEnabledFor(level):
            _access.log(level, "call", extra=_fields(call))


def _fields(call: Call) -> dict[str, object]:
    return {
        "rpc": call.rpc,
        "status": call.status,
        "model": call.model,
        "version": call.version,
        "duration_ms": round(call.seconds * 1e3, 3),
        "queue_ms": round(call.waited * 1e3, 3),
        "bytes_in": call.bytes_in,
        "bytes_out": call.bytes_out,
        "peer": call.peer,
        "token": call.token,
    }


def _add_call(record: logging.LogRecord) -> bool:
    """Says which call a line belongs to."""
    call = current.get()
    if call is not None:
        record.request_id = call.request_id
        if call.span is not None:
            record.trace_id = f"{call.span.get_span_context().trace_id:032x}"
    return True


class _Text(logging.Formatter):
    """A line for people: what belongs to it stands behind it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """The line without a stack trace."""
        extra = (f" {key}={_word(value)}" for key, value in vars(record).items() if key not in _STANDARD and value != "")
        return super().formatMessage(record) + "".join(extra)


def _word(value: object) -> str:
    """A value as one word of one line, whatever a client has put into it."""
    text = str(value)
    return text if text.isprintable() and not set(text) & set(' "') else json.dumps(text)


_STANDARD = {*RESERVED_ATTRS, "message", "asctime"}

_FORMATTERS: dict[str, logging.Formatter] = {
    "text": _Text("%(asctime)s %(levelname)s %(name)s: %(message)s"),
    "json": JsonFormatter(
        "%(levelname)s %(name)s %(message)s", rename_fields={"levelname": "level", "name": "logger"}, timestamp=True
    ),
}
"""By the name of the setting."""
