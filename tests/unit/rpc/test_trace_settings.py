"""Which calls are traced."""

import pytest

from gradserve.errors import InvalidParameter
from gradserve_server.rpc.trace_settings import CHECKS, TraceSettings

START = {"trace_level": ["TIMESTAMPS"], "trace_rate": ["1"], "trace_count": ["-1"], "trace_mode": ["opentelemetry"]}


def traced(settings, count, model="", **options):
    return [settings.traced(model, **options) for _ in range(count)]


def test_every_setting_is_read():
    assert TraceSettings().read() == START
    assert START.keys() == CHECKS.keys()


def test_one_in_so_many():
    assert traced(TraceSettings(rate=3), 7) == [True, False, False] * 2 + [True]


def test_so_many_and_no_more():
    settings = TraceSettings()
    settings.update("", {"trace_count": ["2"]})
    assert traced(settings, 2) == [True, True]
    assert settings.read()["trace_count"] == ["0"]
    assert traced(settings, 2) == [False, False]
    settings.update("", {"trace_count": []})
    assert traced(settings, 1) == [True]


def test_off():
    settings = TraceSettings()
    settings.update("", {"trace_level": ["OFF"]})
    assert traced(settings, 2) == traced(settings, 2, chosen=True) == [False, False]


def test_whom_a_client_traces_is_traced_whatever_the_rate():
    settings = TraceSettings(rate=1000)
    assert traced(settings, 3) == [True, False, False]
    assert traced(settings, 3, chosen=True) == [True, True, True]


def test_a_model_has_settings_of_its_own():
    settings = TraceSettings()
    settings.update("a", {"trace_rate": ["2"], "trace_count": ["1"]})
    assert settings.read("a") == START | {"trace_rate": ["2"], "trace_count": ["1"]}
    assert settings.read("b") == settings.read() == START
    assert traced(settings, 4, "a") == [True, False, False, False]
    assert traced(settings, 2, "b") == [True, True]


def test_what_a_model_has_not_is_the_servers():
    settings = TraceSettings()
    settings.update("a", {"trace_rate": ["2"]})
    settings.update("", {"trace_level": ["OFF"]})
    assert settings.read("a") == START | {"trace_rate": ["2"], "trace_level": ["OFF"]}
    assert traced(settings, 2, "a") == [False, False]
    settings.update("", {"trace_level": ["TIMESTAMPS"], "trace_count": ["1"]})
    assert traced(settings, 3, "a").count(True) == 1
    assert settings.read()["trace_count"] == ["0"]


def test_settings_are_cleared():
    settings = TraceSettings(rate=5)
    settings.update("", {"trace_rate": ["7"], "trace_level": ["OFF"]})
    settings.update("a", {"trace_rate": ["2"]})
    settings.update("a", {"trace_rate": []})
    assert settings.read("a") == settings.read()
    settings.update("", {"trace_rate": ["2"], "trace_level": []})
    assert [settings.traced(model) for model in ("", "a", "a", "")] == [True, False, True, False]  # counted as one again
    settings.update("", {"trace_rate": [], "trace_level": ["OFF"]})
    assert settings.read() == START | {"trace_rate": ["5"], "trace_level": ["OFF"]}


WRONG = [
    ("trace_level", ["TENSORS"], "expected OFF or TIMESTAMPS, got TENSORS"),
    ("trace_level", ["OFF", "TIMESTAMPS"], "got OFF, TIMESTAMPS"),
    ("trace_rate", ["0"], "expected one whole number from 1 to 2147483647, got 0"),
    ("trace_rate", ["x"], "got x"),
    ("trace_rate", ["1", "2"], "got 1, 2"),
    ("trace_count", ["-2"], "expected one whole number from -1 to"),
    ("trace_count", ["2147483648"], "got 2147483648"),
    ("trace_mode", ["triton"], "expected opentelemetry, the only one here, got triton"),
    ("trace_file", ["f"], "'trace_file': expected one of trace_level, trace_rate, trace_count, trace_mode"),
]


@pytest.mark.parametrize(("name", "values", "text"), WRONG)
@pytest.mark.parametrize("model", ["", "a"])
def test_refused_and_nothing_is_changed(model, name, values, text):
    settings = TraceSettings()
    with pytest.raises(InvalidParameter, match=text):
        settings.update(model, {"trace_rate": ["9"], name: values})
    assert settings.read(model) == START
