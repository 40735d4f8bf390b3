"""Settings as flags and as a file: one table, the same names, and errors that say where."""

import argparse
from dataclasses import dataclass, fields

import pytest

from gradserve_server.__main__ import _parser, main
from gradserve_server.config import EngineConfig, LogConfig, ServerConfig, setting
from gradserve_server.graph.derivatives import Backend
from gradserve_server.runtime.device import Device
from gradserve_server.settings import SettingsError, add_flags, from_flags, parse

CONFIGS = (EngineConfig, ServerConfig, LogConfig)


def _flags():
    return {string for action in _parser("serve")._actions for string in action.option_strings}


@pytest.mark.parametrize("field", [field for config in CONFIGS for field in fields(config)], ids=lambda field: field.name)
def test_every_field_is_a_flag(field):
    assert "--" + field.name.replace("_", "-") in _flags()


def test_names_are_unique():
    names = [field.name for config in CONFIGS for field in fields(config)]
    assert len(set(names)) == len(names)


def test_choices_are_the_enums():
    choices = {action.dest: action.choices for action in _parser("serve")._actions}
    assert set(choices["device"]) == {str(device) for device in Device}
    assert set(choices["backend"]) == {str(backend) for backend in Backend}


def test_defaults_are_those_of_the_classes_but_for_metrics_and_trials():
    options = _parser("serve").parse_args(["models"])
    assert from_flags(EngineConfig, options) == EngineConfig(trial=True)
    assert from_flags(ServerConfig, options) == ServerConfig(metrics_port=8002)
    assert from_flags(LogConfig, options) == LogConfig()


@dataclass(frozen=True)
class Sample:
    """What a test sets."""

    many: tuple[str, ...] = setting((), "may be repeated")
    flag: bool = setting(False, "on or off")
    share: float = setting(0.5, "100 % of it", unit="SHARE")
    maybe: int | None = setting(3, "or none", off=("no_maybe", "none"))
    choice: str = setting("", "without a default")


def _parse(arguments):
    parser = argparse.ArgumentParser(prog="sample")
    add_flags(parser, Sample)
    return from_flags(Sample, parse(parser, arguments))


@pytest.mark.parametrize(
    ("text", "arguments", "expected"),
    [
        ("", [], Sample()),
        ('many = ["a", "b"]\nflag = true\nshare = 1\nmaybe = 4', [], Sample(("a", "b"), True, 1.0, 4)),
        ('many = "a"', [], Sample(("a",))),
        ("no-maybe = true", [], Sample(maybe=None)),
        ("no-maybe = false", [], Sample()),
        ("flag = true", ["--no-flag"], Sample()),
        ("share = 0.25", ["--share", "0.75"], Sample(share=0.75)),
        ('choice = "--share"', [], Sample(choice="--share")),
        ("flag = false", ["--flag"], Sample(flag=True)),
    ],
)
def test_file(tmp_path, text, arguments, expected):
    file = tmp_path / "server.toml"
    file.write_text(text)
    assert _parse(["--config", str(file), *arguments]) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shares = 1", "'shares': expected one of choice, flag, many, maybe, no-flag, no-maybe, share"),
        ("flag = 1", "'flag': expected true or false, got 1"),
        ("share = true", "'share': expected a text or a number, got True"),
        ("share = [1]", r"'share': expected a text or a number, got \[1\]"),
        ("many = [[1]]", "'many': expected a text or a number"),
        ("[server]\nshare = 1", "'server': expected one of"),
        ("config = 'x'", "'config': expected one of"),
        ("share = ", "expected a TOML file, got"),
    ],
)
def test_file_that_is_wrong(tmp_path, text, message):
    file = tmp_path / "server.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=f"^--config {file}: {message}"):
        _parse(["--config", str(file)])


def test_values_are_checked_as_flags_are(tmp_path, capsys):
    file = tmp_path / "server.toml"
    file.write_text("port = -1")
    with pytest.raises(SystemExit, match="2"):
        main(["--config", str(file), "models"])
    assert "argument --port: expected a whole number of 0 or more, got '-1'" in capsys.readouterr().err


def test_file_that_is_not_there(tmp_path, capsys):
    assert main(["--config", str(tmp_path / "none"), "models"]) == 1
    assert "expected a TOML file, got" in capsys.readouterr().err
