"""A folder of models in Triton's layout, or a single ONNX file.

<repository>/<model>/[config.pbtxt]/<version>/model.onnx
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradserve.errors import InvalidModel, ModelNotFound
from gradserve_server.runtime.image_descriptions import Fields
from gradserve_server.runtime.model_config import choose_versions, empty_config, read_config, read_images, read_labels

Fingerprint = tuple[tuple[str, int, int], ...]
"""Every file of a model: its path in the model's folder, when it was written (ns), and its bytes."""


@dataclass(frozen=True)
class Entry:
    """A model that the repository offers."""

    name: str
    files: Mapping[int, Path]
    """By version."""
    images: Fields = field(default_factory=dict)
    """What its configuration says of the pixels of each input."""
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By output."""
    config: Any = None
    """The `inference.ModelConfig` that the folder has, if it has one."""
    folder: Path | None = None
    """Where what its configuration names lies; None for a file by itself."""


class Repository:
    """Where models are, as it is at each question: folders come and go.

    A file is a repository of one model, named after the file; the folder of one model, or the file inside it,
    <model>/<version>/model.onnx, is a repository of that model, with its configuration.

    As in Triton, folders whose name is no version number (or begins with 0) are passed over.

    Args:
        path: The folder or file.

    Raises:
        ModelNotFound: There is no such folder or file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        if not self.path.exists():
            msg = f"repository '{self.path}': expected a folder of models or an ONNX file, got nothing there"
            raise ModelNotFound(msg)
        self._is_one = self.path.is_file() or _is_model(self.path)

    def names(self) -> list[str]:
        """The models that it has, in order.

        Raises:
            OSError: The folder cannot be read.
        """
        return list(self._sources())

    def read(self, name: str) -> Entry:
        """What it says about a model.

        Raises:
            ModelNotFound: It has no such model.
            InvalidModel: A configuration that cannot be read, or a version without its file.
        """
        sources = self._sources()
        if name not in sources:
            known = ", ".join(map(repr, sources)) or "none: the repository is empty"
            msg = f"model '{name}': expected one in the repository ({known})"
            raise ModelNotFound(msg)
        source = sources[name]
        return _read_file(source) if source.is_file() else _read(source)

    def folder(self, name: str) -> Path | None:
        """The folder of a model that it has, if it has one."""
        source = self._sources().get(name)
        return source if source is not None and source.is_dir() else None

    def fingerprints(self) -> dict[str, Fingerprint]:
        """What tells whether a model has changed, for each.

        Raises:
            OSError: The folder cannot be read.
        """
        return {name: _fingerprint(source) for name, source in self._sources().items()}

    def _sources(self) -> dict[str, Path]:
        """The folder of each model, or the one file."""
        if self._is_one:
            return {_name_of(self.path): self.path} if self.path.exists() else {}
        children = sorted(child for child in self.path.iterdir() if child.is_dir())
        return {folder.name: folder for folder in children if _versions(folder)}


def scan(path: Path) -> list[Entry]:
    """The models of a repository, by name.

    Raises:
        ModelNotFound: There is no such folder or file, or no model in it.
        InvalidModel: As `Repository.read`.
    """
    repository = Repository(path)
    entries = [repository.read(name) for name in repository.names()]
    if not entries:
        raise no_model(repository)
    return entries


def no_model(repository: Repository) -> ModelNotFound:
    """What is wrong with a repository without models."""
    return ModelNotFound(f"repository '{repository.path}': expected <model>/<version>/model.onnx, got no model")


def entry_of(name: str, config: Any, versions: Path, folder: Path) -> Entry:
    """A model, from its configuration and its versions.

    Args:
        name: Of the model.
        config: Its `inference.ModelConfig`.
        versions: Where the folders of its versions are.
        folder: Where the other files are that the configuration names.

    Raises:
        InvalidModel: A configuration that does not fit what is there.
    """
    present = _versions(versions)
    filename = config.default_model_filename or "model.onnx"
    served = choose_versions(config, present)
    if not served:
        msg = f"model '{name}': expected a version policy that serves one of {sorted(present)}, got none served"
        raise InvalidModel(msg)
    files = {version: versions / str(version) / filename for version in served}
    for version, path in files.items():
        if path.parent != versions / str(version) or not path.is_file():
            msg = f"model '{name}' version {version}: expected a file '{filename}' in its folder, got none"
            raise InvalidModel(msg)
    return Entry(name, files, read_images(config, name), read_labels(config, folder), config, folder)


def is_version(name: str) -> bool:
    """Whether a folder of that name is a version."""
    return name.isascii() and name.isdecimal() and not name.startswith("0")


def _is_model(folder: Path) -> bool:
    """Whether it is the folder of one model: a version in it has a file, not versions of its own."""
    return any(file.is_file() for file in folder.glob("[1-9]*/*.onnx") if is_version(file.parent.name))


def _is_versions_file(file: Path) -> bool:
    return file.name == "model.onnx" and is_version(file.parent.name) and bool(file.parent.parent.name)


def _name_of(path: Path) -> str:
    if path.is_dir():
        return path.name
    return path.parent.parent.name if _is_versions_file(path) else path.stem


def _read_file(file: Path) -> Entry:
    if not _is_versions_file(file):
        return Entry(file.stem, {1: file}, config=empty_config())
    folder = file.parent.parent
    config = read_config(folder)
    images, labels = read_images(config, folder.name), read_labels(config, folder)
    return Entry(folder.name, {int(file.parent.name): file}, images, labels, config, folder)


def _read(folder: Path) -> Entry:
    return entry_of(folder.name, read_config(folder), folder, folder)


def _versions(folder: Path) -> list[int]:
    return [int(child.name) for child in folder.iterdir() if child.is_dir() and is_version(child.name)]


def _fingerprint(source: Path) -> Fingerprint:
    """Of what is there at this moment: what goes away meanwhile is not."""
    files = [("", source)] if source.is_file() else sorted(_files(source))
    found = []
    for name, path in files:
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        found.append((name, stat.st_mtime_ns, stat.st_size))
    return tuple(found)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            yield path.relative_to(folder).as_posix(), path
