"""config.pbtxt of Triton's repository layout, by protobuf's own text format; gradserve's keys stand under `parameters`."""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory, text_format
from google.protobuf.message import Message

from gradserve.errors import InvalidModel, InvalidParameter
from gradserve_server.graph.contained.files import Refused, read_inside
from gradserve_server.runtime.image_descriptions import said

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


def read_images(config: Any, model: str) -> dict[str, dict[str, Any]]:
    """What it says of the pixels of each input, field by field.

    Raises:
        InvalidModel: A key or value that is not in the table of `image_descriptions`.
    """
    texts = {key: config.parameters[key].string_value for key in config.parameters}
    return said(texts, f"model '{model}': config.pbtxt: parameter")
