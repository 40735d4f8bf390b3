"""Four wheels, one import name."""

import re

import onnxruntime
import pytest

from gradserve.errors import BackendMissing
from gradserve_server.runtime.wheel import EXTRAS, choose, installed_wheel

OTHERS = {"numpy", "onnx", "onnxruntime-extensions", "pip"}


@pytest.mark.parametrize("wheel", EXTRAS)
def test_one_wheel_is_the_wheel(wheel):
    assert choose({wheel} | OTHERS) == wheel


@pytest.mark.parametrize("installed", [set(), OTHERS])
def test_none_says_which_extras_bring_one(installed):
    with pytest.raises(
        BackendMissing, match="^onnxruntime: expected one of its wheels, got none; install one of "
    ) as caught:
        choose(installed)
    assert set(re.findall(r"gradserve-server\[(\w+)\]", str(caught.value))) == set(EXTRAS.values())


@pytest.mark.parametrize(
    "present", [("onnxruntime", "onnxruntime-training"), ("onnxruntime-gpu", "onnxruntime-training"), tuple(sorted(EXTRAS))]
)
def test_more_than_one_says_what_to_uninstall(present):
    with pytest.raises(BackendMissing, match=f"got {' and '.join(present)}, .*pip uninstall {' '.join(present)}, "):
        choose(set(present) | OTHERS)


def test_this_environments_wheel():
    assert installed_wheel() in EXTRAS
    assert onnxruntime.__version__


def test_the_extras_are_those_of_the_distribution():
    from importlib.metadata import requires

    brought = dict(
        re.findall(
            r"^(onnxruntime[\w-]*).*extra == '(\w+)'", "\n".join(requires("gradserve-server") or []).replace('"', "'"), re.M
        )
    )
    assert brought == EXTRAS
