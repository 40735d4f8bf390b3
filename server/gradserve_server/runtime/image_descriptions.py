"""How pixels become a model input, as the model says it: in its file, in config.pbtxt, or by who runs it.

    parameters { key: "gradserve.input.<input>.mean" value { string_value: "0.485 0.456 0.406" } }

The same keys stand under `parameters` of config.pbtxt and under `metadata_props` of the ONNX file. Key by key, config.pbtxt
goes before the file, and what `Engine` is told goes before both.

| key after `gradserve.input.<input>.` | value | default |
|---|---|---|
| `preprocessing` | caffe, tf or torch: what these say of all below but `layout` | none |
| `layout` | NCHW or NHWC | NCHW |
| `channels` | GREY, RGB or BGR | RGB |
| `range` | smallest and largest pixel value | 0 1 |
| `mean`, `std` | one number for each channel, or one for all, in pixel units | 0, 1 |
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from gradserve.descriptions import ImageDescription
from gradserve.errors import InvalidModel

PREFIX = "gradserve.input."

Fields = Mapping[str, Mapping[str, Any]]
"""Some of the fields of `ImageDescription`, by input."""

PREPROCESSING: dict[str, dict[str, Any]] = {
    "caffe": {"channels": "BGR", "high": 255.0, "mean": (103.939, 116.779, 123.68)},
    "tf": {"low": -1.0, "high": 1.0},
    "torch": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
}
"""The modes of Keras's `imagenet_utils.preprocess_input`, which are also those of the frameworks' published weights."""


def said(texts: Mapping[str, str], where: str) -> dict[str, dict[str, Any]]:
    """What some keys say.

    Args:
        texts: Values by key; keys that do not begin with `PREFIX` are somebody else's.
        where: They stand, for errors.

    Raises:
        InvalidModel: A key or value that is not in the table above.
    """
    fields: dict[str, dict[str, Any]] = {}
    for key in sorted(texts, key=_turn):
        if key.startswith(PREFIX):
            name, _, what = key.removeprefix(PREFIX).rpartition(".")
            try:
                fields.setdefault(name, {}).update(_PARSERS[what](texts[key]))
            except (KeyError, ValueError) as error:
                expected = _EXPECTED.get(what, f"one of the keys {', '.join(_PARSERS)}")
                msg = f"{where} '{key}': expected {expected}, got {texts[key]!r}"
                raise InvalidModel(msg) from error
    return fields


def joined(*sources: Fields) -> dict[str, dict[str, Any]]:
    """What several say together; the later goes before."""
    together: dict[str, dict[str, Any]] = {}
    for source in sources:
        for name, fields in source.items():
            together.setdefault(name, {}).update(fields)
    return together


def descriptions(fields: Fields) -> dict[str, ImageDescription]:
    """The image description of each input of which anything is said."""
    return {name: ImageDescription(**values) for name, values in fields.items()}


def fields_of(images: Mapping[str, ImageDescription]) -> dict[str, dict[str, Any]]:
    """Every field of some image descriptions."""
    return {name: asdict(image) for name, image in images.items()}


def image_parameters(name: str, image: ImageDescription) -> dict[str, str]:
    """The keys that say what an input's description says, with their values."""
    texts = {
        "layout": image.layout,
        "channels": image.channels,
        "range": f"{image.low!r} {image.high!r}",
        "mean": " ".join(map(repr, image.mean)),
        "std": " ".join(map(repr, image.std)),
    }
    return {f"{PREFIX}{name}.{key}": text for key, text in texts.items()}


def _turn(key: str) -> tuple[bool, str]:
    """`preprocessing` first, so that the other keys change what it says."""
    return (not key.endswith(".preprocessing"), key)


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
    "preprocessing": lambda text: PREPROCESSING[text],
    "layout": _one_of("layout", "NCHW", "NHWC"),
    "channels": _one_of("channels", "GREY", "RGB", "BGR"),
    "range": _range,
    "mean": lambda text: {"mean": _numbers(text)},
    "std": _std,
}
_EXPECTED = {
    "preprocessing": "caffe, tf or torch",
    "layout": "NCHW or NHWC",
    "channels": "GREY, RGB or BGR",
    "range": "two numbers, the smaller first",
    "mean": "numbers",
    "std": "numbers above 0",
}
