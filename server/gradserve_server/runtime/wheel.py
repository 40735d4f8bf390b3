"""Four wheels install the import name `onnxruntime`; exactly one may be present."""

from functools import cache
from importlib.metadata import distributions

from gradserve.errors import BackendMissing

EXTRAS = {"onnxruntime-training": "training", "onnxruntime": "cpu", "onnxruntime-gpu": "gpu", "onnxruntime-webgpu": "webgpu"}
"""Wheel -> the extra of gradserve-server that brings it."""


def choose(installed: set[str]) -> str:
    """The one wheel among the installed distributions.

    Raises:
        BackendMissing: None, or more than one.
    """
    present = sorted(installed & EXTRAS.keys())
    match present:
        case [wheel]:
            return wheel
        case []:
            choices = ", ".join(f"gradserve-server[{extra}]" for extra in EXTRAS.values())
            msg = f"onnxruntime: expected one of its wheels, got none; install one of {choices}"
        case _:
            msg = (
                f"onnxruntime: expected one of its wheels, got {' and '.join(present)}, which overwrite one another; "
                f"pip uninstall {' '.join(present)}, then install the one you want"
            )
    raise BackendMissing(msg)


@cache
def installed_wheel() -> str:
    """The wheel of this environment. Raises as `choose`."""
    names = {(distribution.metadata["Name"] or "").lower().replace("_", "-") for distribution in distributions()}
    return choose(names)
