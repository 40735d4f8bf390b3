"""The settings of a server as flags of the command and as keys of its configuration file, made from the fields of `config`.

A setting has one name: the field `max_batch` is the flag `--max-batch 8` and the line `max-batch = 8` of the file, which is
TOML. A flag without a value is `name = true` there, and one that may be repeated takes a list. What the command line says
goes before what the file says.
"""

import argparse
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import Field, fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

C = TypeVar("C")

CONFIG_FLAG = "--config"


class SettingsError(Exception):
    """A configuration file that cannot be used; the text says what is wrong where."""


def add_flags(parser: argparse.ArgumentParser, *configs: type[Any]) -> None:
    """Adds a flag for each setting, in a group for each class.

    Args:
        parser: Of the command.
        configs: Dataclasses whose fields are made by `config.setting`.
    """
    for config in configs:
        group = parser.add_argument_group((config.__doc__ or "").rstrip("."))
        types = get_type_hints(config)
        for field in _settings(config):
            _add(group, field, types[field.name])


def from_flags(config: type[C], options: argparse.Namespace) -> C:
    """The configuration that parsed flags stand for."""
    given = vars(options)
    return config(**{field.name: _immutable(given[field.name]) for field in _settings(config) if field.name in given})


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parses a command line after the configuration file that it names, if it names one.

    Args:
        parser: With the flags of `add_flags`; gets `--config`.
        arguments: Of the command line.

    Raises:
        SettingsError: The file cannot be read, or has a key that is no setting.
    """
    where = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for each in (where, parser):
        each.add_argument(CONFIG_FLAG, metavar="FILE", type=Path, help="TOML file of the settings below; flags go before it")
    file = where.parse_known_args(arguments)[0].config
    return parser.parse_args([*(_arguments(file, parser) if file else ()), *arguments])


def _settings(config: type[Any]) -> list[Field[Any]]:
    return [field for field in fields(config) if "text" in field.metadata]


def _add(group: Any, field: Field[Any], kind: Any) -> None:
    """Adds the flag of one setting, and the one that turns it off."""
    flag, about = _flag(field.name), field.metadata
    default = about["served"] if about["served"] is not None else field.default
    if kind is bool:
        group.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=_help(field, None))
        return
    optional = [each for each in get_args(kind) if each is not NoneType]
    text = _help(field, default)
    if get_origin(kind) is Literal:
        group.add_argument(flag, choices=get_args(kind), default=default, help=text)
    elif get_origin(kind) is tuple:
        group.add_argument(flag, action="append", type=_PARSE[optional[0]], default=[], metavar=about["unit"], help=text)
    else:
        parse_one = _PARSE[optional[0] if optional else kind]
        group.add_argument(flag, type=parse_one, default=default, metavar=about["unit"], help=text)
    if about["off"]:
        name, text = about["off"]
        group.add_argument(_flag(name), dest=field.name, action="store_const", const=None, help=text)


def _help(field: Field[Any], default: Any) -> str:
    text: str = field.metadata["text"]
    shown = f"{default:g}" if isinstance(default, float) else default
    if "(default: " in text or shown in {None, ""}:
        return text.format(default=shown).replace("%", "%%")
    return f"{text} (default: {shown})".replace("%", "%%")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _immutable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _whole(text: str) -> int:
    if not text.isdecimal():
        msg = f"expected a whole number of 0 or more, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


_PARSE: dict[type[Any], Callable[[str], Any]] = {int: _whole, float: float, str: str, Path: Path}
"""How the value of a flag is read, by the type of its field."""


def _arguments(file: Path, parser: argparse.ArgumentParser) -> list[str]:
    """A configuration file as arguments of the command line."""
    try:
        given = tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        msg = f"{CONFIG_FLAG} {file}: expected a TOML file, got {error}"
        raise SettingsError(msg) from error
    actions = {string: action for action in parser._actions for string in action.option_strings}
    arguments = []
    for key, value in given.items():
        action = actions.get(f"--{key}")
        if action is None or key in {"help", "config"}:
            known = ", ".join(sorted(string[2:] for string in actions if string not in {"-h", "--help", CONFIG_FLAG}))
            msg = f"{CONFIG_FLAG} {file}: '{key}': expected one of {known}"
            raise SettingsError(msg)
        arguments += _argument(f"{CONFIG_FLAG} {file}: '{key}'", key, action, value)
    return arguments


def _argument(where: str, key: str, action: argparse.Action, value: Any) -> list[str]:
    """One key of a file."""
    if action.nargs == 0:
        if not isinstance(value, bool):
            msg = f"{where}: expected true or false, got {value!r}"
            raise SettingsError(msg)
        if isinstance(action, argparse.BooleanOptionalAction):
            return [f"--{key}" if value else f"--no-{key}"]
        return [f"--{key}"] if value else []
    values = value if isinstance(value, list) and action.default == [] else [value]
    if any(isinstance(each, (bool, dict, list)) for each in values):
        msg = f"{where}: expected a text or a number, got {value!r}"
        raise SettingsError(msg)
    return [f"--{key}={each}" for each in values]
