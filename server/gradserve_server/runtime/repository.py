"""A folder of models in Triton's layout, or a single ONNX file.

<repository>/<model>/[config.pbtxt]/<version>/model.onnx
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradserve.descriptions import ImageDescription
from gradserve.errors import InvalidModel, ModelNotFound
from gradserve_server.runtime.model_config import choose_versions, read_config, read_images, read_labels


@dataclass(frozen=True)
class Entry:
    """A model that the repository offers."""

    name: str
    files: Mapping[int, Path]
    """By version."""
    images: Mapping[str, ImageDescription] = field(default_factory=dict)
    """By input."""
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By output."""
    config: Any = None
    """The `inference.ModelConfig` that the folder has, if it has one."""


def scan(repository: Path) -> list[Entry]:
    """The models of a repository, by name.

    A file is a repository of one model, named after the file; the folder of one model, or the file inside it,
    <model>/<version>/model.onnx, is a repository of that model, with its configuration.

    As in Triton, folders whose name is no version number (or begins with 0) are passed over.

    Raises:
        ModelNotFound: There is no such folder or file, or no model in it.
        InvalidModel: A configuration that cannot be read, or a version without its file.
    """
    repository = repository.resolve()
    if repository.is_file():
        return [_read_file(repository)]
    if _is_model(repository):
        return _read(repository.absolute())
    if not repository.is_dir():
        msg = f"repository '{repository}': expected a folder of models or an ONNX file, got nothing there"
        raise ModelNotFound(msg)
    entries = [entry for folder in sorted(repository.iterdir()) if folder.is_dir() for entry in _read(folder)]
    if not entries:
        msg = f"repository '{repository}': expected <model>/<version>/model.onnx, got no model"
        raise ModelNotFound(msg)
    return entries


def _is_model(folder: Path) -> bool:
    """Whether it is the folder of one model: a version in it has a file, not versions of its own."""
    return any(file.is_file() for file in folder.glob("[1-9]*/*.onnx") if _is_version(file.parent.name))


def _read_file(file: Path) -> Entry:
    version, folder = file.absolute().parent, file.absolute().parent.parent
    if file.name == "model.onnx" and _is_version(version.name) and folder.name:
        config = read_config(folder)
        images, labels = read_images(config, folder.name), read_labels(config, folder)
        return Entry(folder.name, {int(version.name): file}, images, labels, config)
    return Entry(file.stem, {1: file})


def _read(folder: Path) -> list[Entry]:
    present = [int(child.name) for child in folder.iterdir() if child.is_dir() and _is_version(child.name)]
    if not present:
        return []
    config = read_config(folder)
    filename = config.default_model_filename or "model.onnx"
    versions = choose_versions(config, present)
    if not versions:
        msg = f"model '{folder.name}': expected a version policy that serves one of {sorted(present)}, got none served"
        raise InvalidModel(msg)
    files = {version: folder / str(version) / filename for version in versions}
    for version, path in files.items():
        if path.parent != folder / str(version) or not path.is_file():
            msg = f"model '{folder.name}' version {version}: expected a file '{filename}' in its folder, got none"
            raise InvalidModel(msg)
    return [Entry(folder.name, files, read_images(config, folder.name), read_labels(config, folder), config)]


def _is_version(name: str) -> bool:
    return name.isascii() and name.isdecimal() and not name.startswith("0")
