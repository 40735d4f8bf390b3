"""config.pbtxt of Triton's repository layout, read by protobuf's own text format; gradserve's keys stand under `parameters`.

A model file may bring the same keys as metadata (`gradserve doctor --fix` writes them there); config.pbtxt goes before.

    parameters { key: "gradserve.input.<input>.mean" value { string_value: "0.485 0.456 0.406" } }

| key after `gradserve.input.<input>.` | value | default |
|---|---|---|
| `layout` | NCHW or NHWC | NCHW |
| `channels` | GREY, RGB or BGR | RGB |
| `range` | smallest and largest pixel value | 0 1 |
| `mean`, `std` | one number for each channel, or one for all, in pixel units | 0, 1 |
"""

import math
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory, text_format
from google.protobuf.message import Message

from gradserve.descriptions import ImageDescription
from gradserve.errors import InvalidModel, InvalidParameter
from gradserve_server.graph.contained.files import Refused, read_inside

PREFIX = "gradserve.input."
"""Of the keys that describe pictures; what follows is the input's name."""

MAX_CONFIG_BYTES = 2**20
"""Of config.pbtxt; Triton's own examples are of a few kB."""

MAX_LABEL_BYTES = 64 * 2**20
"""Of a file of labels: some millions of them."""

MAX_TEXT = 500
"""Characters of a parser's error, which may repeat the file."""


def add_descriptors(pool: descriptor_pool.DescriptorPool, package: str, name: str) -> None:
    """Puts the messages of a file that scripts/generate made into a pool.

    Args:
        pool: Never the default one: tritonclient registers the same names there in the process that imports it.
        package: Where the file is.
        name: Of the file.
    """
    for file in descriptor_pb2.FileDescriptorSet.FromString((files(package) / name).read_bytes()).file:
        pool.Add(file)


def add_model_config(pool: descriptor_pool.DescriptorPool) -> None:
    """Puts `inference.ModelConfig` and what it is made of into a pool."""
    add_descriptors(pool, "gradserve_server.runtime", "model_config.binpb")


@cache
def _message_class() -> type[Message]:
    pool = descriptor_pool.DescriptorPool()
    add_model_config(pool)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))


def empty_config() -> Any:
    """An `inference.ModelConfig` that says nothing."""
    return _message_class()()


def read_config(folder: Path) -> Any:
    """The model's `inference.ModelConfig`; empty where the folder has no config.pbtxt.

    Raises:
        InvalidModel: The text does not parse, or names another model.
    """
    path = folder / "config.pbtxt"
    config = empty_config()
    if path.exists() or path.is_symlink():
        try:
            text_format.Parse(read_inside(folder, path.name, MAX_CONFIG_BYTES).decode(), config)
        except Refused as error:
            msg = f"model '{folder.name}': config.pbtxt: expected {error.expected or 'a file in its folder'}, got {error}"
            raise InvalidModel(msg) from error
        except (text_format.ParseError, ValueError, RecursionError, OSError) as error:
            msg = f"model '{folder.name}': config.pbtxt: {str(error)[:MAX_TEXT]}"
            raise InvalidModel(msg) from error
    _check(config, folder.name, "config.pbtxt")
    return config


def config_from_json(text: str, model: str) -> Any:
    """A configuration that comes with a request instead of the folder's.

    Raises:
        InvalidParameter: The text is not a `inference.ModelConfig` in protobuf's JSON form.
        InvalidModel: It names another model, or a library of operators.
    """
    config = empty_config()
    try:
        json_format.Parse(text, config)
    except (json_format.ParseError, RecursionError, ValueError) as error:
        msg = (
            f"model '{model}': parameter 'config': expected a ModelConfig as JSON, got {str(error) or type(error).__name__}"
        )
        raise InvalidParameter(msg) from error
    _check(config, model, "parameter 'config'")
    return config


def _check(config: Any, model: str, where: str) -> None:
    if config.name not in ("", model):
        msg = f"model '{model}': {where}: expected name '{model}', got '{config.name}'"
        raise InvalidModel(msg)
    if libraries := config.model_operations.op_library_filename:
        got = f"model_operations with the library '{libraries[0]}'"
        msg = f"model '{model}': {where}: expected no custom operators, which are off, got {got}"
        raise InvalidModel(msg)


def choose_versions(config: Any, present: list[int]) -> list[int]:
    """Which of the versions in the folder are served: Triton's version policy, by default the latest one."""
    match config.version_policy.WhichOneof("policy_choice"):
        case "all":
            return sorted(present)
        case "specific":
            return sorted(set(present) & set(config.version_policy.specific.versions))
        case _:
            return sorted(present)[-(config.version_policy.latest.num_versions or 1) :]


def read_labels(config: Any, folder: Path) -> dict[str, tuple[str, ...]]:
    """The labels of each output that has a `label_filename`."""
    labels = {}
    for output in config.output:
        if output.label_filename:
            where = f"model '{folder.name}': label file '{output.label_filename}'"
            try:
                text = read_inside(folder, output.label_filename, MAX_LABEL_BYTES).decode()
            except Refused as error:
                msg = f"{where}: expected {error.expected or 'a file in its folder'}, got {error}"
                raise InvalidModel(msg) from error
            except (UnicodeDecodeError, OSError) as error:
                msg = f"{where}: expected UTF-8 text, got {error}"
                raise InvalidModel(msg) from error
            labels[output.name] = tuple(text.removesuffix("\n").split("\n")) if text else ()
    return labels


def read_images(config: Any, model: str) -> dict[str, ImageDescription]:
    """The image description of each input that has one.

    Raises:
        InvalidModel: A key or value that is not in the table above.
    """
    parameters = {key: config.parameters[key].string_value for key in config.parameters}
    return images_of(parameters, f"model '{model}': config.pbtxt: parameter")


def images_of(parameters: Mapping[str, str], where: str) -> dict[str, ImageDescription]:
    """Image descriptions as the keys of the table above say; they stand in a file's own metadata, too.

    Args:
        parameters: Other keys are passed over.
        where: They stand, for errors.

    Raises:
        InvalidModel: A key or value that is not in the table.
    """
    fields: dict[str, dict[str, Any]] = {}
    for key in sorted(parameters):
        if key.startswith(PREFIX):
            name, _, what = key.removeprefix(PREFIX).rpartition(".")
            text = parameters[key]
            try:
                fields.setdefault(name, {}).update(_PARSERS[what](text))
            except (KeyError, ValueError) as error:
                expected = _EXPECTED.get(what, f"one of the keys {', '.join(_PARSERS)}")
                msg = f"{where} '{key}': expected {expected}, got {text!r}"
                raise InvalidModel(msg) from error
    return {name: ImageDescription(**values) for name, values in fields.items()}


def image_parameters(name: str, image: ImageDescription) -> dict[str, str]:
    """What `read_images` reads an input's description from: text by key of `parameters`."""
    texts = {
        "layout": image.layout,
        "channels": image.channels,
        "range": f"{image.low!r} {image.high!r}",
        "mean": " ".join(map(repr, image.mean)),
        "std": " ".join(map(repr, image.std)),
    }
    return {f"{PREFIX}{name}.{key}": text for key, text in texts.items()}


def _numbers(text: str) -> tuple[float, ...]:
    numbers = tuple(float(word) for word in text.split())
    if not numbers or not all(map(math.isfinite, numbers)):
        raise ValueError(text)
    return numbers


def _std(text: str) -> dict[str, Any]:
    numbers = _numbers(text)
    if min(numbers) <= 0:
        raise ValueError(text)
    return {"std": numbers}


def _range(text: str) -> dict[str, Any]:
    low, high = _numbers(text)
    if not low < high:
        raise ValueError(text)
    return {"low": low, "high": high}


def _one_of(name: str, *choices: str) -> Callable[[str], dict[str, Any]]:
    def parse(text: str) -> dict[str, Any]:
        if text not in choices:
            raise ValueError(text)
        return {name: text}

    return parse


_PARSERS: dict[str, Callable[[str], dict[str, Any]]] = {
    "layout": _one_of("layout", "NCHW", "NHWC"),
    "channels": _one_of("channels", "GREY", "RGB", "BGR"),
    "range": _range,
    "mean": lambda text: {"mean": _numbers(text)},
    "std": _std,
}
_EXPECTED = {
    "layout": "NCHW or NHWC",
    "channels": "GREY, RGB or BGR",
    "range": "two numbers, the smaller first",
    "mean": "numbers",
    "std": "numbers above 0",
}
