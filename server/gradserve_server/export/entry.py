"""The repository entry: written where nobody serves it, and renamed into place when it is whole."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from gradserve.descriptions import ImageDescription, ModelDescription
from gradserve.errors import InvalidParameter
from gradserve_server.runtime.image_descriptions import image_parameters
from gradserve_server.runtime.model_config import empty_config, read_config, read_images, read_labels
from gradserve_server.runtime.repository import is_version
from gradserve_server.runtime.served_config import PLATFORM, served_config

MODEL_FILE, CONFIG_FILE, LABEL_FILE = "model.onnx", "config.pbtxt", "labels.txt"


@dataclass(frozen=True)
class Entry:
    """What a model's folder says beside the model.

    Args:
        images: By input.
        labels: By output.
        max_batch: `max_batch_size`; 0 where the batch is fixed.
    """

    images: Mapping[str, ImageDescription] = field(default_factory=dict)
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    max_batch: int = 0


def check_name(name: str) -> None:
    """Makes sure that a model can be called so.

    Raises:
        InvalidParameter: It is no name of a folder.
    """
    if not name or name.startswith(".") or "/" in name or "\\" in name or is_version(name):
        msg = f"model name '{name}': expected one that a folder can have, that does not begin with a dot and is no number"
        raise InvalidParameter(msg)


def choose_version(repository: Path, name: str, asked: int | None) -> int:
    """The version to write: the one asked for, or the one after the newest.

    Raises:
        InvalidParameter: It is there already, or the repository is a file.
    """
    if repository.exists() and not repository.is_dir():
        msg = f"repository '{repository}': expected a folder, or nothing yet, got a file"
        raise InvalidParameter(msg)
    folder = repository / name
    present = sorted(int(child.name) for child in folder.iterdir() if is_version(child.name)) if folder.is_dir() else []
    if asked is None:
        return (present or [0])[-1] + 1
    if asked in present:
        msg = f"model '{name}' version {asked}: expected a version that is not in '{folder}' yet, got one of {present}"
        raise InvalidParameter(msg)
    return asked


@contextmanager
def staged(repository: Path, name: str, version: int) -> Iterator[Path]:
    """A folder for a model that nobody serves; what is still in it at the end goes.

    It lies in the repository, so that a rename is all that is left to do. Its name begins with a dot, and no version is
    right below it, so a server that looks passes it over.

    Yields:
        The model's folder, with an empty one for the version in it.
    """
    is_new = not repository.exists()
    repository.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".export-", dir=repository))
    try:
        (folder / name / str(version)).mkdir(parents=True)
        yield folder / name
    finally:
        shutil.rmtree(folder)
        if is_new and not any(repository.iterdir()):
            repository.rmdir()


def describe(staging: Path, model: ModelDescription, entry: Entry) -> None:
    """Writes config.pbtxt and the labels.

    Args:
        staging: The model's folder.
        model: As the engine describes it.
        entry: What else there is to say.
    """
    config = empty_config()
    config.max_batch_size = entry.max_batch
    served = served_config(config, model, MODEL_FILE)
    config.name, config.platform = staging.name, PLATFORM
    config.input.extend(served.input)
    config.output.extend(served.output)
    for output in config.output:
        if output.name in entry.labels:
            output.label_filename = LABEL_FILE
            (staging / LABEL_FILE).write_text("".join(f"{label}\n" for label in entry.labels[output.name]), "utf-8")
    for name, image in sorted(entry.images.items()):
        for key, text in image_parameters(name, image).items():
            config.parameters[key].string_value = text
    (staging / CONFIG_FILE).write_text(_text(config), "utf-8")


def _text(config: Any) -> str:
    """A line for each input, output and parameter."""
    plain = type(config)()
    plain.CopyFrom(config)
    for several in ("input", "output", "parameters"):
        plain.ClearField(several)
    parts = [text_format.MessageToString(plain, as_utf8=True)]
    for kind in ("input", "output"):
        parts += [f"{kind} {{ {_line(entry)} }}\n" for entry in getattr(config, kind)]
    parts += [
        f'parameters {{ key: "{key}" value {{ {_line(config.parameters[key])} }} }}\n' for key in sorted(config.parameters)
    ]
    return "".join(parts)


def _line(message: Any) -> str:
    return text_format.MessageToString(message, as_utf8=True, as_one_line=True, use_short_repeated_primitives=True).strip()


def publish(staging: Path, repository: Path, version: int) -> Path:
    """Moves what was written to where it is served from.

    A model that is there keeps its config.pbtxt and labels: people add to them.

    Returns:
        The file.

    Raises:
        InvalidParameter: A config.pbtxt that describes another model is there, or meanwhile the version is.
    """
    folder = repository / staging.name
    if not folder.exists():
        staging.rename(folder)
        return folder / str(version) / MODEL_FILE
    check_agreement(staging, folder)
    if (folder / str(version)).exists():
        msg = f"model '{folder.name}' version {version}: expected a version that is not there yet; another process wrote it"
        raise InvalidParameter(msg)
    for file in (LABEL_FILE, CONFIG_FILE):
        if (staging / file).exists() and not (folder / file).exists() and not (folder / CONFIG_FILE).exists():
            (staging / file).rename(folder / file)
    (staging / str(version)).rename(folder / str(version))
    return folder / str(version) / MODEL_FILE


def check_agreement(staging: Path, folder: Path) -> None:
    """Makes sure that a model's config.pbtxt is right for another version, too.

    Raises:
        InvalidParameter: It says something else of inputs, outputs, images or labels.
        InvalidModel: It cannot be read.
    """
    if not (folder / CONFIG_FILE).exists():
        return
    ours, theirs = (_described(one) for one in (staging, folder))
    for what, said in ours.items():
        if said != theirs[what]:
            msg = (
                f"model '{folder.name}': {CONFIG_FILE}: {what}: expected {said}, as the version to be written has it, "
                f"got {theirs[what]}: export under another --name, or change it first"
            )
            raise InvalidParameter(msg)


def _described(folder: Path) -> dict[str, Any]:
    config = read_config(folder)
    return {
        "max_batch_size": config.max_batch_size and "more than 0",
        "inputs": _tensors(config.input),
        "outputs": _tensors(config.output),
        "images": read_images(config, folder.name),
        "labels": read_labels(config, folder),
    }


def _tensors(entries: Any) -> list[str]:
    return sorted(f"{entry.name} type {entry.data_type} {list(entry.dims)}" for entry in entries)
