"""Frameworks are optional: which extra of the distribution brings what an export lacks."""

import importlib
import os
from typing import Any

from gradserve.errors import BackendMissing

EXTRAS = {
    "torch": "export-torch",
    "onnxscript": "export-torch",
    "safetensors": "export-torch",
    "keras": "export-keras",
    "sklearn": "export-sklearn",
    "skl2onnx": "export-sklearn",
    "skops": "export-sklearn",
}
"""By import name."""


def missing(module: str) -> str:
    """What to install for a module that could not be imported; "" for one that no extra brings."""
    root = module.partition(".")[0]
    return f'this needs {root}: pip install "gradserve-server[{EXTRAS[root]}]"' if root in EXTRAS else ""


def need(module: str) -> Any:
    """Imports a module of a framework.

    Raises:
        BackendMissing: It is not installed; the text says which extra brings it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise BackendMissing(missing(error.name or module) or str(error)) from error


def prefer_torch() -> None:
    """Lets Keras run on torch, where its models can be differentiated and written, unless the environment says otherwise.

    Keras reads the variable once, as it is imported.
    """
    os.environ.setdefault("KERAS_BACKEND", "torch")
