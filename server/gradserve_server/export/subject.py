"""Finds what is to be exported: a factory in a Python module, or a file that can be read without running what is in it."""

import importlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gradserve.errors import BackendMissing, InvalidParameter
from gradserve_server.export.extras import missing, prefer_torch

REFUSED = {
    **dict.fromkeys(
        (".joblib", ".pickle", ".pkl"),
        "runs whatever code is in it as it is read: save the pipeline with skops.io.dump, or give a factory, "
        "package.module:factory, that reads it",
    ),
    **dict.fromkeys(
        (".bin", ".ckpt", ".pt", ".pth", ".safetensors"),
        "has weights and not the network: give the factory that makes it, and this file as --weights",
    ),
    **dict.fromkeys((".h5", ".hdf5"), "may have code in it: save the model as .keras"),
    ".onnx": "is exported already: put it at <repository>/<model>/<version>/model.onnx",
}
"""Endings of files that are no subjects, and why."""


def suffix_of(subject: str) -> str:
    """The ending that makes a subject a file; "" for a factory.

    Raises:
        InvalidParameter: A file that is not read.
    """
    path = Path(subject)
    suffix = path.suffix.lower()
    if suffix in REFUSED:
        msg = f"subject '{subject}': expected a factory, a .keras or a .skops file; a file of this kind {REFUSED[suffix]}"
        raise InvalidParameter(msg)
    if ":" in subject:
        return ""
    if not path.is_file():
        msg = f"subject '{subject}': expected package.module:factory, or a .keras or .skops file, got neither"
        raise InvalidParameter(msg)
    return suffix


def make(subject: str, arguments: Mapping[str, Any]) -> Any:
    """Calls a factory.

    Args:
        subject: `package.module:factory`; the module is looked for in the current folder first. What is no function or class
            is taken as it is.
        arguments: For the factory.

    Raises:
        InvalidParameter: No such module or factory, arguments that do not fit, or a factory that fails.
        BackendMissing: It needs a framework that is not installed.
    """
    with _current_folder_first():
        prefer_torch()
        factory = _find(subject)
        if not inspect.isroutine(factory) and not inspect.isclass(factory):
            if arguments:
                msg = f"factory '{subject}': expected no arguments, because it is a {type(factory).__name__} already"
                raise InvalidParameter(msg)
            return factory
        _check_arguments(subject, factory, arguments)
        try:
            return factory(**arguments)
        except ModuleNotFoundError as error:
            raise _missing_module(error, subject) from error
        except (Exception, SystemExit) as error:
            msg = f"factory '{subject}': it raised {type(error).__name__}: {error}"
            raise InvalidParameter(msg) from error


@contextmanager
def _current_folder_first() -> Iterator[None]:
    """Modules are looked for there, as by `python -m`."""
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before


def _find(subject: str) -> Any:
    module, _, path = subject.partition(":")
    found = _import(module, subject)
    for part in path.split("."):
        if not hasattr(found, part):
            near = [name for name in vars(found) if not name.startswith("_") and callable(getattr(found, name))]
            known = ", ".join(near) or "none: nothing in it can be called"
            msg = f"factory '{subject}': expected one of {known}, got '{part}'"
            raise InvalidParameter(msg)
        found = getattr(found, part)
    return found


def _import(name: str, subject: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            where = f"{Path.cwd()} or an installed package"
            msg = f"factory '{subject}': expected a module in {where}, got no module '{error.name}'"
            raise InvalidParameter(msg) from error
        raise _missing_module(error, subject) from error
    except (Exception, SystemExit) as error:  # a script that ends the process must not end this one, with success
        msg = f"factory '{subject}': importing '{name}' raised {type(error).__name__}: {error}"
        raise InvalidParameter(msg) from error


def _missing_module(error: ModuleNotFoundError, subject: str) -> Exception:
    if known := missing(error.name or ""):
        return BackendMissing(f"factory '{subject}': {known}")
    return InvalidParameter(f"factory '{subject}': it needs the module '{error.name}', which is not installed")


def _check_arguments(subject: str, factory: Any, arguments: Mapping[str, Any]) -> None:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # a function without a signature says itself what it lacks
        return
    named = [p.name for p in parameters if p.kind in {p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD}]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for name in arguments:
            if name not in named:
                msg = f"factory '{subject}': argument '{name}': expected one of {', '.join(named) or 'none: it takes none'}"
                raise InvalidParameter(msg)
    lacking = [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind not in {p.VAR_KEYWORD, p.VAR_POSITIONAL} and p.name not in arguments
    ]
    if lacking:
        wanted = " ".join(f"--set {name}=VALUE" for name in lacking)
        msg = f"factory '{subject}': expected values for its arguments {', '.join(map(repr, lacking))}: {wanted}"
        raise InvalidParameter(msg)


def model_name(subject: str) -> str:
    """What a model is called by default: the factory's name, or the file's."""
    return subject.rpartition(":")[2].rpartition(".")[2] if ":" in subject else Path(subject).stem
