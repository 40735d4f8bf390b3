"""Who answers: a server, or an engine in this process. The only module of the client that knows `gradserve_server`."""

import argparse
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, Unpack

import numpy.typing as npt

from gradserve import (
    AscentSettings,
    Client,
    Diagnosis,
    GradientResult,
    ImageDescription,
    Layer,
    ModelDescription,
    Objective,
    Step,
    Treatment,
    checks,
)
from gradserve.cli import server
from gradserve.errors import BackendMissing, InvalidParameter, ServerUnavailable

Array = npt.NDArray[Any]


class Verbs(checks.Verbs, Protocol):
    """What `gradserve.Client` and `gradserve_server.Engine` both do, as far as the commands need it."""

    def infer(
        self, model: str, inputs: Mapping[str, npt.ArrayLike], *, outputs: Sequence[str] = (), version: str = ""
    ) -> dict[str, Array]:
        """Runs the model."""
        ...

    def gradient(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        objective: Objective,
        *,
        wrt: Sequence[str] = (),
        version: str = "",
    ) -> GradientResult:
        """The objective for each sample and its gradient."""
        ...

    def ascend(self, model: str, objective: Objective, **settings: Unpack[AscentSettings]) -> Iterator[Step]:
        """Changes an input step by step so that the objective grows."""
        ...

    def layers(self, model: str, *, version: str = "") -> list[Layer]:
        """The tensors that objectives can name."""
        ...

    def inspect(self, model: str, *, version: str = "") -> ModelDescription:
        """Inputs, outputs and what was done to the file."""
        ...

    def close(self) -> None:
        """Lets go, and cancels what still runs."""
        ...


@contextmanager
def open_model(arguments: argparse.Namespace) -> Iterator[tuple[Verbs, str]]:
    """Finds who serves a model.

    Args:
        arguments: Of a command: `model`, an ONNX file or a model's folder, to be run in this process, or a name on a server;
            and those of `server.add_options`. With `--server`, `model` is a name, whatever files there are.

    Yields:
        The verbs, and the name by which they know the model.

    Raises:
        GradserveError: As the verbs do; a server that does not answer is named.
    """
    described = dict(getattr(arguments, "describe", []))
    if is_local(arguments):
        with _server_package().Engine(arguments.model, images=described) as engine:
            yield engine, engine.models()[0].name
        return
    if described:
        msg = f"--describe: expected a model in this process, because a server describes its own, got '{arguments.model}'"
        raise InvalidParameter(msg)
    with connected(arguments) as client:
        yield client, arguments.model


@contextmanager
def connected(arguments: argparse.Namespace) -> Iterator[Client]:
    """The client of the server that the options name; one that does not answer is named.

    Raises:
        GradserveError: As the verbs do.
    """
    with server.connect(arguments) as client:
        try:
            yield client
        except ServerUnavailable as error:
            msg = f"no server answers at {server.address(arguments)}: {error}"
            raise ServerUnavailable(msg) from error


def save_gradient_graph(model: str, output: Path, **settings: Any) -> Any:
    """`gradserve_server.save_gradient_graph` of an ONNX file, or of the latest version in a model's folder."""
    package = _server_package()
    from gradserve_server.runtime.repository import scan

    (entry,) = scan(Path(model))
    return package.save_gradient_graph(entry.files[max(entry.files)], output, **settings)


def is_local(arguments: argparse.Namespace) -> bool:
    """Whether a command's model is a file or folder here, not a name on a server."""
    return arguments.server is None and _is_local(arguments.model)


def describe(model: str, description: Mapping[str, str]) -> ModelDescription:
    """What a file says that it takes; see `gradserve_server.doctor.describe`."""
    _server_package()
    from gradserve_server import doctor

    return doctor.describe(model, description)


def diagnose(model: str, inputs: Mapping[str, npt.ArrayLike] | None, images: Mapping[str, ImageDescription]) -> Diagnosis:
    """`gradserve_server.diagnose`."""
    with _quiet_server_package() as package:
        found: Diagnosis = package.diagnose(model, inputs, images=images)
    return found


def repair(
    model: str,
    output: Path,
    repairs: Sequence[str],
    inputs: Mapping[str, npt.ArrayLike] | None,
    description: Mapping[str, str],
) -> Treatment:
    """`gradserve_server.repair`."""
    with _quiet_server_package() as package:
        done: Treatment = package.repair(model, output, repairs, inputs=inputs, description=description)
    return done


def export_model(
    subject: str, repository: Path, *, inputs: Sequence[tuple[str, tuple[int, ...], str]], **settings: Any
) -> Any:
    """`gradserve_server.export.export_model`; an input is its name, shape and dtype."""
    _server_package()
    from gradserve_server.export import Input
    from gradserve_server.export import export_model as export

    shapes = [Input(shape, name, dtype) for name, shape, dtype in inputs]
    return export(subject, repository, inputs=shapes, **settings)


def serve(arguments: Sequence[str]) -> int:
    """`gradserve serve`, which the server package brings; returns the exit code."""
    _server_package()
    from gradserve_server.__main__ import main

    return main(arguments, prog="gradserve serve")


def _is_local(model: str) -> bool:
    path = Path(model)
    if model.endswith(".onnx") or path.is_file():
        return True
    return path.is_dir() and any(child.is_dir() and child.name.isdecimal() for child in path.iterdir())


@contextmanager
def _quiet_server_package() -> Iterator[Any]:
    """As `_server_package`, without warnings meanwhile: whoever reads findings is told all that matters."""
    package = _server_package()
    logger = logging.getLogger(package.__name__)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield package
    finally:
        logger.setLevel(before)


def _server_package() -> Any:
    try:
        import gradserve_server
    except ModuleNotFoundError as error:
        if error.name != "gradserve_server":
            raise
        msg = 'this needs gradserve-server: pip install "gradserve-server[training]"'
        raise BackendMissing(msg) from error
    return gradserve_server
