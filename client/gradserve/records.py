"""What was done, in a file from which it can be done again to the same bytes: every setting, the model's hash, the values.

    record = records.make(description, runs)
    records.write("run.json", record)
    ...
    for run in records.read("run.json").check(description).runs():
        for step in client.ascend(description.name, run.objective, **run.settings):
            run.take(step)

The file is JSON. Each ascent is the `AscendRequest` of the protocol in protobuf's JSON form, so it holds all that decides
its steps; arrays (start images, targets, magnitudes, fixed inputs) are in it as base64: nothing lies beside it to be lost.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from google.protobuf import json_format

import gradserve
from gradserve.ascents import AscentSettings, Noise
from gradserve.descriptions import ModelDescription, TensorDescription
from gradserve.errors import InvalidAscent
from gradserve.objective_wire import objective_from_wire
from gradserve.optimizers import Adam
from gradserve.parameterizations import Pixels
from gradserve.runs import Run
from gradserve.v1 import gradient_service_pb2 as pb
from gradserve.wire import ascent_from_wire, ascent_to_wire

__all__ = ["FORMAT", "Record", "make", "read", "write"]

FORMAT = 1
"""Of the file. It changes only if older readers would misread a newer one."""


@dataclass(frozen=True, eq=False)
class Record:
    """The content of a file."""

    content: dict[str, Any]
    """As JSON has it."""

    @property
    def model(self) -> dict[str, Any]:
        """The model: source (what the user called it), name, version, sha256, input, image (its `ImageDescription`)."""
        return cast("dict[str, Any]", self.content["model"])

    def check(self, description: ModelDescription) -> "Record":
        """Makes sure that a model is the recorded one: its file, and how pixels become its input.

        Raises:
            InvalidAscent: It is another.
        """
        found = _model(description, self.model["input"])
        for key in ("sha256", "image"):
            if found[key] != self.model[key]:
                msg = f"record: model '{description.name}': expected {key} {self.model[key]} as recorded, got {found[key]}"
                raise InvalidAscent(msg)
        return self

    def runs(self, tensor: TensorDescription | None = None) -> list[Run]:
        """The recorded ascents, to be run again.

        Args:
            tensor: The input that they change.

        Raises:
            InvalidAscent: They cannot be read: by a newer version, or not by gradserve at all.
            InvalidObjective, InvalidTensor: The same.
        """
        runs = []
        for ascent in self.content["ascents"]:
            try:
                request = json_format.ParseDict(ascent["request"], pb.AscendRequest())
            except (json_format.ParseError, KeyError, TypeError) as error:
                msg = f"record: expected ascents that gradserve {gradserve.__version__} knows, got {error}"
                raise InvalidAscent(msg) from error
            settings, objective = ascent_from_wire(request), objective_from_wire(request.objective)
            runs.append(Run(ascent["name"], objective, tensor, settings, ascent["label"], ascent["line"]))
        return runs

    def differences(self, runs: Sequence[Run]) -> list[str]:
        """Which of the recorded ascents now ended in other images, by name."""
        recorded = {ascent["name"]: ascent["images_sha256"] for ascent in self.content["ascents"]}
        return [run.name for run in runs if recorded.get(run.name) != _digest(run)]


def make(description: ModelDescription, runs: Sequence[Run], *, source: str = "") -> Record:
    """A record of ascents that have ended.

    Args:
        description: Of the model.
        runs: With their settings, which need not say what is default: the record says it.
        source: What the user called the model, such as the path of its folder.

    Raises:
        InvalidAscent: Nothing tells which input the ascents have changed.
    """
    tensor = runs[0].tensor or description.changing_input(runs[0].settings.get("input", ""))
    return Record(
        {
            "format": FORMAT,
            "gradserve": gradserve.__version__,
            "model": {"source": source, **_model(description, tensor.name)},
            "ascents": [_ascent(description, tensor, run) for run in runs],
        }
    )


def write(path: str | Path, record: Record) -> None:
    """Writes a record."""
    text = json.dumps(record.content, indent=2, ensure_ascii=False, allow_nan=False)
    Path(path).write_text(text + "\n", encoding="utf-8")


def read(path: str | Path) -> Record:
    """Reads a record.

    Raises:
        OSError: The file cannot be read.
        InvalidAscent: It is something else.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        known = content["format"] == FORMAT and content["model"]["sha256"] and content["ascents"]
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{path}: expected a record that gradserve has written, got something else: {error}"
        raise InvalidAscent(msg) from error
    if not known:
        msg = f"{path}: expected a record of format {FORMAT} with at least one ascent, got format {content['format']!r}"
        raise InvalidAscent(msg)
    return Record(content)


def _model(description: ModelDescription, changes: str) -> dict[str, Any]:
    image = description.input(changes).image
    return {
        "name": description.name,
        "version": description.version,
        "sha256": description.sha256,
        "input": changes,
        "image": None if image is None else json.loads(json.dumps(asdict(image))),  # as it will be read: no tuples
    }


def _ascent(description: ModelDescription, tensor: TensorDescription, run: Run) -> dict[str, Any]:
    defaults: Any = {"input": tensor.name, "start": Noise(), "optimizer": Adam(), "parameterization": Pixels()}
    if tensor.image is not None:
        defaults["bounds"] = (tensor.image.low, tensor.image.high)
    settings: Any = {**defaults, **run.settings, "version": description.version}
    for name in ("resume", "checkpoint_every"):
        settings.pop(name, None)
    request = ascent_to_wire(description.name, run.objective, cast("AscentSettings", settings))
    last = run.history[-1]
    return {
        "name": run.name,
        "label": run.label,
        "line": run.line,
        "request": json_format.MessageToDict(
            request, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        ),
        "steps": last.index,
        "stop_reason": last.stop_reason and str(last.stop_reason),
        "seconds": run.ended - run.began,
        "values": _numbers(last.values),
        "gradient_norms": _numbers(last.gradient_norms),
        "values_as_picture": {ending: _numbers(values) for ending, values in run.as_picture.items()},
        "images_sha256": _digest(run),
        "history": [[step.index, *_numbers(step.values)] for step in run.history],
    }


def _numbers(values: Any) -> list[float | None]:
    """JSON has no word for what is not finite: null."""
    return [float(value) if np.isfinite(value) else None for value in values]


def _digest(run: Run) -> str:
    """Of the pixels, then of their alpha if they have any."""
    digest = hashlib.sha256()
    for array in (run.pixels, run.alpha):
        if array is not None:
            digest.update(np.ascontiguousarray(array, "<f4").tobytes())
    return digest.hexdigest()
